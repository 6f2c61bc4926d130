"""Build the data files inside the package: WordNet definitions and Wikipedia sentences.

Run it from anywhere: ``python experiments/embedded_data/build.py`` writes ``embedllm/data/embedded/``; with ``--check``
it rebuilds in a temporary folder and compares the SHA-256 of every file.
"""

import argparse
import csv
import hashlib
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from sampling import fingerprint
from wikipedia_pages import Page, read_articles, read_dump
from wikipedia_sentences import sample_sentences
from wordnet_definitions import find_noun_file, read_definitions, read_licence, sample_definitions

TARGET = Path(__file__).resolve().parents[2] / "embedllm" / "data" / "embedded"
SEED = 0
DEFINITIONS_PER_CLASS = 80
SENTENCES_PER_PAGE = 36


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file in UTF-8 with Unix line ends."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def build(folder: Path, noun_file: Path, pages: list[Page]) -> list[str]:
    """Write every built file into the folder and return their names."""
    definitions = sample_definitions(noun_file, DEFINITIONS_PER_CLASS, SEED)
    excluded = {fingerprint(text) for text, _ in read_definitions(noun_file)}
    sentences = sample_sentences(pages, SENTENCES_PER_PAGE, SEED, excluded)
    quoted = {title for title, _ in sentences}
    sources = [(p.title, p.page_id, p.revision_id, p.timestamp) for p in pages if p.title in quoted]
    tables: dict[str, tuple[Sequence[str], Sequence[Sequence[object]]]] = {
        "wordnet_definitions.csv": (("text", "label"), definitions),
        "wikipedia_sentences.csv": (("title", "anchor"), sentences),
        "wikipedia_pages.csv": (("title", "page_id", "revision_id", "timestamp"), sources),
    }
    for name, (columns, rows) in tables.items():
        write_rows(folder / name, columns, rows)
        print(f"{name}: {len(rows)} rows, {(folder / name).stat().st_size} bytes")
    (folder / "WORDNET_LICENSE.txt").write_text(read_licence(noun_file), encoding="utf-8")
    return [*tables, "WORDNET_LICENSE.txt"]


def check(noun_file: Path, pages: list[Page]) -> bool:
    """Rebuild into a temporary folder and tell whether every file equals the one in the package."""
    same = True
    with tempfile.TemporaryDirectory() as folder:
        for name in build(Path(folder), noun_file, pages):
            old, new = _sha256(TARGET / name), _sha256(Path(folder) / name)
            print(f"{'ok     ' if old == new else 'DIFFERS'} {name} {new}")
            same &= old == new
    return same


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def main() -> int:
    """Build or check; return the exit code (1: a file differs)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wordnet", type=Path, default="/usr/share/wordnet", metavar="DIR", help="folder of data.noun")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="a gensim wheel (else pip downloads it)")
    parser.add_argument("--check", action="store_true", help="compare with the files in the package; write nothing")
    args = parser.parse_args()
    noun_file = find_noun_file(args.wordnet)
    pages = list(read_articles(read_dump(args.wheel)))
    if args.check:
        return 0 if check(noun_file, pages) else 1
    TARGET.mkdir(parents=True, exist_ok=True)
    build(TARGET, noun_file, pages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
