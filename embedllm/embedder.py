"""The embedder: tokenizer, backbone and pooling head as one module; the only definition of "text to vector".

Legend: B texts, L tokens of the longest of them, D hidden size. Training, scoring, ``encode`` and the export all go
through :class:`Embedder`; nothing else tokenizes or pools.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from embedllm.adapter import AdapterSpec, attach_adapter
from embedllm.backbone import load_config
from embedllm.batches import length_sorted, packed
from embedllm.blueprint import Blueprint, Head, draw_up
from embedllm.centring import Centring, reference_texts
from embedllm.decoder import blocks, has_own_dropout
from embedllm.errors import InputError
from embedllm.kernels.packing import packs, read_packed
from embedllm.kernels.row_dropout import keyed_again
from embedllm.kernels.shared_prefix import SHORTEST, Prefix, read_after, read_prefix, shares_prefix
from embedllm.kernels.short_attention import short_attention
from embedllm.model_spec import ModelSpec, check_attention, load_model
from embedllm.pooling import MeanPooling, PoolingHead
from embedllm.prompt import SLOT, Prompt
from embedllm.storage import MANIFEST, Parts, build_head, describe_head, find_saved, load_parts, save_parts
from embedllm.tokenization import token_ids

__all__ = [
    "MANIFEST",
    "Embedder",
    "ModelSpec",
    "TokenBatch",
    "build_head",
    "describe_head",
    "find_saved",
]


class TokenBatch(NamedTuple):
    """Right-padded token ids."""

    input_ids: Tensor
    """(B, L) int64."""
    lengths: Tensor
    """(B,) int64, tokens of each text."""


class Embedder(nn.Module):
    """Turn texts into vectors.

    Args:
        backbone: a decoder without its LM head, with or without an adapter.
        prompt: the tokenizer with the template in it.
        head: the pooling head.
        spec: how ``backbone`` was loaded; saved so that :meth:`load` can do it again.
        head_config: ``_target_`` and arguments of ``head``; saved likewise.
        adapter: which weights of ``backbone`` are trained; these are saved.
        centring: what is subtracted from pooled vectors before they are normalised; None: nothing.
    """

    def __init__(
        self,
        backbone: nn.Module,
        prompt: Prompt,
        head: PoolingHead,
        spec: ModelSpec,
        head_config: dict[str, Any],
        adapter: AdapterSpec | None = None,
        centring: Centring | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.prompt = prompt
        self.head = head
        self.spec = spec
        self.head_config = head_config
        self.adapter = adapter or AdapterSpec()
        self.centring = centring
        self._shares_prefix: bool | None = None  # not known yet
        self._packs: bool | None = None
        self._takes_whole_texts = False

    @classmethod
    def from_pretrained(
        cls,
        spec: ModelSpec | str,
        *,
        template: str = SLOT,
        bos: bool | str = "auto",
        head: Head = MeanPooling,
        adapter: AdapterSpec | None = None,
        seed: int = 0,
    ) -> Self:
        """Build an embedder from a decoder; everything that can be wrong is checked before its weights load.

        Args:
            spec: the backbone; a bare name stands for ``ModelSpec(name)``.
            template: text with one ``{text}`` slot.
            bos: whether the prompt starts with BOS; ``"auto"`` does what the tokenizer does by itself.
            head: called with the hidden size: a head class, or a :func:`functools.partial` of one.
            adapter: which weights of the backbone are trainable, the others being frozen; None: they are left as
                loaded, and :meth:`save` keeps none of them.
            seed: decides the initial weights of the adapter.

        Raises:
            InputError: naming the setting that is wrong.
        """
        return cls.from_blueprint(draw_up(spec, template=template, bos=bos, head=head, adapter=adapter), seed=seed)

    @classmethod
    def from_blueprint(cls, parts: Blueprint, *, seed: int = 0) -> Self:
        """Load the weights of the backbone and put the other parts on it."""
        backbone: nn.Module = load_model(parts.spec, parts.adapter)
        if parts.adapter is not None:
            backbone = attach_adapter(backbone, parts.adapter, seed=seed)
            check_attention(backbone, parts.spec)
        return cls(backbone, parts.prompt, parts.head, parts.spec, parts.head_config, parts.adapter).eval()

    @property
    def output_size(self) -> int:
        """Width of the vector of a text."""
        return self.head.output_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast(torch.device, self.backbone.device)

    def to_accelerator(self) -> Self:
        """Move the weights to the accelerator of this machine, if it has one."""
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return self.to(accelerator if accelerator is not None else "cpu")

    def checkpoint_gradients(self) -> None:
        """Keep only the input of each block for the backward pass, which computes the rest again: memory for time.

        Raises:
            InputError: the model's family has no blocks that can.
        """
        options = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), keyed_again())}
        backbone: Any = self.backbone
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of the new name
                backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        except ValueError as error:
            raise InputError(
                f"trainer.gradient_checkpointing: {self.spec.name!r} has no blocks that can be computed again; leave "
                "the setting out"
            ) from error
        self._takes_whole_texts = True
        backbone.disable_input_require_grads()  # or the backward pass would go on below the lowest trained block

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Compile the blocks in place, once for all lengths and numbers of texts; names of weights stay as they are.

        Raises:
            InputError: nothing can be compiled on this machine.
        """
        try:
            torch.compile(torch.sin, backend=backend)(torch.ones(2, device=self.device))
        except Exception as error:  # what is missing decides which
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"trainer.compile: torch cannot compile on this machine ({reason}); leave the setting out"
            ) from error
        self._takes_whole_texts = True
        for block in blocks(cast(PreTrainedModel, self.backbone)):
            block.compile(dynamic=True, backend=backend)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text in its prompt; a text without any token becomes one EOS."""
        tokenizer = self.prompt.tokenizer
        stand_in = tokenizer.pad_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        return [row or [stand_in] for row in token_ids(self.prompt, texts)]

    def collate(self, rows: Sequence[Sequence[int]]) -> TokenBatch:
        """Pad ``rows`` of token ids on the right, on the device of the weights."""
        lengths = torch.tensor([len(row) for row in rows])
        input_ids = torch.full((len(rows), int(lengths.max())), self.prompt.tokenizer.pad_token_id)
        for i, row in enumerate(rows):
            input_ids[i, : len(row)] = torch.tensor(row)
        return TokenBatch(input_ids.to(self.device), lengths.to(self.device))

    def common_tokens(self, rows: Sequence[Sequence[int]]) -> int:
        """Return how many tokens at the start of all ``rows`` have the same states in each.

        They are those of the prompt before the text if the attention is causal, or none if they are few.
        """
        common = self.prompt.prefix_tokens - (self.prompt.suffix_tokens == 0)  # something is left of an empty text
        if common < SHORTEST or self.spec.attention != "causal" or len(rows) < 2:
            return 0
        prefix = list(rows[0][:common])
        return common if all(list(row[:common]) == prefix for row in rows) else 0

    def shared_tokens(self, rows: Sequence[Sequence[int]]) -> int:
        """Return how many of the :meth:`common_tokens` are to be read once, by :meth:`read_prefix`: all or none.

        None if the backbone cannot go on after them, and on an accelerator, whose attention is fast without the mask
        that this takes.
        """
        common = 0 if self.device.type != "cpu" or self._takes_whole_texts else self.common_tokens(rows)
        if common and self._shares_prefix is None:
            self._shares_prefix = shares_prefix(self.backbone, rows[0][:common])
        return common if self._shares_prefix else 0

    def read_prefix(self, ids: Sequence[int]) -> Prefix:
        """Return the states of the tokens that texts begin with."""
        return read_prefix(self.backbone, ids)

    def packs_texts(self) -> bool:
        """Return whether :meth:`embed` reads texts one after another in one row.

        Not on an accelerator, nor if their states would not be those of texts alone.
        """
        if self.device.type != "cpu" or self._takes_whole_texts or self.spec.attention != "causal":
            return False
        if self._packs is None:
            self._packs = packs(self.backbone, short_attention(self.backbone))
        return self._packs and not (self.training and has_own_dropout(self.backbone))

    def is_shared_by_threads(self) -> bool:
        """Return whether several threads may compute vectors at once, and get what one alone would."""
        return self.device.type == "cpu" and not self._takes_whole_texts and not has_own_dropout(self.backbone)

    def batches(self, rows: Sequence[Sequence[int]], tokens: int, shared: int) -> Iterator[list[int]]:
        """Cut the indices of ``rows``, longest first, into batches for :meth:`embed`.

        Args:
            rows: token ids of texts.
            tokens: of a batch at most, padding included; a longer text is one of its own.
            shared: how many at the start of each text do not count.
        """
        return (packed if self.packs_texts() else length_sorted)(rows, tokens, shared)

    def embed(self, rows: Sequence[Sequence[int]], prefix: Prefix | None = None) -> Tensor:
        """Return the vectors of tokenized texts, (B, output_size), inside :func:`short_attention` on a CPU.

        Args:
            rows: token ids of B texts, longest first.
            prefix: the states of what all the texts begin with, if they are known.

        Raises:
            InputError: the head returned another shape.
        """
        if self.packs_texts():
            hidden = read_packed(self.backbone, rows, prefix)
            vectors = self._vectors(hidden, torch.tensor([len(row) for row in rows]))
        else:
            vectors = cast(Tensor, self(*self.collate(rows), prefix))
        asked = (len(rows), self.output_size)
        if vectors.shape != asked:
            raise InputError(
                f"pooling._target_: {type(self.head).__name__} returned vectors of shape {tuple(vectors.shape)} for "
                f"{len(rows)} texts; a head returns (texts, output_size), here {asked}"
            )
        return vectors

    def forward(self, input_ids: Tensor, lengths: Tensor, prefix: Prefix | None = None) -> Tensor:
        """Return the vectors of right-padded texts.

        Args:
            input_ids: (B, L) token ids.
            lengths: (B,) tokens of each text.
            prefix: the states of what all the texts begin with, if they are known.

        Returns:
            (B, output_size) float32, of unit length if the head normalizes.
        """
        if prefix is not None:
            hidden = read_after(self.backbone, prefix, input_ids)  # (B, L, D)
        else:
            # A causal backbone never looks right, where the padding is: no mask is exact, and the fast path.
            real = torch.arange(input_ids.size(1), device=input_ids.device) < lengths.unsqueeze(1)  # (B, L)
            mask = None if self.spec.attention == "causal" else real
            hidden = self.backbone(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
        return self._vectors(hidden, lengths)

    def _vectors(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Return the vectors of texts with these hidden states, (B, L, D)."""
        vectors = self.head(hidden, self.pooled_tokens(lengths, hidden.size(1)))
        if self.centring is not None:
            vectors = self.centring(vectors)
        return normalize(vectors, dim=-1) if self.head.normalize else vectors

    def pooled_tokens(self, lengths: Tensor, width: int) -> Tensor:
        """Return which of L = ``width`` tokens the head sees, (B, L) bool: those that its ``pool_over`` names.

        All tokens of a text where these are none.
        """
        positions = torch.arange(width, device=lengths.device)  # (L,)
        real = positions < lengths.unsqueeze(1)  # (B, L)
        if self.head.pool_over == "all":
            return real
        suffix = positions >= (lengths - self.prompt.suffix_tokens).unsqueeze(1)  # (B, L), padding included
        if self.head.pool_over == "suffix":
            return suffix & real
        text = real & ~suffix & (positions >= self.prompt.prefix_tokens)
        return torch.where(text.any(dim=1, keepdim=True), text, real)

    def encode(self, texts: Sequence[str], *, batch_tokens: int | None = None, progress: bool = False) -> np.ndarray:
        """Return the vectors of ``texts`` in their order, (N, output_size) float32.

        Texts are sorted by length and cut into batches of about ``batch_tokens`` tokens, padding included; equal texts
        are encoded once. Neither changes a vector.

        Args:
            texts: N strings.
            batch_tokens: tokens of one forward pass; None: 512 on a CPU, 65,536 on an accelerator.
            progress: show a bar with tokens per second and the time left.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts, not one string")
        unique = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        rows = self.tokenize(list(unique))
        vectors = np.empty((len(rows), self.output_size), dtype=np.float32)
        with tqdm(total=sum(map(len, rows)), unit="tok", unit_scale=True, desc="encode", disable=not progress) as bar:
            for batch, found in self.encode_rows(rows, batch_tokens=batch_tokens):
                vectors[batch] = found
                bar.update(sum(len(rows[i]) for i in batch))
        return vectors[[unique[text] for text in texts]]

    @torch.inference_mode()
    def encode_rows(
        self, rows: Sequence[Sequence[int]], *, batch_tokens: int | None = None
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield the vectors of tokenized texts a batch at a time, longest texts first.

        Args:
            rows: what :meth:`tokenize` returns.
            batch_tokens: as for :meth:`encode`.

        Yields:
            The B indices into ``rows`` of a batch, and its vectors, (B, output_size) float32.
        """
        budget = batch_tokens or (512 if self.device.type == "cpu" else 65_536)
        was_training = self.training
        self.eval()
        try:
            shared = self.shared_tokens(rows)
            prefix = self.read_prefix(rows[0][:shared]) if shared else None
            for batch in self.batches(rows, budget, shared):
                with short_attention(self.backbone):
                    vectors = self.embed([rows[i] for i in batch], prefix)
                yield batch, vectors.cpu().numpy()
        finally:
            self.train(was_training)

    def centre(self) -> None:
        """Subtract from now on the mean vector of :func:`embedllm.centring.reference_texts` under these weights."""
        self.centring = None
        normalizes, self.head.normalize = self.head.normalize, False
        try:
            self.centring = Centring.of(self.encode(reference_texts())).to(self.device)
        finally:
            self.head.normalize = normalizes

    def save(self, folder: str | Path) -> None:
        """Write tokenizer, head, trained weights and a manifest into ``folder``; the base is saved by reference."""
        parts = Parts(self.backbone, self.prompt, self.head, self.spec, self.head_config, self.adapter, self.centring)
        save_parts(parts, Path(folder))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a finished run's folder, a folder written by :meth:`save`, or a bare decoder by its name.

        A bare decoder (a folder, a GGUF file, a Hub id, ``embedded:NAME``) gets no prompt and mean pooling, and reads
        512 tokens or as many as it has positions for.
        """
        folder = find_saved(path)
        if folder is not None:
            return cls(*load_parts(folder)).eval()
        spec = ModelSpec(str(path))
        positions = getattr(load_config(spec.name).get_text_config(decoder=True), "max_position_embeddings", None)
        return cls.from_pretrained(replace(spec, max_length=min(spec.max_length, positions or spec.max_length)))
