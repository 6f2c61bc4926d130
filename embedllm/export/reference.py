"""Texts that hurt, and the vectors that a model is to have for them: what an exported folder is compared with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedllm.embedder import Embedder
from embedllm.errors import InputError
from embedllm.export.layout import read_json, write_json

REFERENCE = "embedllm_reference.json"
DIGITS = 6

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """A text, written short."""

    text: str
    times: int = 1
    """How often ``text`` is repeated."""

    @property
    def whole(self) -> str:
        """The text itself."""
        return self.text * self.times


SAMPLES = (
    Sample(""),
    Sample(" \n\t"),
    Sample("x"),
    Sample("!"),
    Sample("a man is driving a car"),
    Sample("It ends here."),
    Sample('"quoted", and then some'),
    Sample("he said: 'no'"),
    Sample("(in brackets)"),
    Sample("...!?"),
    Sample("  white space around\r\n "),
    Sample("tabs\tand\nlines\r\nand \u00a0 wide \u3000 spaces"),
    Sample("1234567 and 3.14"),
    Sample("naïve café, re\u0301sume\u0301"),
    Sample("北京大学的学生在图书馆读书。"),
    Sample("🚗🚙 👩‍👩‍👧‍👦 🇫🇷"),
    Sample("</s><s><pad><eos><bos><|endoftext|><|im_end|><|eot_id|> is text"),
    Sample("the meaning of a sentence is in its words ", 12),
    Sample("word ", 20_000),
)
"""Empty, short, long, of several scripts, with quotation marks and white space at the borders."""


@dataclass(frozen=True)
class Reference:
    """What a model gives for each of N samples."""

    samples: tuple[Sample, ...]
    ids: list[list[int]]
    """Token ids."""
    vectors: Vectors
    """(N, D)"""
    dtype: str
    """Of the exported weights."""
    notes: tuple[str, ...] = ()
    """What a user of the folder should know."""

    @property
    def texts(self) -> list[str]:
        """The N texts."""
        return [sample.whole for sample in self.samples]


def make_reference(embedder: Embedder, dtype: str, notes: tuple[str, ...] = ()) -> Reference:
    """Encode the samples that have a token; the model's own control tokens are in one of them.

    Args:
        embedder: in float32.
        dtype: of the exported weights, which decides how close their vectors must be.
        notes: kept with the vectors.
    """
    tokenizer = embedder.prompt.tokenizer
    samples = (*SAMPLES, Sample(" ".join(["control", *tokenizer.all_special_tokens, "tokens"])))
    rows = tokenizer([sample.whole for sample in samples], truncation=True).input_ids
    kept = tuple(sample for sample, ids in zip(samples, rows, strict=True) if ids)
    vectors = embedder.encode([sample.whole for sample in kept])
    return Reference(kept, [ids for ids in rows if ids], vectors, dtype, notes)


def write_reference(reference: Reference, folder: Path) -> None:
    """Write ``reference`` into ``folder``, its vectors rounded."""
    rows = zip(reference.samples, reference.ids, reference.vectors.tolist(), strict=True)
    samples = [{**asdict(sample), "ids": ids, "vector": _rounded(vector)} for sample, ids, vector in rows]
    content = {"dtype": reference.dtype, "notes": list(reference.notes), "samples": samples}
    write_json(folder / REFERENCE, content)


def read_reference(folder: Path) -> Reference:
    """Read what :func:`write_reference` wrote.

    Raises:
        InputError: there is none, so ``folder`` is no export.
    """
    path = folder / REFERENCE
    if not path.is_file():
        raise InputError(f"DIR: {str(folder)!r} has no {REFERENCE}, so it is not a folder that `embedllm export` wrote")
    try:
        content = read_json(path)
        rows: list[dict[str, Any]] = content["samples"]
        return Reference(
            samples=tuple(Sample(row["text"], row["times"]) for row in rows),
            ids=[row["ids"] for row in rows],
            vectors=np.array([row["vector"] for row in rows], dtype=np.float32),
            dtype=content["dtype"],
            notes=tuple(content["notes"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"DIR: {REFERENCE} in {str(folder)!r} is damaged; export again") from error


def _rounded(vector: Sequence[float]) -> list[float]:
    return [round(value, DIGITS) for value in vector]
