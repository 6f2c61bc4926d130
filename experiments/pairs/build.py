"""Write the six pair files of the study: ``python experiments/pairs/build.py FOLDER``.

Noise, dropout and the language model start from the same short Wikipedia sentences and go through ``embedllm synth``;
NLI and ASSET are pairs that people wrote, one for each source sentence. A run that is stopped goes on where it was.
"""

import argparse
import gzip
import os
import sys
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from embedllm.cli import main as embedllm
from embedllm.data.pairs import read_pairs

PAIRS = 640
MADE = {
    "noise": ["generator=word_noise", f"rows={PAIRS}"],
    "dropout": ["generator=dropout", f"rows={PAIRS}"],
    "llm_raw": ["generator=llm", "gates=none", f"rows={PAIRS}"],
    "llm_gated": ["generator=llm", f"rows={2 * PAIRS}"],
}
"""Settings by kind; the gates leave more than a half."""
LONGEST = 20
"""Words of a sentence; those of SNLI and ASSET are as short."""
WRITTEN = {"nli": "pairs_snli_entail.csv", "asset": "pairs_asset.csv"}


def main() -> int:
    """Write the files that are not there yet, and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    data = Path(os.environ["EMBEDLLM_DATA"])
    folder.mkdir(parents=True, exist_ok=True)
    sentences = folder / "sentences.txt"
    sentences.write_text("".join(short_sentences(data / "wiki_sentences.txt.gz", 2 * PAIRS)), encoding="utf-8")
    for kind, settings in MADE.items():
        code = embedllm(["synth", str(sentences), "-o", str(folder / f"{kind}.parquet"), *settings])
        if code:
            return code
    for kind, file in WRITTEN.items():
        parquet.write_table(first_of_each(data / file), folder / f"{kind}.parquet")
    for path in sorted(folder.glob("*.parquet")):
        count = parquet.read_metadata(path).num_rows
        print(f"{path}: {count:,} pairs{'' if count >= PAIRS else f', which are fewer than {PAIRS}'}")
    return 0


def short_sentences(path: Path, count: int) -> list[str]:
    """Return the first lines of at most LONGEST words."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line for line in file if len(line.split()) <= LONGEST][:count]


def first_of_each(path: Path) -> pa.Table:
    """Return the first pair of each of the first source sentences of a file."""
    seen: dict[str, str] = {}
    for pair in read_pairs(str(path), anchor="text", positive="text_aug").pairs:
        seen.setdefault(pair.anchor, pair.positive)
    kept = list(seen.items())[:PAIRS]
    return pa.table({"anchor": [anchor for anchor, _ in kept], "positive": [positive for _, positive in kept]})


if __name__ == "__main__":
    sys.exit(main())
