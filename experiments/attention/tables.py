"""Tabulate and draw what ``measure.py`` wrote: ``python experiments/attention/tables.py runs/attention/last-*``.

Seeds that ``results.csv`` has already stay in it, so that the study can be made in parts, on several machines.
"""

import argparse
import csv
import json
import statistics
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
TEXT = ("content", "stop", "punctuation")
COLUMNS = {
    "example": "the example: text, last layer",
    "text": "text, last layer",
    "content": "content words, last layer",
    "prompt": "prompt, last layer",
    "text_all": "text, mean of layers",
    "left_out": "text, leave one out",
    "gradient": "text, gradient x input",
    "score": "V-measure",
}

Table = dict[str, dict[str, float]]
"""Numbers by stage and column, in percent."""


def main() -> None:
    """Write ``results.csv`` and ``shift.png``, and print a Markdown table of the means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="runs that were measured; none: what results.csv has")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    results = options.out / "results.csv"
    tables = earlier(results) | {seed(run): table(run / "attention") for run in options.runs}
    if not tables:
        parser.error("there is no measured run")
    with results.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seed", "stage", *COLUMNS])
        for number, found in sorted(tables.items()):
            for stage, row in found.items():
                writer.writerow([number, stage, *(f"{row[column]:.2f}" for column in COLUMNS)])
    stages = list(next(iter(tables.values())))
    print(f"| | {' | '.join(COLUMNS.values())} |\n|---|{'---:|' * len(COLUMNS)}")
    for stage in stages:
        cells = [[found[stage][column] for found in tables.values()] for column in COLUMNS]
        print(f"| {stage} | {' | '.join(cell(numbers) for numbers in cells)} |")
    several = f"means over {len(tables)} seeds, with the lowest and the highest of them"
    print(f"\nPercent; {several if len(tables) > 1 else 'one seed'}.")
    draw(tables, stages, options.out / "shift.png")


def earlier(path: Path) -> dict[int, Table]:
    """Return the tables that an earlier call wrote, by seed."""
    found: defaultdict[int, Table] = defaultdict(dict)
    for row in read(path) if path.exists() else []:
        found[int(row["seed"])][row["stage"]] = {column: float(row[column]) for column in COLUMNS}
    return dict(found)


def seed(run: Path) -> int:
    """Return the seed of a run."""
    return int(json.loads((run / "result.json").read_text(encoding="utf-8"))["config"]["seed"])


def cell(numbers: list[float]) -> str:
    """Return a mean with its range."""
    mean = f"{statistics.mean(numbers):.1f}"
    return mean if len(numbers) == 1 else f"{mean} ({min(numbers):.1f} to {max(numbers):.1f})"


def table(folder: Path) -> Table:
    """Return the numbers of one run."""
    found: defaultdict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(COLUMNS, 0.0))
    example, corpus = read(folder / "example.csv"), read(folder / "corpus.csv")
    last = max(int(row["layer"]) for row in example if row["layer"])
    layers = len({row["layer"] for row in corpus if row["layer"]})
    for row in example:
        in_layer = row["measure"] == "attention" and row["layer"] == str(last) and row["head"] == "mean"
        if in_layer and row["kind"] in TEXT:
            found[row["stage"]]["example"] += 100 * float(row["value"])
    for row in corpus:
        numbers, share = found[row["stage"]], 100 * float(row["share"])
        if row["kind"] in TEXT:
            if row["measure"] == "attention":
                numbers["text_all"] += share / layers
                numbers["text"] += share * (row["layer"] == str(last))
            else:
                numbers["left_out" if row["measure"] == "left_out" else "gradient"] += share
        if row["kind"] in ("content", "prompt") and row["layer"] == str(last):
            numbers[row["kind"]] = share
    scores = read(folder / "scores.csv")
    tasks = len({row["task"] for row in scores})
    for row in scores:
        found[row["stage"]]["score"] += float(row["score"]) / tasks
    return dict(found)


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a csv file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def draw(tables: dict[int, Table], stages: list[str], path: Path) -> None:
    """Draw the share of the text by each measure, and the score, along the training: a line a seed, and the mean."""
    panels = ("text", "left_out", "gradient", "score")
    figure, axes = pyplot.subplots(1, len(panels), figsize=(13, 3.4), layout="constrained")
    for axis, column in zip(axes, panels, strict=True):
        lines = [[found[stage][column] for stage in stages] for found in tables.values()]
        for line in lines:
            axis.plot(line, color="#0072b2", alpha=0.35, linewidth=1)
        axis.plot([statistics.mean(values) for values in zip(*lines, strict=True)], color="#d55e00", marker="o")
        names = [stage.removeprefix("step ") for stage in stages]
        axis.set_xticks(range(len(stages)), names, rotation=30, fontsize=8)
        axis.set_title(COLUMNS[column] + ("" if column == "score" else ", %"), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(y=0.2)
    figure.suptitle(
        "What the text has of the pooled position's attention, and of the vector, along the training (steps)"
    )
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
