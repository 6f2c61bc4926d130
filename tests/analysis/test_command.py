"""``embedllm attention`` as it is typed."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from embedllm.analysis.corpus import estimate, read_corpus
from embedllm.analysis.pooled_rows import pooled_rows
from embedllm.analysis.summary import ATTENTION, GRADIENT, LEFT_OUT
from embedllm.cli import main
from embedllm.embedder import MANIFEST, Embedder
from embedllm.pooling import LastTokenPooling, MeanPooling

TEXT = "a man isn't driving $5 of a car \u4e2d"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.csv"
    texts = [f"the {word} number {i} is here" for i in range(5) for word in ("river", "engine")]
    path.write_text("text,label\n" + "".join(f"{text},x\n" for text in [*texts, texts[0], ""]))
    return path


@pytest.mark.slow
def test_one_text_before_and_after(
    make_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, figure = make_run(), tmp_path / "figure.png"
    assert main(["attention", str(run), "--text", TEXT, "-o", str(figure)]) == 0
    printed = capsys.readouterr().out
    for sentence in (ATTENTION, LEFT_OUT, GRADIENT, "since sdpa returns no weights", "pooled position: token"):
        assert sentence in printed
    assert figure.read_bytes().startswith(b"\x89PNG")
    found = rows(figure.with_suffix(".csv"))
    sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for row in found:
        if row["measure"] == "attention":
            sums[row["stage"], row["layer"], row["head"]] += float(row["value"])
    assert len(sums) == 3 * 2 * 5  # stages, layers, heads and their mean
    np.testing.assert_allclose(list(sums.values()), 1, atol=1e-4)
    embedder = Embedder.load(run)
    ids = embedder.tokenize([TEXT])
    ((_, expected),) = pooled_rows(embedder, ids)
    after = [row for row in found if (row["stage"], row["layer"], row["head"]) == ("after", "2", "3")]
    np.testing.assert_allclose([float(row["value"]) for row in after], expected.weights[1, 2], rtol=1e-5)
    assert [row["token"] for row in after if row["kind"] == "content"][-1] in "\u4e2d"
    for measure in ("left_out", "gradient_x_input"):
        assert sum(row["measure"] == measure for row in found) == 3 * len(ids[0])


def test_the_heads_of_a_layer_as_svg(tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "figure.svg"
    assert main(["attention", str(tiny_path), "--text", "a", "--layer", "1", "-o", str(figure)]) == 0
    assert ElementTree.parse(figure).getroot().tag.endswith("svg")
    assert "layer 1, mean of 4 heads" in capsys.readouterr().out


def test_a_text_that_is_too_long_is_cut_and_said_to_be(
    tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embedder = Embedder.from_pretrained(str(tiny_path))
    embedder.prompt.tokenizer.model_max_length = 24
    embedder.save(tmp_path / "short")
    command = ["attention", str(tmp_path / "short"), "--text", "car " * 40, "-o", str(tmp_path / "figure.png")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("24 tokens; pooled position: the average over 24 of 24 tokens, as MeanPooling")
    assert "the text is cut: with its prompt it has " in printed


@pytest.mark.slow
def test_a_corpus(
    make_run: Callable[..., Path], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other, figure = make_run(), make_run("other", template="{text}"), tmp_path / "figure.png"
    command = ["attention", str(run), "--compare", str(other), "--corpus", str(corpus), "--attribute", "3"]
    assert main([*command, "--max-texts", "8", "-o", str(figure)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("8 texts; the pooled position is that of LastTokenPooling")
    assert "after - before" in printed
    assert figure.read_bytes().startswith(b"\x89PNG")
    found = rows(figure.with_suffix(".csv"))
    assert {row["stage"] for row in found} == {"before", "step 3", "after", "other"}
    sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for row in found:
        assert float(row["low"]) <= float(row["share"]) <= float(row["high"])
        sums[row["stage"], row["measure"], row["layer"]] += float(row["share"])
        assert row["texts"] == ("8" if row["measure"] == "attention" else "3")
    assert len(sums) == 4 * (2 + 2)
    np.testing.assert_allclose(list(sums.values()), 1, atol=1e-4)
    (content,) = [
        float(row["share"]) for row in found if (row["stage"], row["layer"], row["kind"]) == ("after", "2", "content")
    ]
    assert content == pytest.approx(content_by_hand(Embedder.load(run), read_corpus(str(corpus), "text", 8)), rel=1e-4)


@pytest.mark.slow
def test_heads_that_differ_are_told_apart(
    make_run: Callable[..., Path], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = make_run(), make_run("other", head=partial(MeanPooling, pool_over="text"))
    command = ["attention", str(run), "--compare", str(other), "-o", str(tmp_path / "figure.svg")]
    assert main([*command, "--corpus", str(corpus), "--attribute", "0"]) == 0
    heads = "LastTokenPooling (before, step 3, after); MeanPooling over the text (other)"
    assert f"the pooled position is that of {heads}" in capsys.readouterr().out
    assert main([*command, "--text", "a car"]) == 0
    printed = capsys.readouterr().out
    assert "(before, step 3, after); the average over " in printed
    assert "as MeanPooling over the text weighs their states (other)" in printed


@pytest.mark.thinned(3)
@pytest.mark.parametrize("text", ["it costs $$", "a $x^$ b", "$"])
def test_dollar_signs_are_no_formula(text: str, tiny_path: Path, tmp_path: Path) -> None:
    embedder = Embedder.from_pretrained(str(tiny_path), head=LastTokenPooling)
    embedder.save(tmp_path / "last")
    run = (tmp_path / "last").rename(tmp_path / "last$\\no$")
    figure = tmp_path / "figure.png"
    words = ["attention", str(run), "--compare", str(tiny_path), "--text", text, "-o", str(figure)]
    assert main(words) == 0
    assert figure.read_bytes().startswith(b"\x89PNG")


def content_by_hand(embedder: Embedder, texts: list[str]) -> float:
    """The share of river, engine, number and digits, found by what stands around them: the, is, here are stop words."""
    shares = []
    for text in texts:
        ids = embedder.tokenize([text])
        ((_, found),) = pooled_rows(embedder, ids)
        offsets = embedder.prompt.tokenizer(text, return_offsets_mapping=True).offset_mapping
        words = text.split()
        starts = [text.index(word) for word in words]
        content = [(start, start + len(word)) for start, word in zip(starts, words, strict=True)][1:4]
        inside = [
            embedder.prompt.prefix_tokens <= i < len(ids[0]) - embedder.prompt.suffix_tokens
            and any(max(first, a) < min(last, b) for a, b in content)
            for i, (first, last) in enumerate(offsets)
        ]
        shares.append(found.weights[1].mean(axis=0)[np.array(inside)].sum())
    return float(np.mean(shares))


def test_the_interval_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(3, 1, size=(400, 2, 3))
    found = estimate(values)
    np.testing.assert_allclose(found.mean, values.mean(axis=0))
    error = values.std(axis=0) / 20
    np.testing.assert_allclose(found.low, found.mean - 1.96 * error, atol=0.02)
    np.testing.assert_allclose(found.high, found.mean + 1.96 * error, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", " "], "--text: it is blank"),
        (["--text", "x", "--layer", "3"], "--layer: 3 is no layer with attention; they are 1 to 2"),
        (["--text", "x", "--layer", "0"], "--layer: 0 is no layer with attention; they are 1 to 2"),
        (["--text", "x", "-o", "figure.gif"], "does not end in .png, .svg or .pdf"),
        (["--text", "x", "-o", "nowhere/figure.png"], "the folder of 'nowhere/figure.png' cannot be written to"),
        (["--corpus", "none.txt"], "--corpus: no file at 'none.txt'"),
        (["--corpus", "{corpus}", "--column", "title"], "has no column 'title'; it has: text, label"),
        (["--corpus", "{corpus}", "--max-texts", "1"], "--max-texts: 1 is not allowed; the lowest value is 2"),
        (["--corpus", "{corpus}", "--attribute", "-1"], "--attribute: -1 is not allowed; the lowest value is 0"),
        (["--text", "x", "--compare", "nothing/here"], "nothing/here"),
        (["--text", "x", "--attribute", "5"], "--attribute: goes with --corpus; leave it out with --text"),
        (["--text", "x", "--max-texts", "500"], "--max-texts: goes with --corpus; leave it out with --text"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    message: str,
    tiny_path: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = [] if "-o" in arguments else ["-o", str(tmp_path / "figure.png")]
    words = [word.replace("{corpus}", str(corpus)) for word in arguments]
    monkeypatch.setattr(Embedder, "load", lambda _: pytest.fail("weights were loaded"))
    assert main(["attention", str(tiny_path), *words, *output]) == 2
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in printed
    assert not (tmp_path / "figure.png").exists()


def test_an_adapter_of_another_base_is_one_sentence(
    make_run: Callable[..., Path],
    make_decoder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run()
    manifest = json.loads((run / "model" / MANIFEST).read_text())
    manifest["model"]["name"] = str(make_decoder("gpt2"))
    (run / "model" / MANIFEST).write_text(json.dumps(manifest))
    capsys.readouterr()  # what making the decoder printed
    assert main(["attention", str(run), "--text", "x", "-o", str(tmp_path / "figure.png")]) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert "does not fit the model" in sentence


@pytest.mark.slow
@pytest.mark.parametrize("what", ["--corpus", "--text"])
def test_a_file_that_holds_something_else_is_not_written_over(
    what: str, tiny_path: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = corpus.read_bytes()
    words = ["attention", str(tiny_path), what]
    words += {"--corpus": [str(corpus), "--attribute", "0"], "--text": ["x"]}[what]
    assert main([*words, "-o", str(corpus.with_suffix(".png"))]) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert f"go into {str(corpus)!r}, which holds something else; give another name" in sentence
    assert corpus.read_bytes() == before
    for _ in range(2):  # its own file is
        assert main([*words, "-o", str(tmp_path / "figure.png")]) == 0
    (tmp_path / "folder.png").mkdir()
    assert main([*words, "-o", str(tmp_path / "folder.png")]) == 2
    assert "folder.png' is a folder; give a new file" in capsys.readouterr().err


def test_a_corpus_of_one_text_is_refused(tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.txt").write_text("a text\n\na text\n")
    command = ["attention", str(tiny_path), "--corpus", str(tmp_path / "one.txt"), "-o", str(tmp_path / "f.png")]
    assert main(command) == 2
    assert "has 1 texts in 'text'; an interval needs at least 2" in capsys.readouterr().err
