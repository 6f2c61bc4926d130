"""Positives that a language model on this machine writes."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from embedllm.errors import InputError
from embedllm.synth.draft import Draft, Generator, Item, Rows
from embedllm.synth.styles import STYLES, check_styles, drawn_style

if TYPE_CHECKING:  # settings are checked without torch
    from embedllm.synth.chat import Frame
    from embedllm.synth.decoding import Decoding
    from embedllm.synth.reading import Request

log = logging.getLogger(__name__)

_LONGEST_RATIO = 2.5  # of styles that say nothing else
_SPARE = 16  # tokens that every answer may have


@dataclass
class Llm(Generator):
    """Answers of a chat model or a base decoder to a style drawn for each row; several copies get different styles.

    An answer may have as many tokens as its style allows for the text, and ``max_new_tokens`` at most; one that is cut
    there is marked. A text of more than ``max_text_tokens`` has the reason ``text_too_long``: an answer to a part of it
    would be no positive of the whole.

    Args:
        model: ``embedded:NAME``, a folder, a GGUF file or a Hub id.
        styles: drawn from with equal weight.
        chat: auto | true | false: ask as in a chat; auto: where the tokenizer has a chat template or ChatML's marks.
        system: the system message; None: what the template says.
        example: whether a chat begins with an example that has been answered; a base decoder always gets one.
        temperature: 0 takes the likeliest token each time.
        top_k: tokens that are drawn from.
        top_p: least probability of those that are drawn from, the likeliest first.
        max_new_tokens: of an answer.
        max_text_tokens: of the text.
        dtype: as ``model.dtype``, but auto is bfloat16 on a CPU that multiplies it (AVX512-BF16) too.
        batch_rows: rows of one batch; None: 64 on a CPU, 512 on an accelerator.
        batch_tokens: tokens of one batch, prompts and answers; None: 32,768 on a CPU, 262,144 on an accelerator.
    """

    model: str = "embedded:smollm2_135m"
    styles: Sequence[str] = ("paraphrase", "simplify", "summary")
    chat: bool | str = "auto"
    system: str | None = None
    example: bool = True
    temperature: float = 0.7
    top_k: int = 50
    top_p: float = 0.9
    max_new_tokens: int = 96
    max_text_tokens: int = 512
    dtype: str = "auto"
    batch_rows: int | None = None
    batch_tokens: int | None = None
    name: str = "llm"
    _tokenizer: Any = field(default=None, init=False, repr=False)
    _decoding: "Decoding | None" = field(default=None, init=False, repr=False)
    _frames: "dict[str, Frame]" = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.styles = check_styles(self.styles)
        check_sampling(self.temperature, self.top_p)
        self.check_counts("top_k", "max_new_tokens", "max_text_tokens", "batch_rows", "batch_tokens")
        if self.chat not in ("auto", True, False):
            raise InputError(f"generator.chat: {self.chat!r} is not one of: auto, true, false")

    @property
    def writes(self) -> bool:
        """All of them."""
        return True

    def prepare(self, rows: Rows) -> None:
        """Load the model."""
        if self._decoding is not None:
            return
        from embedllm.synth.chat import base_frame, chat_frame, chat_template, line_ends
        from embedllm.synth.decoding import Decoding
        from embedllm.synth.language_model import load_language_model, stop_tokens
        from embedllm.synth.sampling import Sampling

        model, self._tokenizer = load_language_model(self.model, self.dtype)
        template = None if self.chat is False else chat_template(self._tokenizer)
        if template is None and self.chat is True:
            raise InputError(f"generator.chat: true, but the tokenizer of {self.model!r} has no chat template")
        stop = set(stop_tokens(model, self._tokenizer))
        for style in self.styles:
            if template is None:
                self._frames[style] = base_frame(self._tokenizer, style)
            else:
                self._frames[style] = chat_frame(self._tokenizer, style, template, self.system, self.example)
        if template is None:
            stop |= set(line_ends(self._tokenizer))
        on_cpu = model.device.type == "cpu"
        self._decoding = Decoding(
            model,
            sorted(stop),
            Sampling(self.temperature, self.top_k, self.top_p),
            batch_rows=self.batch_rows or (64 if on_cpu else 512),
            batch_tokens=self.batch_tokens or (32_768 if on_cpu else 262_144),
        )

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return the drafts; all rows of a call are written together."""
        if self._decoding is None:
            raise RuntimeError("prepare() comes before generate()")
        styles = [drawn_style(item, self.styles) for item in items]
        prompted = [self._frames[style].lead + item.text for item, style in zip(items, styles, strict=True)]
        texts = self._tokenizer(prompted, add_special_tokens=False).input_ids
        asked = [i for i, ids in enumerate(texts) if len(ids) <= self.max_text_tokens]
        answers = self._decoding.write([self._request(items[i], styles[i], texts[i]) for i in asked])
        written = self._tokenizer.batch_decode([answer.ids for answer in answers], skip_special_tokens=True)
        found = dict(zip(asked, zip(written, answers, strict=True), strict=True))
        drafts = []
        for i, (item, style) in enumerate(zip(items, styles, strict=True)):
            text, answer = found.get(i, ("", None))
            drafts.append(
                Draft(
                    item.row,
                    item.copy,
                    item.text,
                    text.strip(),
                    generator=self.name,
                    style=style,
                    written=True,
                    truncated=answer is not None and not answer.finished,
                    reason="text_too_long" if answer is None else "",
                )
            )
        return drafts

    def _request(self, item: Item, style: str, text: Sequence[int]) -> "Request":
        from embedllm.synth.reading import Request

        frame = self._frames[style]
        longest = (STYLES[style].length or (0, _LONGEST_RATIO))[1]
        most = min(self.max_new_tokens, _SPARE + math.ceil(longest * len(text)))
        return Request(frame.prefix, (*text, *frame.suffix), most, item.rng(f"{self.name} tokens"))


def check_sampling(temperature: float, top_p: float) -> None:
    """Raise for a temperature below 0 or a ``top_p`` that leaves no token."""
    if temperature < 0:
        raise InputError(f"generator.temperature: {temperature} is below 0")
    if not 0 < top_p <= 1:
        raise InputError(f"generator.top_p: {top_p} is not above 0 and at most 1")
