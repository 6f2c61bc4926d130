"""How often the interval of a difference between two clusterings holds the true difference.

Each sample is 512 of the Stack Overflow titles. Four ways to make vectors out of words are fixed beforehand: two that
differ, and two that are equally good, one with noise of one seed and one with that of another. The true difference
of two is the mean over all samples.

    python experiments/intervals/coverage.py $EMBEDLLM_DATA/cluster_stackoverflow20.csv --samples 200
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import v_measure_score
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from embedllm.eval.bootstrap import interval
from embedllm.eval.halves import RUNS, half_scores, likely_differences

Vectors = npt.NDArray[np.float32]

DOCUMENTS = 512
DRAWS = 16_384  # as in MTEB


def main() -> None:
    """Print coverage and power."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="csv with the columns text and label")
    parser.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    with options.file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = np.array([row["label"] for row in rows])
    models = encoders([row["text"] for row in rows])
    scores, halves = [], []
    with threadpool_limits(1):
        for sample in tqdm(range(options.samples)):
            drawn = np.random.default_rng(sample).choice(len(rows), DOCUMENTS, replace=False)
            scores.append([score(vectors[drawn], labels[drawn]) for vectors in models])
            halves.append([half_scores(vectors[drawn], labels[drawn].tolist()) for vectors in models])
    for name, a, b in (("equal", 2, 3), ("coarse", 0, 1), ("noise", 0, 2)):
        report(name, np.array([[row[a], row[b]] for row in scores]), [other[b] - other[a] for other in halves])


def encoders(texts: list[str]) -> list[Vectors]:
    """Return the vectors of all texts under each model."""
    words = TfidfVectorizer().fit_transform(texts)
    fine, coarse = (normalize(TruncatedSVD(size, random_state=0).fit_transform(words)) for size in (100, 30))
    noise = [np.random.default_rng(seed).standard_normal(fine.shape) for seed in (1, 2)]
    noisy = [normalize(fine + 0.06 * one) for one in noise]
    return [vectors.astype(np.float32) for vectors in (fine, coarse, *noisy)]


def score(vectors: Vectors, labels: npt.NDArray[np.str_]) -> float:
    """Return the V-measure as MTEB has it, times 100."""
    found = []
    for run in range(RUNS):
        drawn = np.random.default_rng(run).integers(len(vectors), size=DRAWS)
        model = MiniBatchKMeans(len(set(labels)), batch_size=512, n_init=1, random_state=run).fit(vectors[drawn])
        found.append(v_measure_score(labels, model.predict(vectors)))
    return 100 * float(np.mean(found))


def report(name: str, scores: npt.NDArray[np.float64], halves: list[npt.NDArray[np.float64]]) -> None:
    """Print what the intervals of one pair of models are like; ``scores`` are (samples, 2)."""
    differences = scores[:, 1] - scores[:, 0]
    truth = differences.mean()
    bounds = np.array(
        [interval(likely_differences(one, half, DOCUMENTS)) for one, half in zip(differences, halves, strict=True)]
    )
    inside = ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean()
    clear = ((bounds[:, 0] > 0) | (bounds[:, 1] < 0)).mean()
    width = (bounds[:, 1] - bounds[:, 0]).mean() / 2
    print(
        f"{name}: scores {scores[:, 0].mean():.1f} and {scores[:, 1].mean():.1f}, difference {truth:+.2f} "
        f"(sd over samples {differences.std(ddof=1):.2f}), half an interval {width:.2f}, "
        f"holds the truth {100 * inside:.1f} %, leaves out zero {100 * clear:.1f} %"
    )


if __name__ == "__main__":
    main()
