"""Write the mixtures of the study: ``python experiments/data/build.py FOLDER``.

FOLDER holds the files of ``experiments/pairs/build.py``. A mixture has 640 pairs, as many of each kind, by turns.
"""

import argparse
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from embedllm.data.pairs import read_pairs

PAIRS = 640
MIXTURES = {
    "mixed_wikipedia_llm": ["embedded:wikipedia_pairs", "llm_gated.parquet"],
    "mixed_wikipedia_nli": ["embedded:wikipedia_pairs", "nli.parquet"],
    "mixed_llm_nli": ["llm_gated.parquet", "nli.parquet"],
    "mixed_four": ["embedded:wikipedia_pairs", "llm_gated.parquet", "nli.parquet", "asset.parquet"],
}


def main() -> None:
    """Write a file for each mixture, and print its kinds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for name, kinds in MIXTURES.items():
        sources = [kind if kind.startswith("embedded:") else str(folder / kind) for kind in kinds]
        parquet.write_table(mixture(sources), folder / f"{name}.parquet")
        print(f"{folder / name}.parquet: {PAIRS} pairs, {PAIRS // len(kinds)} of each of {', '.join(kinds)}")


def mixture(sources: list[str]) -> pa.Table:
    """Return the first pairs of the sources by turns."""
    read = [read_pairs(source, max_pairs=PAIRS // len(sources)).pairs for source in sources]
    pairs = [pair for turn in zip(*read, strict=True) for pair in turn]
    return pa.table({"anchor": [pair.anchor for pair in pairs], "positive": [pair.positive for pair in pairs]})


if __name__ == "__main__":
    main()
