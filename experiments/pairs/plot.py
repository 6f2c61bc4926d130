"""Draw and tabulate the runs of the study: ``python experiments/pairs/plot.py runs/pairs``."""

import csv
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
KINDS = {
    "noise": "words deleted\nand swapped",
    "dropout": "dropout",
    "llm_raw": "language model,\nno gates",
    "llm_gated": "language model,\ngates",
    "nli": "NLI entailments",
    "asset": "ASSET\n(human)",
    "embedded:wikipedia_pairs": "in the package:\nsame article, LLM",
}


def main() -> None:
    """Write ``results.csv`` and ``pairs.png`` beside this file, and print a Markdown table."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(sys.argv[1]).glob("*/result.json"))]
    tasks = sorted({task for result in results for task in result["tasks"]})
    with (HERE / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["pairs", "seed", "before", "after", *tasks])
        for result in results:
            scores = [round(result["tasks"][task]["main_score"], 2) for task in tasks]
            writer.writerow([kind(result), result["config"]["seed"], result["score_before"], result["score"], *scores])
    scores = defaultdict(list)
    for result in results:
        scores[kind(result)].append(result["score"])
    before = statistics.mean(result["score_before"] for result in results)
    draw(scores, before)
    print("| pairs | mean | seeds |\n|---|---:|---|")
    for name in KINDS:
        seeds = ", ".join(f"{score:.1f}" for score in scores[name])
        print(f"| {name} | {statistics.mean(scores[name]):.1f} | {seeds} |")
    print(f"\nBefore the training: {before:.1f}")


def kind(result: dict[str, Any]) -> str:
    """Return the kind of pairs that a run was trained on."""
    return Path(result["config"]["data"]["path"]).stem


def draw(scores: dict[str, list[float]], before: float) -> None:
    """Draw each seed as a dot, the means as bars, and the score before the training as a line."""
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for place, name in enumerate(KINDS):
        axes.hlines(statistics.mean(scores[name]), place - 0.3, place + 0.3, color="#0072b2", linewidth=3)
        axes.plot([place] * len(scores[name]), scores[name], "o", color="#d55e00", alpha=0.8)
    axes.axhline(before, color="0.5", linestyle="--", label="before the training")
    axes.set_xticks(range(len(KINDS)), list(KINDS.values()), fontsize=8)
    axes.set_ylabel("V-measure, mean of four sets")
    axes.set_title("Kinds of pairs: 640 each, 20 steps, three seeds")
    axes.legend()
    figure.savefig(HERE / "pairs.png", dpi=150)


if __name__ == "__main__":
    main()
