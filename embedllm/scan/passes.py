"""Many poolings and layers of one model and prompt at the price of one forward pass.

Legend: N texts, B texts of a batch, L tokens, D hidden size, W width of the vectors of all variants together.

Under causal attention a token does not see those after it. So the states of a text's prompt are there in the pass of
the same prompt with an EOS token behind it, and heads that want one share a pass with heads that do not, except for
texts that are cut one token earlier for it, and for empty ones. Those get a pass of their own.
"""

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from embedllm.blueprint import Blueprint
from embedllm.embedder import Embedder
from embedllm.kernels.shared_prefix import Prefix
from embedllm.pooling import PoolingHead
from embedllm.scan.layer_states import Depth, LayerStates
from embedllm.scan.variants import check_plans
from embedllm.scan.vector_key import depth_of

Vectors = npt.NDArray[np.float32]


class Scan:
    """Compute the vectors of several embedders that share model and prompt.

    Args:
        embedder: has the model's weights; as deep as the deepest of ``plans``, with the final norm if one wants it.
        plans: the embedders, as of :func:`embedllm.scan.variants.draw_up_variants`.

    Raises:
        ValueError: see :func:`embedllm.scan.variants.check_plans`.
        InputError: likewise.
    """

    def __init__(self, embedder: Embedder, plans: Sequence[Blueprint]) -> None:
        check_plans(plans, embedder.spec)
        self.device = embedder.device
        self.widths = [plan.head.output_size for plan in plans]
        eos = [i for i, plan in enumerate(plans) if plan.head.appends_eos]
        plain = [i for i, plan in enumerate(plans) if not plan.head.appends_eos]
        self.rides = bool(eos and plain) and embedder.spec.attention == "causal"
        groups = [eos + plain if self.rides else eos, plain]
        self.passes = [(group, _OnePass(embedder, [plans[i] for i in group])) for group in groups if group]

    def encode(self, texts: Sequence[str], *, batch_tokens: int | None = None) -> list[Vectors]:
        """Return the vectors of ``texts``, (N, output_size) float32 for each plan, not normalised.

        Args:
            texts: N strings.
            batch_tokens: see :meth:`embedllm.embedder.Embedder.encode`.
        """
        found = [np.empty((len(texts), width), dtype=np.float32) for width in self.widths]
        rows = list(range(len(texts)))
        for number, (group, one_pass) in enumerate(self.passes):
            if number == 1 and self.rides:
                rows = self._unlike(texts)
            vectors = one_pass.encode([texts[row] for row in rows], batch_tokens=batch_tokens)
            ends = np.cumsum([self.widths[i] for i in group])
            for i, columns in zip(group, np.split(vectors, ends[:-1], axis=1), strict=True):
                found[i][rows] = columns
        return found

    def _unlike(self, texts: Sequence[str]) -> list[int]:
        """Return the indices of the texts whose tokens are not those of the pass with EOS less its last ones."""
        (_, shared), (_, alone) = self.passes
        dropped = shared.prompt.suffix_tokens - alone.prompt.suffix_tokens
        pairs = zip(shared.tokenize(texts), alone.tokenize(texts), strict=True)
        return [i for i, (long, short) in enumerate(pairs) if long[: len(long) - dropped] != short]


class _OnePass(Embedder):
    """An embedder whose vector of a text is those of several plans side by side, (B, W).

    Args:
        embedder: has the backbone.
        plans: the prompt is that of the first. A prompt with fewer tokens after the text is that of a head that does
            not see the last ones.
    """

    def __init__(self, embedder: Embedder, plans: Sequence[Blueprint]) -> None:
        prompt = plans[0].prompt
        super().__init__(embedder.backbone, prompt, _Keeper(embedder.head.hidden_size), embedder.spec, {})
        self.training = embedder.training  # what encode() gives back
        self.given = _Given()
        self.readers = nn.ModuleList(_reader(self.given, plan) for plan in plans).to(embedder.device)
        self.dropped = [prompt.suffix_tokens - plan.prompt.suffix_tokens for plan in plans]
        self.depths = [Depth(depth_of(plan.spec), plan.spec.final_norm) for plan in plans]
        self.before: dict[Depth, Tensor] = {}
        self.states = LayerStates(embedder.backbone, embedder.spec.final_norm, self.depths)

    @property
    def output_size(self) -> int:
        """Width of the vectors of all plans together, W."""
        return sum(reader.output_size for reader in self._readers())

    def read_prefix(self, ids: Sequence[int]) -> Prefix:
        """Return the states of the tokens that texts begin with, and keep those that the plans pool."""
        with self.states.handed_to(self.before.__setitem__):
            return super().read_prefix(ids)

    def packs_texts(self) -> bool:
        """Return False: what the plans pool is recorded in rows of texts."""
        return False

    def forward(self, input_ids: Tensor, lengths: Tensor, prefix: Prefix | None = None) -> Tensor:
        """Return the vectors of right-padded texts, (B, W) float32; the arguments are those of an embedder."""
        vectors: dict[int, Tensor] = {}

        def pool(depth: Depth, hidden: Tensor) -> None:
            if prefix is not None and depth != self.states.own:
                hidden = torch.cat([self.before[depth].expand(len(hidden), -1, -1), hidden], dim=1)
            self.given.hidden = hidden
            for i, reader in enumerate(self._readers()):
                if self.depths[i] == depth:
                    vectors[i] = reader(input_ids, lengths - self.dropped[i])
            self.given.hidden = None

        with self.states.handed_to(pool):
            pool(self.states.own, super().forward(input_ids, lengths, prefix))
        return torch.cat([vectors[i] for i in range(len(self.readers))], dim=-1)

    def _readers(self) -> list[Embedder]:
        return [reader for reader in self.readers if isinstance(reader, Embedder)]


class _Keeper(PoolingHead):
    """Hands on the hidden states as they are."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, normalize=False)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return ``hidden``."""
        return hidden


class _Given(nn.Module):
    """Stands where an embedder has its backbone, and gives it hidden states that are known."""

    hidden: Tensor | None = None

    def forward(self, **_: Any) -> SimpleNamespace:
        """Return them as a backbone does."""
        return SimpleNamespace(last_hidden_state=self.hidden)


def _reader(given: _Given, plan: Blueprint) -> Embedder:
    """Return the embedder of ``plan`` on given states; its vectors are not normalised."""
    head = copy.deepcopy(plan.head)
    head.normalize = False
    return Embedder(given, plan.prompt, head, plan.spec, plan.head_config).eval()
