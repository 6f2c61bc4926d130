"""Draw development scores against steps: ``python experiments/steps/curve.py runs/study_steps/last-*``.

``curve.csv`` has a row for each seed and step; rows of earlier calls stay, so that seeds can be added.
"""

import argparse
import csv
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent


def main() -> None:
    """Write ``curve.csv`` and ``curve.png``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="finished runs; none: what curve.csv has")
    scores: dict[tuple[int, int], float] = {}
    table = HERE / "curve.csv"
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            scores |= {(int(row["seed"]), int(row["step"])): float(row["score"]) for row in csv.DictReader(file)}
    for run in parser.parse_args().runs:
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        seed = result["config"]["seed"]
        scores |= {(seed, int(step)): score for step, score in result["train"]["selection"]["curve"].items()}
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seed", "step", "score"])
        writer.writerows([seed, step, f"{score:.4f}"] for (seed, step), score in sorted(scores.items()))
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for seed in sorted({seed for seed, _ in scores}):
        steps = sorted(step for number, step in scores if number == seed)
        axes.plot(steps, [scores[seed, step] for step in steps], "o-", label=f"seed {seed}")
    axes.set_xlabel("steps of 32 pairs")
    axes.set_ylabel("V-measure, mean of two sets")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(HERE / "curve.png", dpi=150)


if __name__ == "__main__":
    main()
