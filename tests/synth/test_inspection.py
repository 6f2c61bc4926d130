"""What ``embedllm synth --inspect`` says of a pair file, on the terminal and as a page."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from embedllm.cli import main
from embedllm.data.embedded_files import embedded_data_path
from embedllm.errors import InputError
from embedllm.synth.draft import Draft
from embedllm.synth.inspection import histogram, inspect_pairs
from embedllm.synth.page import page
from embedllm.synth.pair_file import write_pairs
from embedllm.synth.summary import summary

TASK = "embedded:wordnet_definitions"
DEFINITION = embedded_data_path("wordnet_definitions").read_text().splitlines()[1].rpartition(",")[0]
PAIRS = [
    ("The river floods the valley in spring.", "Every spring the valley is flooded.", "paraphrase"),
    ("The river floods the valley in spring!", "every spring the valley is flooded", "paraphrase"),
    ("<b>Bold</b> & brave & long enough", "The same <script>alert(1)</script> in other words", "paraphrase"),
    (DEFINITION, "A positive of a definition", "title"),
    ("Nobody knows the answer", "Nobody knows the answer", "title"),
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    drafts = [
        Draft(row, 0, anchor, positive, generator="llm", style=style).scored(similarity=row / 10)
        for row, (anchor, positive, style) in enumerate(PAIRS)
    ]
    gone = [Draft(9, 0, "An anchor", "Sorry, I cannot.", style="title", reason="refusal")] * 7
    path = tmp_path / "pairs.parquet"
    write_pairs(path, [*drafts, *gone], 0, {"settings": {"generator": {"name": "llm"}}})
    return path


def test_counts_repeats_and_overlaps_are_right(pairs: Path) -> None:
    found = inspect_pairs(str(pairs), [TASK])
    assert (found.pairs, found.styles) == (5, {"paraphrase": 3, "title": 2})
    assert dict(found.duplicates) == {
        "positive is the anchor": 1,
        "pair is there already": 1,
        "pair is nearly there already": 1,
        "anchor has several pairs": 1,
        "positive has several pairs": 1,
    }
    assert found.overlaps == {TASK: 1}
    assert found.notes["removed"] == {"refusal": 7}
    assert len(found.notes["examples"]["refusal"]) == 5
    assert [h.title for h in found.histograms][-1] == "score: similarity"
    assert all(sum(h.counts) == 5 for h in found.histograms)


def test_any_file_of_pairs_can_be_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("anchor,positive,negatives\na b,c d,e f\n")
    found = inspect_pairs(str(file), [])
    assert (found.pairs, found.notes, found.overlaps) == (1, {}, {})
    assert summary(found)
    assert "not: e f</p>" in page(found)


def test_half_a_character_does_not_stop_an_inspection(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"anchor": "a \\ud83d", "positive": "b"}\n')
    assert "a \ufffd" in page(inspect_pairs(str(file), []))


def test_scores_of_a_file_without_types_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("anchor,positive,score_similarity\na b,c d,0.5\ne f,g h,\ni j,k l,1\n")
    found = inspect_pairs(str(file), [])
    assert sum(found.histograms[-1].counts) == 2
    assert "similarity 0.50" in page(found)


def test_a_column_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"anchor": "a", "positive": "b"}\n{"anchor": "a", "positive": 7}\n')
    with pytest.raises(InputError, match=r"^--inspect: row 2 of .* has '7' as positive, which is not text"):
        inspect_pairs(str(file), [])


def test_a_histogram_puts_each_value_into_its_bin() -> None:
    found = histogram("x", [0, 0.1, 0.25, 0.99, 1, 7, -3], 0, 1, bins=4)
    assert list(found.counts) == [3, 1, 0, 3]
    assert list(found.edges) == [0, 0.25, 0.5, 0.75, 1]
    assert found.median == 0.25


class Page(HTMLParser):
    """Collects what a page fetches, its tags, and whether they are closed."""

    VOID = ("meta", "rect", "line")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.VOID or self.open.pop() == tag


def test_the_page_is_whole_fetches_nothing_and_runs_nothing(pairs: Path) -> None:
    text = page(inspect_pairs(str(pairs), [TASK]))
    parser = Page()
    parser.feed(text)
    assert parser.open == []
    assert parser.fetched == []
    assert "script" not in parser.tags
    assert "http" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "prefers-color-scheme: dark" in text
    assert "Sorry, I cannot." in text


def test_the_command_prints_and_writes_the_page(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", "--inspect", str(pairs), "-o", str(tmp_path / "out.html")]) == 0
    printed = capsys.readouterr().out
    assert "pairs.parquet: 5 pairs" in printed
    assert "refusal         7" in printed
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    assert main(["synth", "--inspect", str(pairs), "-o", "out.png"]) == 2
    assert main(["synth", "--inspect", str(pairs), "seed=1"]) == 2


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("anchor,other\na,b\n")
    with pytest.raises(InputError, match=r"^--inspect: no column 'positive' in .*; it has anchor, other"):
        inspect_pairs(str(file), [])
