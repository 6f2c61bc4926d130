"""Evidence of two models on one task."""

from pathlib import Path

import numpy as np
import pytest

from embedllm.eval.bootstrap import RESAMPLES, interval
from embedllm.eval.classification_evidence import ClassificationEvidence
from embedllm.eval.evidence import Evidence, gather
from embedllm.eval.halves import half_scores
from embedllm.eval.pair_evidence import PairClassificationEvidence, SimilarityEvidence
from embedllm.eval.paired import KINDS, AnyEvidence, comparable, differences, load_evidence
from embedllm.eval.stored import digests

DOCUMENTS = digests((f"a {i}", f"b {i}") for i in range(200))


def similarity(noise: float, seed: int = 0) -> SimilarityEvidence:
    gold = np.random.default_rng(0).uniform(0, 5, 200)
    return SimilarityEvidence(DOCUMENTS, gold, gold + noise * np.random.default_rng(seed).standard_normal(200))


def classification(accuracy: float, seed: int = 0) -> ClassificationEvidence:
    return ClassificationEvidence(DOCUMENTS, np.random.default_rng(seed).random((10, 200)) < accuracy)


def pair_classification(noise: float, seed: int = 0) -> PairClassificationEvidence:
    same = np.random.default_rng(0).random(200) < 0.4
    measures = same + noise * np.random.default_rng(seed).standard_normal((2, 200))
    return PairClassificationEvidence(DOCUMENTS, same, measures)


def clustering(noise: float, seed: int = 0) -> Evidence:
    labels = [str(i % 3) for i in range(60)]
    vectors = np.eye(3)[np.arange(60) % 3] + noise * np.random.default_rng(seed).standard_normal((60, 3))
    score = float(half_scores(vectors.astype(np.float32), labels).mean())
    return gather([f"text {i}" for i in range(60)], labels, vectors.astype(np.float32), score)


ALL = (similarity(1.0), classification(0.5), pair_classification(1.0), clustering(0.1))


@pytest.mark.parametrize("evidence", ALL, ids=lambda evidence: type(evidence).__name__)
def test_a_file_says_what_it_holds(evidence: AnyEvidence, tmp_path: Path) -> None:
    evidence.save(tmp_path / "new" / "task.npz")
    loaded = load_evidence(tmp_path / "new" / "task.npz")
    assert type(loaded) is type(evidence)
    for name, value in vars(evidence).items():
        assert np.array_equal(vars(loaded)[name], value), name
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["task.npz"]


def test_every_kind_has_fields_of_its_own() -> None:
    assert len({frozenset(kind.__dataclass_fields__) for kind in KINDS}) == len(KINDS) == len(ALL)


def test_what_is_damaged_or_missing_is_none(tmp_path: Path) -> None:
    similarity(1.0).save(tmp_path / "task.npz")
    whole = (tmp_path / "task.npz").read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[:-30], b"no archive"):
        (tmp_path / "task.npz").write_bytes(content)
        assert load_evidence(tmp_path / "task.npz") is None
    np.savez(tmp_path / "other.npz", documents=DOCUMENTS)
    np.savez(tmp_path / "pickle.npz", documents=np.array([{}], dtype=object), gold=DOCUMENTS, cosines=DOCUMENTS)
    for name in ("other.npz", "pickle.npz", "missing.npz"):
        assert load_evidence(tmp_path / name) is None


@pytest.mark.parametrize(
    ("worse", "as_bad", "better"),
    [
        (similarity(5.0, 1), similarity(5.0, 2), similarity(0.5, 3)),
        (classification(0.5, 1), classification(0.5, 2), classification(0.8, 3)),
        (pair_classification(1.5, 1), pair_classification(1.5, 2), pair_classification(0.3, 3)),
        (clustering(1.0, 1), clustering(1.0, 2), clustering(0.1, 3)),
    ],
    ids=lambda evidence: type(evidence).__name__,
)
def test_a_real_difference_is_outside_zero_and_none_is_inside(
    worse: AnyEvidence, as_bad: AnyEvidence, better: AnyEvidence
) -> None:
    found = differences(worse, better)
    assert found.shape == (RESAMPLES,)
    low, high = interval(found)
    assert 0 < low < high
    low, high = interval(differences(worse, as_bad))
    assert low < 0 < high
    np.testing.assert_allclose(np.sort(differences(better, worse)), np.sort(-found), atol=1e-9)
    assert not differences(worse, worse).any()


def test_the_spread_of_a_difference_in_accuracy_is_that_of_the_paired_documents() -> None:
    """Of one experiment, the standard error of a mean of paired differences is known."""
    first, second = classification(0.5, 1).correct[:1], classification(0.7, 2).correct[:1]
    found = differences(ClassificationEvidence(DOCUMENTS, first), ClassificationEvidence(DOCUMENTS, second))
    steps = 100 * (second[0].astype(float) - first[0])
    assert found.mean() == pytest.approx(steps.mean(), abs=0.5)
    assert found.std() == pytest.approx(steps.std() / np.sqrt(200), rel=0.08)


def test_other_documents_or_another_order_do_not_compare() -> None:
    ours = similarity(1.0)
    turned = SimilarityEvidence(ours.documents[::-1], ours.gold, ours.cosines)
    fewer = SimilarityEvidence(ours.documents[:9], ours.gold[:9], ours.cosines[:9])
    for other in (turned, fewer, classification(0.5)):
        assert not comparable(ours, other)
        with pytest.raises(ValueError, match="not of the same documents"):
            differences(ours, other)


def test_a_pair_is_told_from_its_halves() -> None:
    assert len(set(digests([("ab", "c"), ("a", "bc"), ("abc",), ("abc", "")]).tolist())) == 4
