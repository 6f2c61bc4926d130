"""What one text's vector is made of, at one stage of a run."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedllm.analysis.attribution import gradient_x_input, left_out, mean_direction
from embedllm.analysis.pooled_rows import Rows, check_layer, head_name, implementation, pooled_rows
from embedllm.analysis.stages import Source, opened
from embedllm.analysis.tokens import KINDS, Tokens, describe
from embedllm.embedder import Embedder
from embedllm.errors import InputError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TextStage:
    """A text of n tokens at one stage."""

    label: str
    tokens: Tokens
    rows: Rows
    """The attention of the pooled position."""
    left_out: Floats
    """(n,) cosine distances; NaN where nothing is left to pool."""
    gradient: Floats
    """(n,) parts in the distance from the mean of other texts."""
    head: str
    """Name of the pooling head."""
    fast: str
    """Name of the attention that vectors are computed with elsewhere."""

    def layer(self, number: int) -> Floats:
        """Return the attention in a layer, (H, n)."""
        found: Floats = self.rows.weights[self.rows.layers.index(number)]
        return found

    @property
    def pooled_position(self) -> str:
        """What the vector is made of, in words."""
        pooled, count = self.rows.pooled, int((self.rows.pooled > 0).sum())
        if pooled.max() > 1 - 1e-6:
            place = int(pooled.argmax())
            return f"token {place + 1} of {len(pooled)}, {self.tokens.pieces[place]!r}"
        return f"the average over {count} of {len(pooled)} tokens, as {self.head} weighs their states"


def analyse_text(sources: Sequence[Source], text: str, layer: int | None = None) -> Iterator[TextStage]:
    """Yield the stages, each with its own model, which is let go before the next.

    Args:
        sources: the stages.
        text: of at least one token.
        layer: that the models must have; None: any.

    Raises:
        InputError: a stage reads the text as other tokens than the first one, or has no such layer.
    """
    first: TextStage | None = None
    for source in sources:
        with opened(source) as embedder:
            check_layer(embedder, layer)
            stage = _stage(source.label, embedder, text)
        first = first or stage
        if stage.tokens != first.tokens:
            raise InputError(
                f"--compare: {source.path!r} reads the text as other tokens than {sources[0].path!r}; compare runs of "
                "one prompt, or a --corpus"
            )
        yield stage


def text_csv(stages: Sequence[TextStage]) -> str:
    """Return everything that was found as csv: one number a row, positions and layers from 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stage", "measure", "layer", "head", "position", "token", "kind", "value"])
    for stage in stages:
        for measure, layer, head, values in _measures(stage):
            for position, value in enumerate(values):
                token, kind = stage.tokens.pieces[position], stage.tokens.kinds[position]
                number = "" if np.isnan(value) else f"{value:.6g}"
                writer.writerow([stage.label, measure, layer, head, position + 1, token, kind, number])
    return text.getvalue()


def by_kind(values: Floats, kinds: Sequence[str]) -> Floats:
    """Return the sums of values, (..., n), over the tokens of each kind, (..., K), as shares of the whole.

    NaN counts as nothing; without anything all shares are zero.
    """
    values = np.nan_to_num(values)
    sums = np.stack([values[..., np.array(kinds) == kind].sum(axis=-1) for kind in KINDS], axis=-1)
    whole = sums.sum(axis=-1, keepdims=True)
    shares: Floats = np.divide(sums, whole, out=np.zeros_like(sums), where=whole > 0)
    return shares


def _stage(label: str, embedder: Embedder, text: str) -> TextStage:
    (tokens,) = describe(embedder, [text])
    ((_, rows),) = pooled_rows(embedder, [tokens.ids])
    return TextStage(
        label,
        tokens,
        rows,
        left_out(embedder, tokens.ids, progress=True),
        gradient_x_input(embedder, tokens.ids, mean_direction(embedder)),
        head_name(embedder),
        implementation(embedder),
    )


def _measures(stage: TextStage) -> Iterator[tuple[str, str, str, Floats]]:
    yield "pooled", "", "", stage.rows.pooled
    for layer, heads in zip(stage.rows.layers, stage.rows.weights, strict=True):
        yield "attention", str(layer), "mean", heads.mean(axis=0)
        for head, values in enumerate(heads, start=1):
            yield "attention", str(layer), str(head), values
    yield "left_out", "", "", stage.left_out
    yield "gradient_x_input", "", "", stage.gradient
