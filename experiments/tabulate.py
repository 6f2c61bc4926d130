"""Table and figure of a study: ``python experiments/tabulate.py experiments/pairs runs/pairs --by data.path``.

``results.csv`` in the first folder has a row for each run. Rows that are there stay, so that a study can be made in
parts, on several machines; a run that is made again replaces its row. ``results.png`` shows each seed as a dot.
"""

import argparse
import csv
import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from embedllm.report.tables import flatten

Row = dict[str, str]
Groups = dict[tuple[str, ...], list[Row]]
OUTCOMES = ("before", "after", "seconds", "peak_memory_gb", "hardware", "precision", "commit")


def main() -> None:
    """Write the files, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of results.csv and results.png")
    parser.add_argument("studies", nargs="*", type=Path, help="folders of runs; none: what results.csv has")
    parser.add_argument("--by", nargs="+", required=True, help="settings that tell the runs apart, besides the seed")
    options = parser.parse_args()
    table = options.out / "results.csv"
    rows = read_rows(table)
    for path in sorted(path for study in options.studies for path in study.glob("*/result.json")):
        row = row_of(json.loads(path.read_text(encoding="utf-8")), options.by)
        rows[tuple(row[name] for name in (*options.by, "seed"))] = row
    if not rows:
        parser.error("there is no finished run")
    write_rows(table, list(rows.values()))
    groups: Groups = defaultdict(list)
    for key, row in rows.items():
        groups[key[:-1]].append(row)
    print(markdown(groups, options.by))
    draw(groups, options.by, options.out / "results.png")


def read_rows(path: Path) -> dict[tuple[str, ...], Row]:
    """Return the rows of an earlier call by what tells them apart: all columns up to the seed."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {tuple(list(row.values())[: list(row).index("seed") + 1]): row for row in rows}


def row_of(result: Mapping[str, Any], by: Sequence[str]) -> Row:
    """Return what the table has of a run."""
    train = result["train"] or {}
    values: dict[str, Any] = {
        "before": result["score_before"],
        "after": result["score"],
        "seconds": train.get("seconds"),
        "peak_memory_gb": train.get("peak_memory_gb"),
        "hardware": result["hardware"],
        "precision": train.get("precision"),
        "commit": result["commit"],
    }
    for task, entry in result["tasks"].items():
        values |= {task: entry["main_score"], f"{task} before": entry["before"]}
    settings = {name: setting(result, name) for name in by}
    return settings | {"seed": str(result["config"]["seed"])} | {name: shown(value) for name, value in values.items()}


def setting(result: Mapping[str, Any], name: str) -> str:
    """Return the option of a group, or the value of a setting as YAML has it; of a file its name."""
    if name in result["choices"]:
        return str(result["choices"][name])
    value = flatten(result["config"])[name]
    if value is None:
        return "null"
    return str(value).rpartition("/")[2].removesuffix(".parquet").removeprefix("embedded:")


def shown(value: Any) -> str:
    """Return a number with four decimals at most, a mapping on one line, and nothing for None."""
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return "" if value is None else json.dumps(value) if isinstance(value, dict | list) else str(value)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows; a task that only some of them have is empty in the others."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def markdown(groups: Groups, by: Sequence[str]) -> str:
    """Return the table, the best mean first."""
    lines = [
        f"| {' | '.join(by)} | before | after | sd | seeds | gain | seconds |",
        "|---" * len(by) + "|---:" * 6 + "|",
    ]
    for key, rows in sorted(groups.items(), key=lambda item: -mean(item[1], "after")):
        after = [float(row["after"]) for row in rows]
        spread = f"{statistics.stdev(after):.1f}" if len(after) > 1 else ""
        gain = mean(rows, "after") - mean(rows, "before")
        seconds = f"{mean(rows, 'seconds'):.0f}" if all(row["seconds"] for row in rows) else ""
        numbers = [f"{mean(rows, 'before'):.1f}", f"{mean(rows, 'after'):.1f}", spread, str(len(rows)), f"{gain:+.1f}"]
        lines.append(f"| {' | '.join([*key, *numbers, seconds])} |")
    return "\n".join(lines)


def mean(rows: Sequence[Row], name: str) -> float:
    """Return the mean of a column; a run that was not trained is as good before as after."""
    return statistics.mean(float(row[name] or row["after"]) for row in rows)


def draw(groups: Groups, by: Sequence[str], path: Path) -> None:
    """Draw a line for each group: a dot for each seed, a bar for their mean, a ring for the untrained model."""
    ordered = sorted(groups.items(), key=lambda item: mean(item[1], "after"))
    figure, axes = pyplot.subplots(figsize=(7.5, 1.2 + 0.36 * len(ordered)), layout="constrained")
    for place, (_, rows) in enumerate(ordered):
        before, after = mean(rows, "before"), mean(rows, "after")
        axes.plot([before, after], [place, place], color="0.8", linewidth=2, zorder=1)
        axes.plot(before, place, "o", mfc="white", mec="0.4", label="" if place else "before the training")
        scores = [float(row["after"]) for row in rows]
        axes.plot(
            scores, [place] * len(scores), "o", color="#d55e00", alpha=0.8, label="" if place else "a seed, after it"
        )
        axes.vlines(after, place - 0.3, place + 0.3, color="#0072b2", linewidth=3, label="" if place else "mean")
    axes.set_yticks(range(len(ordered)), [", ".join(key) for key, _ in ordered])
    axes.set_xlabel("V-measure, mean of the tasks")
    axes.set_ylabel(", ".join(by))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False, loc="upper left", bbox_to_anchor=(0, 1.02 + 0.28 / len(ordered)), ncols=3, borderaxespad=0
    )
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
