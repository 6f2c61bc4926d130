"""``embedllm report``: its files, from whole and from damaged studies."""

import csv
import io
import itertools
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_studies import make_run

from embedllm.cli import main
from embedllm.report.page.svg import linear, logarithmic, spread_out
from embedllm.runs import RunFolder

EVIL = """<script>alert("x")</script><img src=x onerror='alert(1)'> & | _ \\ % {text}"""


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def written(study: Path, folder: Path | None = None) -> Path:
    assert main(["report", str(study), *(["-o", str(folder)] if folder else [])]) == 0
    return folder or study / "report"


def test_it_writes_a_page_a_text_raw_numbers_and_a_table(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(study)
    names = ["report.html", "report.md", "results.csv", "table.tex"]
    assert sorted(path.name for path in folder.iterdir()) == names
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-4:] == [str(folder / name) for name in names]
    assert printed.err == ""
    before = {name: (folder / name).read_bytes() for name in names}
    written(study)
    assert before == {name: (folder / name).read_bytes() for name in names}


def test_the_csv_has_the_scores_of_every_run(study: Path, tmp_path: Path) -> None:
    RunFolder(study / "eos-none-00000000").create()
    (study / "eos-none-00000000" / "error.txt").write_text("RuntimeError: no, memory\n")
    rows = list(csv.DictReader(io.StringIO((written(study, tmp_path / "out") / "results.csv").read_text())))
    assert [row["run"] for row in rows[:-1]] == sorted(p.name for p in study.iterdir() if p.name[0] != "e")
    assert (rows[-1]["state"], rows[-1]["reason"], rows[-1]["mean"]) == ("failed", "RuntimeError: no, memory", "")
    for row in rows[:-1]:
        result = json.loads((study / row["run"] / "result.json").read_text())
        assert float(row["animals"]) == pytest.approx(result["tasks"]["animals"]["main_score"], abs=1e-4)
        assert float(row["Twenty before"]) == pytest.approx(result["tasks"]["Twenty"]["before"], abs=1e-4)
        assert row["seed"] == str(result["config"]["seed"])
        assert row["prompt"] == result["choices"]["prompt"]


def test_the_text_has_means_spreads_and_the_best_with_its_interval(study: Path, tmp_path: Path) -> None:
    lines = (written(study, tmp_path / "out") / "report.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == ["pooling", "prompt", "animals", "Twenty", "mean", "behind the best", "runs"]
    assert rows[2][:2] == ["last", "cluster"]
    assert re.fullmatch(r"\*\*[\d.]+ ± [\d.]+\*\*", rows[2][4])
    assert rows[2][5] == "best"
    assert re.fullmatch(r"-[\d.]+ \(-[\d.]+ to [+-][\d.]+\)", rows[-1][5])
    assert {row[-1] for row in rows[2:]} == {"2"}
    assert any(line.startswith("Best mean: ") for line in lines)


def test_the_page_fetches_nothing_and_shows_every_figure(kept: Path) -> None:
    text = (written(kept) / "report.html").read_text()
    page = Page(text)
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    assert not re.search(r"url\(|@import|https?://", text)
    assert page.count("script") == page.count("style") == 1
    titles = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert titles == [
        "Heat map of prompt and pooling",
        "Mean score before and after the training",
        "Mean score against training time in seconds",
        "Development scores along the training",
        "Effect of prompt",
        "Effect of pooling",
        "animals, before the training",
        "animals, after the training",
    ]
    assert page.count("tr") == 2 + 4 + 8
    assert "nan" not in re.sub(r"<title>.*?</title>", "", text).lower().split()


def test_no_text_of_a_study_becomes_markup(tmp_path: Path) -> None:
    study = tmp_path / "<b>study"
    for prompt, seed in itertools.product((EVIL, "none"), range(2)):
        make_run(study, "mean", prompt, seed, {EVIL.replace("/", ""): 40.0 + seed}, eval__tasks=[EVIL.replace("/", "")])
    fail = RunFolder(study / "<i>-none-00000000")
    fail.create()
    fail.error.write_text(f"Traceback\n{EVIL}\n")
    folder = written(study, tmp_path / "out")
    page = Page((folder / "report.html").read_text())
    assert page.count("script") == 1
    assert page.count("img") == 0
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert any(EVIL in words for words in page.words)
    assert "<script" not in (folder / "report.md").read_text().replace("\\<", "")
    (row,) = [line for line in (folder / "report.md").read_text().splitlines() if line.startswith("| \\<script")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert r"\textless{}script\textgreater{}" in (folder / "table.tex").read_text()


def test_text_that_tables_would_read_as_their_own_stays_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for prompt in ("[1cm] {text}\n\n| &lt; ~x $a$", "*{text}"):
        make_run(tmp_path / "s", "mean", prompt)
    folder = written(tmp_path / "s")
    assert len(capsys.readouterr().out.splitlines()) == 2 + 4
    rows = [line for line in (folder / "table.tex").read_text().splitlines() if r"\{text\}" in line]
    assert sorted(row.partition(" & ")[0] for row in rows) == [
        r"{*}\{text\}",
        r"{[}1cm] \{text\} \textbar{} \&lt; \textasciitilde{}x \$a\$",
    ]
    assert r"\| \&lt; \~x \$a\$ |" in (folder / "report.md").read_text()


def test_the_command_that_wrote_a_page_is_quoted_for_a_shell(tmp_path: Path) -> None:
    make_run(tmp_path / "my [x] study")
    words = Page((written(tmp_path / "my [x] study") / "report.html").read_text()).words
    assert f"embedllm report '{tmp_path / 'my [x] study'}'" in words


def test_a_study_without_a_training_has_no_slopes(tmp_path: Path) -> None:
    for pooling, prompt in itertools.product(("mean", "last"), ("none", "cluster")):
        make_run(tmp_path / "s", pooling, prompt, trainer__max_steps=0)
    text = (written(tmp_path / "s") / "report.html").read_text()
    assert "Heat map of" in text
    for lacking in ("before and after the training", "against training time", "Development scores"):
        assert lacking not in text


def test_a_slope_is_of_runs_that_have_both_scores(tmp_path: Path) -> None:
    made = {"eval__tasks": ["animals.csv"]}
    make_run(tmp_path / "s", "mean", scores={"animals": 40.0}, before=20.0, **made)
    path = make_run(tmp_path / "s", "mean", seed=1, scores={"animals": 60.0}, before=58.5, **made).result
    result = json.loads(path.read_text())
    result["tasks"]["animals"]["before"] = None
    path.write_text(json.dumps(result))
    assert "19.5 to 40.0 (+20.5)" in (written(tmp_path / "s") / "report.html").read_text()


@pytest.mark.parametrize("tasks", [{}, {"animals": None}, {"animals": 50.0}])
def test_a_single_run_has_a_report(tmp_path: Path, tasks: dict[str, float | None]) -> None:
    make_run(tmp_path / "s", scores=tasks, eval__tasks=[f"{task}.csv" for task in tasks])
    text = (written(tmp_path / "s") / "report.md").read_text()
    assert "1 done; 1 setting, 1 seed each." in text
    assert ("incomplete" in text) == (tasks == {"animals": None})


def test_a_mean_that_lacks_a_task_is_called_incomplete(study: Path) -> None:
    for run in study.glob("mean-none-*"):
        result = json.loads((run / "result.json").read_text())
        result["tasks"]["animals"] = {"error": "HubError: away"}
        (run / "result.json").write_text(json.dumps(result))
    folder = written(study)
    (row,) = [line for line in (folder / "report.md").read_text().splitlines() if line.startswith("| mean | none")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (cells[2], cells[4], cells[5]) == ("incomplete", "incomplete", "-")


def test_a_study_that_only_failed_has_a_report_of_its_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "s" / "mean-none-00000000")
    folder.create()
    folder.error.write_text("Traceback\nOSError: the disk is full\n")
    text = (written(tmp_path / "s") / "report.html").read_text()
    assert "OSError: the disk is full" in text
    assert capsys.readouterr().err == f"{tmp_path / 's'}: 1 run failed: mean-none-00000000\n"


def test_a_name_that_is_no_text_stops_no_report(study: Path) -> None:
    failed = study / os.fsdecode(b"mean-\xff-00000000")
    failed.mkdir()
    (failed / "error.txt").write_text("OSError: the disk is full")
    assert r"mean-\udcff-00000000: failed" in (written(study) / "report.md").read_text().replace("\\\\", "\\")


def test_strange_values_in_a_result_stop_nothing(study: Path) -> None:
    strange = [
        {"train": "fast"},
        {"train": {"seconds": "long", "selection": {"curve": {"a": "b"}, "steps": 3}}},
        {"train": {"selection": {"curve": {"0": 1.0, "4": 2.0}, "steps": [[4]], "tasks": None}}},
        {"train": {"selection": {"curve": {"0": 1.0, "4": 2.0}, "steps": 4, "tasks": 1}}},
        {"versions": ["torch"]},
        {"tasks": {"animals": {"main_score": 1.0, "gain": 3, "of": "x"}}},
        {"choices": {"pooling": None}},
    ]
    for run, change in zip(sorted(study.iterdir()), strange, strict=False):
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps({**result, **change}))
    assert "8 done" in (written(study) / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "STUDY: there is no folder 'nowhere'; give that of a study, such as runs/mine"),
        (["STUDY", "-o", "FILE/x"], "--output: 'FILE/x' cannot be written to (Not a directory)"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    (tmp_path / "file").write_text("")
    words = {"STUDY": str(study), "FILE/x": str(tmp_path / "file" / "x")}
    assert main(["report", *(words.get(word, word) for word in arguments)]) == 2
    assert capsys.readouterr().err.strip() == sentence.replace("FILE/x", words["FILE/x"])


def test_labels_keep_their_distance_and_their_limits() -> None:
    for places in ([5.0, 5.0, 5.0], [0.0, 99.0, 100.0], [50.0, 10.0, 12.0, 11.0]):
        moved = spread_out(places, 10, (0, 100))
        assert min(abs(a - b) for a, b in itertools.combinations(moved, 2)) >= 10 - 1e-9
        assert min(moved) >= 0
        assert max(moved) <= 100
    assert spread_out([20.0, 40.0], 10, (0, 100)) == [20.0, 40.0]


@pytest.mark.parametrize("values", [(0.0, 0.0), (49.96, 50.04), (41.2, 47.9), (-3.0, 1e-3), (1e5, 3e8), (99.99, 100.0)])
@pytest.mark.parametrize("scale", [linear, logarithmic])
def test_a_scale_holds_its_values_and_has_round_ticks(values: tuple[float, float], scale: object) -> None:
    found = scale(values, 0, 100)  # type: ignore[operator]
    assert all(-1e-6 <= found(value) <= 100 + 1e-6 for value in values)
    names = [found.name(tick) for tick in found.ticks]
    assert 2 <= len(set(names)) == len(names) <= 12
    if not found.log:
        step = found.ticks[1] - found.ticks[0]
        assert f"{step:.1e}"[:3] in ("1.0", "2.0", "2.5", "5.0")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """500 runs."""
    factors = itertools.product(
        ("mean", "last", "eos"), ("none", "cluster", "cot"), (4, 16, 64), (0.05, 0.1, 0.2), range(7)
    )
    for pooling, prompt, r, temperature, seed in itertools.islice(factors, 500):
        make_run(tmp_path / "s", pooling, prompt, seed, documents=512, adapter__r=r, loss__temperature=temperature)
    return tmp_path / "s"


@pytest.mark.slow
def test_the_page_of_500_runs_is_of_a_size_that_opens(large: Path) -> None:
    assert 100_000 < (written(large) / "report.html").stat().st_size < 3_000_000


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_the_table_sorts_and_filters_in_a_browser(study: Path, tmp_path: Path) -> None:
    page = written(study) / "report.html"
    check = """<script>
      const sheet = document.querySelector(".sheet"), search = sheet.querySelector("input"), out = [];
      const name = (row) => row.cells[0].textContent + row.cells[1].textContent;
      const shown = () => [...sheet.querySelectorAll("tbody tr")].filter((row) => !row.hidden).map(name);
      const heads = [...sheet.querySelectorAll("th button")];
      const tell = (element, value, event) => { element.value = value; element.dispatchEvent(new Event(event)); };
      heads[1].click(); heads[0].click(); out.push(shown());
      heads[0].click(); out.push(shown()[0]);
      heads[4].click(); out.push(shown()[0]);
      heads[4].click(); out.push(shown()[0]);
      tell(search, "LAST cluster", "input"); out.push(shown());
      tell(search, "", "input");
      tell(sheet.querySelector("select"), "mean", "change"); out.push(shown().length);
      document.title = JSON.stringify(out);
    </script>"""
    assert in_browser(page, check, tmp_path) == [
        ["lastcluster", "lastnone", "meancluster", "meannone"],
        "meancluster",
        "lastcluster",
        "meannone",
        ["lastcluster"],
        2,
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_settings_that_are_numbers_sort_as_numbers(tmp_path: Path) -> None:
    for temperature in (0.05, 0.1, 0.02, 1.0, 1e-05):
        make_run(tmp_path / "s", loss__temperature=temperature)
    make_run(tmp_path / "s", trainer__max_steps=0)
    check = """<script>
      const sheet = document.querySelector(".sheet"), out = [];
      const head = [...sheet.querySelectorAll("th button")].find((one) => one.textContent === "loss.temperature");
      const shown = () => [...sheet.querySelectorAll("tbody tr")].map((row) => row.cells[place].textContent);
      const place = head.parentNode.cellIndex;
      head.click(); out.push(shown());
      head.click(); out.push(shown());
      document.title = JSON.stringify(out);
    </script>"""
    numbers = ["1e-05", "0.02", "0.05", "0.1", "1"]
    found = in_browser(written(tmp_path / "s") / "report.html", check, tmp_path)
    assert found == [[*numbers, "-"], [*reversed(numbers), "-"]]


def in_browser(page: Path, check: str, folder: Path) -> object:
    """Return what a script at the end of a page makes the page's title, which is JSON."""
    checked = folder / "checked.html"
    checked.write_text(page.read_text().replace("</body>", check + "</body>"))
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", profile, "--dump-dom", checked.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    (title,) = re.findall(r"<title>(\[.*?\])</title>", done.stdout)
    return json.loads(title)
