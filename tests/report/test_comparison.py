"""Two finished runs side by side: ``embedllm compare`` and what it is made of."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from embedllm.cli import main
from embedllm.errors import InputError
from embedllm.eval.classification_evidence import ClassificationEvidence
from embedllm.eval.evidence import Evidence, gather
from embedllm.eval.halves import half_scores
from embedllm.eval.pair_evidence import PairClassificationEvidence, SimilarityEvidence
from embedllm.eval.paired import AnyEvidence
from embedllm.eval.stored import digests
from embedllm.report.comparison import Comparison, Row, compare
from embedllm.runs import RunFolder

COUNT = 200
DOCUMENTS = digests((f"text {i}",) for i in range(COUNT))
OF = {"sha256": "0" * 16, "kind": None, "max_documents": None}
BETTER, WORSE, SAME, UNKNOWN = "B is better", "A is better", "no difference shown", "not known"

Task = AnyEvidence | Mapping[str, Any]


def accuracy(share: float, seed: int = 0, runs: int = 1) -> ClassificationEvidence:
    return ClassificationEvidence(DOCUMENTS, np.random.default_rng(seed).random((runs, COUNT)) < share)


def similarity(noise: float, seed: int = 0) -> SimilarityEvidence:
    gold = np.random.default_rng(0).uniform(0, 5, COUNT)
    return SimilarityEvidence(DOCUMENTS, gold, gold + noise * np.random.default_rng(seed).standard_normal(COUNT))


def same_meaning(noise: float, seed: int = 0) -> PairClassificationEvidence:
    same = np.random.default_rng(0).random(COUNT) < 0.4
    measures = same + noise * np.random.default_rng(seed).standard_normal((1, COUNT))
    return PairClassificationEvidence(DOCUMENTS, same, measures)


def clustering(noise: float, seed: int = 0) -> Evidence:
    classes = np.arange(60) % 3
    vectors = np.eye(3)[classes] + noise * np.random.default_rng(seed).standard_normal((60, 3))
    labels = [str(name) for name in classes]
    score = float(half_scores(vectors.astype(np.float32), labels).mean())
    return gather([f"text {i}" for i in range(60)], labels, vectors.astype(np.float32), score)


def entry(evidence: AnyEvidence) -> dict[str, Any]:
    """What ``result.json`` holds of a task, the score by other packages."""
    if isinstance(evidence, Evidence):
        score, metric = float(evidence.score) / 100, "v_measure"
    elif isinstance(evidence, SimilarityEvidence):
        score, metric = spearmanr(evidence.gold, evidence.cosines)[0], "cosine_spearman"
    elif isinstance(evidence, PairClassificationEvidence):
        score, metric = average_precision_score(evidence.same, evidence.similarities[0]), "max_ap"
    else:
        score, metric = evidence.correct.mean(), "accuracy"
    return {"main_score": 100 * float(score), "metric": metric, "of": OF}


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., RunFolder]:
    """Write a run; a task is its evidence, which the score follows from, or an entry of the result without any."""

    def write(name: str, tasks: Mapping[str, Task]) -> RunFolder:
        folder = RunFolder(tmp_path / name)
        folder.create()
        entries = {task: dict(kept) if isinstance(kept, Mapping) else entry(kept) for task, kept in tasks.items()}
        folder.write_result({"tasks": entries})
        for task, kept in tasks.items():
            if not isinstance(kept, Mapping):
                kept.save(folder.evidence("after", task))
        return folder

    return write


def only(comparison: Comparison) -> Row:
    (row,) = comparison.rows
    assert not comparison.left_out
    return row


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (accuracy(0.5, 1, 10), accuracy(0.8, 2, 10)),
        (similarity(5.0, 1), similarity(0.5, 2)),
        (same_meaning(1.5, 1), same_meaning(0.3, 2)),
        (clustering(1.0, 1), clustering(0.1, 2)),
    ],
    ids=lambda evidence: type(evidence).__name__,
)
def test_who_is_clearly_better_is_said_to_be(finished, worse: AnyEvidence, better: AnyEvidence) -> None:
    a, b = finished("a", {"t": worse}), finished("b", {"t": better})
    row, mirrored = only(compare(a, b)), only(compare(b, a))
    assert (row.verdict, mirrored.verdict) == (BETTER, WORSE)
    assert 0 < row.low < row.difference < row.high
    assert (row.a, row.b) == (entry(worse)["main_score"], entry(better)["main_score"])
    assert (mirrored.low, mirrored.high) == pytest.approx((-row.high, -row.low), abs=1e-9)
    assert mirrored.difference == -row.difference


def test_the_interval_is_that_of_paired_differences(finished) -> None:
    """Of many documents their mean is normal."""
    first, second = accuracy(0.5, 1), accuracy(0.6, 2)
    row = only(compare(finished("a", {"t": first}), finished("b", {"t": second})))
    steps = 100 * (second.correct[0].astype(float) - first.correct[0])
    reach = 1.96 * steps.std() / np.sqrt(COUNT)
    assert (row.low, row.high) == pytest.approx((steps.mean() - reach, steps.mean() + reach), abs=0.15 * reach)


def test_a_run_does_not_differ_from_itself(finished) -> None:
    folder = finished("a", {"t": similarity(1.0), "u": clustering(0.5)})
    comparison = compare(folder, folder)
    for row in (*comparison.rows, comparison.mean):
        assert (row.verdict, row.difference, row.low, row.high) == (SAME, 0, 0, 0)


def test_noise_is_no_difference(finished) -> None:
    row = only(compare(finished("a", {"t": similarity(5.0, 1)}), finished("b", {"t": similarity(5.0, 2)})))
    assert row.verdict == SAME
    assert row.low < 0 < row.high


@pytest.mark.parametrize("kept", ["neither", "A", "B"])
def test_without_the_evidence_of_both_it_is_not_known(finished, kept: str) -> None:
    tasks = accuracy(0.2), accuracy(0.9)
    folders = [
        finished(name, {"t": task if name == kept else entry(task)}) for name, task in zip("AB", tasks, strict=True)
    ]
    comparison = compare(*folders)
    row = only(comparison)
    assert (row.verdict, row.low, row.high) == (UNKNOWN, None, None)
    assert (row.a, row.b) == tuple(entry(task)["main_score"] for task in tasks)
    assert comparison.table().splitlines()[2].split()[4:] == ["-", "not", "known"]


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """The same length, but the compressed stream makes no sense."""
    return content[:100] + bytes(255 - byte for byte in content[100:140]) + content[140:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        truncated,
        flipped,
    ],
)
def test_a_damaged_file_is_as_good_as_none(finished, damage: Callable[[bytes], bytes]) -> None:
    a, b = (
        finished("a", {"t": accuracy(0.2), "u": accuracy(0.2)}),
        finished("b", {"t": accuracy(0.9), "u": accuracy(0.9)}),
    )
    path = b.evidence("after", "t")
    path.write_bytes(damage(path.read_bytes()))
    comparison = compare(a, b)
    assert [row.verdict for row in comparison.rows] == [UNKNOWN, BETTER]
    assert comparison.mean is None


def test_scores_of_other_documents_are_not_compared(finished) -> None:
    ours = entry(accuracy(0.5))
    more = digests((f"text {i}",) for i in range(COUNT + 1))
    others: dict[str, tuple[Task, Task]] = {
        "texts": (accuracy(0.5), ClassificationEvidence(DOCUMENTS[::-1], accuracy(0.5).correct)),
        "number": (similarity(1.0), SimilarityEvidence(more, np.arange(201.0), np.arange(201.0))),
        "sample": (ours, {**ours, "of": {**OF, "max_documents": 9}}),
        "file": (ours, {**ours, "of": {**OF, "sha256": "1" * 16}}),
        "metric": (ours, {**ours, "metric": "f1"}),
    }
    a, b = (finished(name, {task: pair[side] for task, pair in others.items()}) for side, name in enumerate("ab"))
    comparison = compare(a, b)
    assert comparison.left_out == dict.fromkeys(others, "A and B were scored on other documents")
    assert (comparison.rows, comparison.mean) == ((), None)
    assert comparison.table().splitlines()[0] == "texts: not compared, A and B were scored on other documents"


def test_what_one_run_has_no_score_of_is_left_out(finished) -> None:
    a = finished("a", {"both": accuracy(0.5), "first": accuracy(0.5), "broken": {"error": "OSError: away"}})
    b = finished("b", {"both": accuracy(0.5), "second": accuracy(0.5), "broken": accuracy(0.5)})
    comparison = compare(a, b)
    assert [row.name for row in comparison.rows] == ["both"]
    assert comparison.left_out == {
        "first": "B was not scored on it",
        "second": "A was not scored on it",
        "broken": "A has no score (OSError: away)",
    }
    assert comparison.table().splitlines()[3:] == [
        f"{task}: not compared, {why}" for task, why in comparison.left_out.items()
    ]


def test_tasks_that_are_named_are_compared_once_and_in_that_order(finished) -> None:
    tasks = {"x": accuracy(0.5), "y": accuracy(0.6), "z": accuracy(0.7)}
    comparison = compare(finished("a", tasks), finished("b", tasks), ["z", "x", "z"])
    assert [row.name for row in comparison.rows] == ["z", "x"]
    assert comparison.mean.name == "mean of 2"


def test_the_mean_is_over_the_rows_with_an_interval(finished) -> None:
    a = finished("a", {"x": accuracy(0.4, 1), "y": similarity(3.0, 2), "unsure": entry(accuracy(0.1))})
    b = finished("b", {"x": accuracy(0.6, 3), "y": similarity(1.0, 4), "unsure": entry(accuracy(0.9))})
    name = "mean of 2 of 3, incomplete"
    comparison = compare(a, b)
    x, y, _ = comparison.rows
    mean = comparison.mean
    assert (mean.name, mean.a, mean.b) == (name, pytest.approx((x.a + y.a) / 2), pytest.approx((x.b + y.b) / 2))
    assert mean.difference == pytest.approx((x.difference + y.difference) / 2)
    assert mean.high - mean.low < max(row.high - row.low for row in (x, y))
    assert mean.verdict == BETTER
    mirrored = compare(b, a).mean
    assert (mirrored.low, mirrored.high, mirrored.verdict) == (
        pytest.approx(-mean.high),
        pytest.approx(-mean.low),
        WORSE,
    )


@pytest.mark.parametrize("tasks", [2, 4])
def test_documents_of_tasks_are_drawn_apart_for_the_mean(finished, tasks: int) -> None:
    """Independent differences of one spread have a mean whose spread is that over the root of their number."""
    a, b = (finished(name, {str(i): accuracy(0.5, seed) for i in range(tasks)}) for seed, name in enumerate("ab"))
    comparison = compare(a, b)
    single, mean = (row.high - row.low for row in (comparison.rows[0], comparison.mean))
    assert mean == pytest.approx(single / np.sqrt(tasks), rel=0.1)


def test_one_task_has_no_mean(finished) -> None:
    folder = finished("a", {"x": accuracy(0.5), "unsure": entry(accuracy(0.5))})
    assert compare(folder, folder).mean is None


def test_the_mean_names_its_suite_its_samples_and_the_versions_that_made_it(finished, monkeypatch) -> None:
    monkeypatch.setattr("embedllm.scoring.file_digest", lambda _: "ab" * 32)
    of = {"wordnet_definitions": {"sha256": "ab" * 8, "kind": None, "max_documents": 256}}
    folders = []
    for name, mteb in (("a", "2.1"), ("b", "2.2")):
        folders.append(finished(name, {"wordnet_definitions": accuracy(0.5), "y": accuracy(0.5), "z": accuracy(0.5)}))
        tasks = folders[-1].read_result()["tasks"]
        tasks = {task: {**entry, "of": of.get(task, OF)} for task, entry in tasks.items()}
        tasks["z"]["mteb"] = "2.2"
        folders[-1].write_result({"tasks": tasks, "versions": {"mteb": mteb}})
    assert compare(*folders).mean_of == (
        "quick (1 task, at most 256 documents each, mteb 2.1 and 2.2), and custom (2 tasks, mteb 2.1 and 2.2)"
    )
    assert compare(folders[1], folders[1]).mean_of.endswith("custom (2 tasks, mteb 2.2)")
    assert compare(*folders, ["y"]).mean_of is None


def test_a_verdict_is_never_against_the_interval_or_the_difference() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(3000):
        a, b, *bounds = np.round(rng.normal(size=4), 1).tolist()
        low, high = sorted(bounds)
        verdict = Row("t", a, b, low, high).verdict
        seen.add(verdict)
        assert (verdict == BETTER) == (b > a and low > 0)
        assert (verdict == WORSE) == (b < a and high < 0)
        assert Row("t", b, a, -high, -low).verdict == {BETTER: WORSE, WORSE: BETTER, SAME: SAME}[verdict]
        assert Row("t", a, b).verdict == UNKNOWN
    assert seen == {BETTER, WORSE, SAME}


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("touches 0", 1.0, 2.0, 0.0, 2.0), SAME),
        (Row("touches 0 from below", 2.0, 1.0, -2.0, 0.0), SAME),
        (Row("against the interval", 2.0, 1.0, 0.5, 2.0), SAME),
        (Row("equal scores", 1.0, 1.0, 0.5, 2.0), SAME),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_at_the_border_no_difference_is_shown(row: Row, verdict: str) -> None:
    assert row.verdict == verdict


def test_the_command_writes_a_table(finished, capsys: pytest.CaptureFixture[str]) -> None:
    a = finished("a", {"x": accuracy(0.4, 1), "y": similarity(3.0, 2), "z": {"error": "OSError: away"}})
    b = finished("b", {"x": accuracy(0.6, 3), "y": similarity(1.0, 4)})
    assert main(["compare", str(a.path), str(b.path)]) == 0
    first, second, blank, header, rule, *lines = capsys.readouterr().out.splitlines()
    assert (first, second, blank) == (f"A: {a.path}", f"B: {b.path}", "")
    assert header.split() == ["task", "A", "B", "difference", "95", "%", "interval", "verdict"]
    assert set(rule) == {"-", " "}
    assert lines[3:] == [
        "z: not compared, A has no score (OSError: away)",
        "",
        "tasks of the mean: custom (2 tasks, mteb of an unknown version)",
    ]
    assert lines[2].startswith("mean of 2 of 3, incomplete ")
    comparison = compare(a, b)
    for line, row in zip(lines[:3], (*comparison.rows, comparison.mean), strict=True):
        numbers = f"{row.a:.1f} {row.b:.1f} {row.difference:+.1f} {row.low:+.1f} to {row.high:+.1f}"
        assert " ".join(line.split()) == f"{row.name} {numbers} {row.verdict}"


def test_json_holds_the_same(finished, capsys: pytest.CaptureFixture[str]) -> None:
    a = finished("a", {"x": accuracy(0.4, 1), "y": similarity(3.0, 2), "n": entry(accuracy(0.5)), "z": accuracy(0.5)})
    b = finished("b", {"x": accuracy(0.6, 3), "y": similarity(1.0, 4), "n": entry(accuracy(0.5))})
    assert main(["compare", str(a.path), str(b.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    comparison = compare(a, b)
    assert (found["a"], found["b"]) == (str(a.path), str(b.path))
    assert found["not_compared"] == {"z": "B was not scored on it"}
    for read, row in zip([*found["tasks"], found["mean"]], [*comparison.rows, comparison.mean], strict=True):
        assert read == {name: getattr(row, name) for name in ("name", "a", "b", "low", "high", "difference", "verdict")}
    assert main(["compare", str(a.path), str(b.path), "--json", "--tasks", "n"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] is None


def test_the_command_takes_the_tasks_that_are_named(finished, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(finished("a", {"x": accuracy(0.5), "y": accuracy(0.5)}).path)
    assert main(["compare", folder, folder, "--tasks", "y"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[5:]] == ["y"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a", "a", "--tasks", "x", "nope"], "--tasks: 'nope' is in neither run; there are: x, y"),
        (["empty", "empty", "--tasks", "x"], "--tasks: 'x' is in neither run; there are: none"),
        (["a", "nowhere"], "RUN: 'nowhere' is not the folder of a finished run"),
        (["unfinished", "a"], "RUN: 'unfinished' is not the folder of a finished run"),
        (["a", "damaged"], "RUN: 'damaged' is not the folder of a finished run"),
        (["a", "a/result.json"], "RUN: 'a/result.json' is not the folder of a finished run"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    finished("a", {"x": accuracy(0.5), "y": accuracy(0.5)})
    finished("empty", {})
    for name in ("unfinished", "damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged" / "result.json").write_text('{"tasks": {')
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", sentence + "\n")


def test_runs_without_tasks_have_nothing_to_compare(finished) -> None:
    folder = finished("a", {})
    assert compare(folder, folder) == Comparison((), None, None, {})
    with pytest.raises(InputError):
        compare(folder, RunFolder(folder.path / "nowhere"))


def test_two_sizes_of_sample_that_are_the_same_documents_compare(finished) -> None:
    one, other = accuracy(0.5, 1, 10), accuracy(0.8, 2, 10)
    a, b = finished("a", {"t": one}), finished("b", {"t": other})
    result = b.read_result()
    result["tasks"]["t"]["of"] = {**OF, "max_documents": 1024}
    b.write_result(result)
    assert only(compare(a, b)).verdict == BETTER
    result["tasks"]["t"]["of"] = {**OF, "sha256": "1" * 16}  # the same texts with other labels, say
    b.write_result(result)
    assert compare(a, b).left_out == {"t": "A and B were scored on other documents"}
