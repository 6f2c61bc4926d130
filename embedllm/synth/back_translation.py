"""Positives that are translated into another language and back (Sennrich et al., 2016), with MarianMT models."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedllm.batches import length_sorted
from embedllm.errors import InputError
from embedllm.synth.draft import Draft, Generator, Item, Rows


@dataclass
class BackTranslation(Generator):
    """Translate with one model and back with another, by beam search: the same text gives the same positive.

    Args:
        forward: model into the other language: a folder or a Hub id.
        backward: model back.
        beams: of each search.
        max_tokens: of a text; longer ones have the reason ``text_too_long``.
        max_new_tokens: of a translation.
        dtype: as ``model.dtype``.
        batch_tokens: tokens of one batch of texts.
    """

    forward: str = "Helsinki-NLP/opus-mt-en-de"
    backward: str = "Helsinki-NLP/opus-mt-de-en"
    beams: int = 4
    max_tokens: int = 256
    max_new_tokens: int = 384
    dtype: str = "auto"
    batch_tokens: int = 2_048
    name: str = "back_translation"
    _models: list[tuple[Any, Any]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self.check_counts("beams", "max_tokens", "max_new_tokens", "batch_tokens")

    @property
    def writes(self) -> bool:
        """All of them."""
        return True

    def prepare(self, rows: Rows) -> None:
        """Load both models."""
        if not self._models:
            settings = (("generator.forward", self.forward), ("generator.backward", self.backward))
            for setting, name in settings:  # both are looked for before the first is loaded
                find_translator(setting, name)
            self._models = [load_translator(setting, name, self.dtype) for setting, name in settings]

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return the drafts; one whose translation was cut on the way is marked."""
        texts = [item.text for item in items]
        cut = [False] * len(texts)
        first, _ = self._models[0]
        long = [len(ids) > self.max_tokens for ids in first(texts).input_ids]
        asked = [i for i, too_long in enumerate(long) if not too_long]
        for model in self._models if asked else ():  # a tokenizer fails on no text
            answers = self._translated([texts[i] for i in asked], *model)
            for i, (text, finished) in zip(asked, answers, strict=True):
                texts[i] = text
                cut[i] |= not finished
        return [
            Draft(
                item.row,
                item.copy,
                item.text,
                "" if long[i] else texts[i],
                generator=self.name,
                style="back_translation",
                written=True,
                truncated=cut[i],
                reason="text_too_long" if long[i] else "",
            )
            for i, item in enumerate(items)
        ]

    def _translated(self, texts: Sequence[str], tokenizer: Any, model: Any) -> list[tuple[str, bool]]:
        """Return each text in the other language, and whether the search came to an end."""
        import torch

        positions = model.config.max_position_embeddings
        whole = tokenizer(list(texts)).input_ids
        rows = [ids[:positions] for ids in whole]
        found: dict[int, tuple[str, bool]] = {}
        for batch in length_sorted(rows, self.batch_tokens):
            padded = tokenizer.pad({"input_ids": [rows[i] for i in batch]}, return_tensors="pt").to(model.device)
            most = min(self.max_new_tokens, positions - 1)
            with torch.inference_mode():
                written = model.generate(**padded, num_beams=self.beams, do_sample=False, max_new_tokens=most)
            decoded = tokenizer.batch_decode(written, skip_special_tokens=True)
            ended = (written == model.config.eos_token_id).any(dim=1).tolist()
            found |= dict(zip(batch, zip(decoded, ended, strict=True), strict=True))
        return [(found[i][0], found[i][1] and len(whole[i]) <= positions) for i in range(len(texts))]


def find_translator(setting: str, name: str) -> dict[str, Any]:
    """Return how a translation model is loaded: from disk where it is there, else from the Hub.

    Raises:
        InputError: it is neither.
    """
    from huggingface_hub import try_to_load_from_cache

    from embedllm.eval.hub_access import hub_is_reachable

    if Path(name).expanduser().is_dir() or isinstance(try_to_load_from_cache(name, "config.json"), str):
        return {"local_files_only": True}
    if not hub_is_reachable():
        raise InputError(
            f"{setting}: no MarianMT model in a folder {name!r} or fetched from the Hub before, and the Hub cannot be "
            "reached; put one on disk and give its folder"
        )
    return {}


def load_translator(setting: str, name: str, dtype: str) -> tuple[Any, Any]:
    """Return tokenizer and model of a translation, on the accelerator if there is one.

    Raises:
        InputError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from embedllm.backbone import resolve_dtype
    from embedllm.model_source import reason
    from embedllm.quiet import quiet_transformers

    options = find_translator(setting, name)
    source = str(Path(name).expanduser())
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            model = AutoModelForSeq2SeqLM.from_pretrained(source, dtype=resolve_dtype(dtype), **options)
        except (OSError, ValueError, ImportError) as error:
            raise InputError(
                f"{setting}: {name!r} cannot be loaded as a translation model ({reason(error)})"
            ) from error
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return tokenizer, (model if accelerator is None else model.to(accelerator)).eval()
