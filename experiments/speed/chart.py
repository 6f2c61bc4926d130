"""Draw pairs a second of each side against what the hardware could do: ``python experiments/speed/chart.py``."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
NAMES = {
    "embedllm": "embedllm",
    "mnrl": "sentence-transformers, plain loss",
    "cached": "sentence-transformers, cached loss",
    "paper": "the paper's way",
}
COLOURS = {"embedllm": "#0072b2", "mnrl": "#e69f00", "cached": "#f0c468", "paper": "#999999"}


def main() -> None:
    """Write ``training.png`` out of ``training.jsonl``."""
    rows = [json.loads(line) for line in (HERE / "training.jsonl").read_text(encoding="utf-8").splitlines()]
    settings = list(dict.fromkeys((row["texts"], row["pool"]) for row in rows))
    figure, axes = plt.subplots(1, len(settings), figsize=(2.8 + 4.2 * len(settings), 3.0), layout="constrained")
    for axis, (texts, pool) in zip(axes if len(settings) > 1 else [axes], settings, strict=True):
        shown = {row["side"]: row for row in rows if (row["texts"], row["pool"]) == (texts, pool)}
        sides = [side for side in NAMES if side in shown]
        values = [shown[side]["pairs_per_second"] for side in sides]
        bars = axis.barh(range(len(sides)), values, color=[COLOURS[side] for side in sides])
        axis.bar_label(bars, [f"{value:.1f}" for value in values], padding=3)
        limit = shown["embedllm"]["pairs_per_second"] / shown["embedllm"]["utilisation"]
        axis.axvline(limit, color="black", linestyle="--", linewidth=1)
        axis.text(
            0.98 * limit, len(sides) - 1, f"peak of the\nhardware: {limit:.1f}", ha="right", va="center", fontsize=9
        )
        axis.set_yticks(
            range(len(sides)), [NAMES[side] for side in sides] if axis is figure.axes[0] else [""] * len(sides)
        )
        axis.set_ylim(len(sides) - 0.4, -0.6)
        axis.set_xlim(0, limit * 1.08)
        axis.set_xlabel("pairs a second")
        axis.set_title(f"{texts}, pool of {pool}", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "training.png", dpi=150)


if __name__ == "__main__":
    main()
