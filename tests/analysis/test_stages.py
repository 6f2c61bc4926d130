"""A run before, along and after its training."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from embedllm.analysis.stages import opened, sources
from embedllm.embedder import MANIFEST, Embedder, ModelSpec
from embedllm.errors import InputError
from embedllm.pooling import AttentionPooling, LastTokenPooling

TEXTS = ["a man is driving a car", "the sky"]


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_before_is_the_base_and_after_the_run(kind: str, make_run: Callable[..., Path], tiny_path: Path) -> None:
    run = make_run(kind=kind)
    after = Embedder.load(run)
    base = Embedder.from_pretrained(str(tiny_path), template=after.prompt.template, head=LastTokenPooling)
    expected = [base, Embedder.load(run / "steps" / "000003"), after]
    found = sources(str(run))
    assert [source.label for source in found] == ["before", "step 3", "after"]
    vectors = []
    for source, one in zip(found, expected, strict=True):
        with opened(source) as embedder:
            vectors.append(embedder.encode(TEXTS))
        np.testing.assert_allclose(vectors[-1], one.encode(TEXTS), atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    assert np.abs(vectors[1] - vectors[2]).max() > 1e-3


def test_before_has_the_head_that_training_starts_from(make_run: Callable[..., Path]) -> None:
    run = make_run(head=AttentionPooling)
    before, _, after = sources(str(run))
    with opened(before) as embedder:
        assert not embedder.head.query.any()
    with opened(after) as embedder:
        assert embedder.head.query.any()


@pytest.mark.slow
def test_a_run_that_is_centred_is_centred_before_and_along_its_training_too(make_run: Callable[..., Path]) -> None:
    run = make_run()
    embedder = Embedder.load(run)
    embedder.centre()
    embedder.save(run / "model")
    before, along, after = sources(str(run))
    assert Embedder.load(along.path).centring is None
    with opened(before) as untrained, opened(along) as halfway, opened(after) as trained:
        means = [stage.centring.mean for stage in (untrained, halfway, trained)]
    assert torch.equal(means[2], embedder.centring.mean)
    assert not torch.equal(means[0], means[1])
    assert not torch.equal(means[1], means[2])


def test_what_was_not_trained_has_one_stage(tiny_path: Path, make_run: Callable[..., Path]) -> None:
    for path in (str(tiny_path), str(make_run(kind="none"))):
        labels = [source.label for source in sources(path)]
        assert labels[-1] == ("after" if len(labels) > 1 else Path(path).name)
        assert "before" not in labels


def test_other_runs_follow(make_run: Callable[..., Path], tiny_path: Path) -> None:
    run, other = make_run(), make_run("other", template="Text: {text}")
    assert [source.label for source in sources(str(run), [str(other)])][-1] == "other"
    with pytest.raises(InputError, match=r"--compare: .*other' has the prompt 'Text: \{text\}' and .*run' 'This"):
        sources(str(run), [str(other)], one_prompt=True)


def test_a_run_is_never_called_what_another_is(make_run: Callable[..., Path]) -> None:
    run, others = make_run(), [make_run("before"), make_run("a/same"), make_run("b/same")]
    found = sources(str(run), list(map(str, others)))
    assert [source.label for source in found] == ["before", "step 3", "after", *map(str, others)]


def test_a_run_that_is_named_twice_is_refused(make_run: Callable[..., Path]) -> None:
    run, other = str(make_run()), str(make_run("other"))
    for twice in ([other, f"{other}/model"], [run]):
        with pytest.raises(InputError, match="--compare: .* is named twice; name each run once"):
            sources(run, twice)


def test_what_went_on_from_an_adapter_is_not_held_against_its_start(make_run: Callable[..., Path]) -> None:
    run = make_run()
    manifest = json.loads((run / "model" / MANIFEST).read_text())
    manifest["adapter"]["path"] = "an/adapter"
    (run / "model" / MANIFEST).write_text(json.dumps(manifest))
    assert [source.label for source in sources(str(run))] == ["base", "step 3", "after"]


def test_a_run_of_another_model_is_refused(
    make_run: Callable[..., Path], make_decoder: Callable[[str], Path], tiny_path: Path
) -> None:
    run, other = make_run(), make_run("other", spec=ModelSpec(str(make_decoder("llama")), max_length=96))
    with pytest.raises(InputError, match="--compare: .* is of the model .*; compare runs of one model"):
        sources(str(run), [str(other)])
    shallow = make_run("shallow", spec=ModelSpec(str(tiny_path), layers=1))
    with pytest.raises(InputError, match="its first 1 layers"):
        sources(str(run), [str(shallow)])


def test_a_run_that_is_not_finished_is_refused(make_run: Callable[..., Path], tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_text("")
    for call in (partial(sources, str(unfinished)), partial(sources, str(make_run()), [str(unfinished)])):
        with pytest.raises(InputError, match="is not finished"):
            call()
