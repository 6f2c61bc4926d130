"""What is kept of a clustering."""

from pathlib import Path

import numpy as np
import pytest

from embedllm.eval.evidence import Evidence, gather, principal_components
from embedllm.eval.halves import HALVES, STARTS


def test_evidence_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 7)).astype(np.float32)
    texts = [f"text {i} é😀\ud800" for i in range(40)]
    evidence = gather(texts, ["a", "bb"] * 20, vectors, 12.5)
    evidence.save(tmp_path / "deep" / "task.npz")
    loaded = Evidence.load(tmp_path / "deep" / "task.npz")
    for name, value in vars(evidence).items():
        assert np.array_equal(vars(loaded)[name], value), name
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["task.npz"]
    assert float(loaded.score) == 12.5
    assert loaded.halves.shape == (HALVES, STARTS)
    assert len(set(loaded.documents.tolist())) == 40


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "task.npz", documents=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        Evidence.load(tmp_path / "task.npz")


@pytest.mark.parametrize(("rows", "width"), [(3, 50), (50, 3), (100, 60)])
def test_components_keep_the_distances_that_they_can(rows: int, width: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
    reduced = principal_components(vectors).astype(np.float64)
    assert reduced.shape == (rows, min(rows, width, 32))
    centred = vectors - vectors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    expected = np.abs(left[:, : reduced.shape[1]] * values[: reduced.shape[1]])
    assert np.abs(reduced) == pytest.approx(expected / expected.max(), abs=2e-3)


def test_equal_vectors_have_components_of_zero() -> None:
    assert not principal_components(np.ones((5, 4), dtype=np.float32)).any()
