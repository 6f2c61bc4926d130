"""Print the tables of the study: ``python tables.py HEADS.csv DEPTHS.csv [MORE.csv]``, the rankings of its scans."""

import csv
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

SETTINGS = ("prompt", "pooling", "pool_over", "layers", "centring")
HEADS = ("mean", "weighted_mean", "last", "eos", "concat", "max")


def read(path: Path) -> list[Row]:
    """Return the rows of a ranking, numbers as numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tasks = [name for name in rows[0] if name not in (*SETTINGS, "model", "score")]
    return [
        {
            **{name: row[name] for name in ("prompt", "pooling", "pool_over")},
            "layers": int(row["layers"]),
            "centring": row["centring"] == "true",
            "tasks": {name: float(row[name]) for name in tasks},
            "score": float(row["score"]),
        }
        for row in rows
    ]


def find(rows: Iterable[Row], **settings: Any) -> list[Row]:
    """Return the rows that have these settings."""
    return [row for row in rows if all(row[name] == value for name, value in settings.items())]


def grid(title: str, down: Sequence[Any], across: Sequence[Any], score: Callable[[Any, Any], float | None]) -> None:
    """Print a Markdown table; the best of each row is bold."""
    print(f"| {title} | " + " | ".join(map(str, across)) + " |")
    print("|---|" + "---:|" * len(across))
    for row in down:
        values = [score(row, column) for column in across]
        best = max((value for value in values if value is not None), default=None)
        cells = ["" if v is None else f"**{v:.1f}**" if v == best else f"{v:.1f}" for v in values]
        print(f"| {row} | " + " | ".join(cells) + " |")
    print()


def one(rows: Iterable[Row], **settings: Any) -> float | None:
    """Return the score of the one row with these settings; None if there is none."""
    found = find(rows, **settings)
    return found[0]["score"] if found else None


def effect(rows: Sequence[Row], name: str, before: Any, after: Any) -> str:
    """Say what a change of one setting does to the cells that differ in nothing else, task by task."""
    others = [key for key in SETTINGS if key != name]
    first = {tuple(row[key] for key in others): row for row in find(rows, **{name: before})}
    second = {tuple(row[key] for key in others): row for row in find(rows, **{name: after})}
    both = [key for key in first if key in second]
    if not both:
        return "no cells"
    changes = [second[key]["tasks"][task] - first[key]["tasks"][task] for key in both for task in first[key]["tasks"]]
    better = sum(change > 0 for change in changes)
    return (
        f"{statistics.mean(changes):+.1f} on average, {statistics.median(changes):+.1f} in the middle, "
        f"better in {better} of {len(changes)} (cell, set) pairs"
    )


def main(paths: Sequence[str]) -> None:
    """Print all tables."""
    heads, depths, *more = (read(Path(path)) for path in paths)
    deepest = max(row["layers"] for row in heads)
    last = {"layers": deepest, "centring": False, "pool_over": "all"}
    prompts = sorted({row["prompt"] for row in heads}, key=lambda p: -max(r["score"] for r in find(heads, prompt=p)))
    print("Heads and prompts, last layer, raw\n")
    grid("prompt", prompts, HEADS, lambda prompt, head: one(heads, prompt=prompt, pooling=head, **last))
    print("The same, centred\n")
    centred = {**last, "centring": True}
    grid("prompt", prompts, HEADS, lambda prompt, head: one(heads, prompt=prompt, pooling=head, **centred))

    layers = sorted({row["layers"] for row in depths})
    names = list(dict.fromkeys((row["prompt"], row["pooling"]) for row in sorted(depths, key=lambda r: r["prompt"])))
    for centring in (False, True):
        print(f"Layers, {'centred' if centring else 'raw'}\n")
        grid(
            "prompt, head",
            [f"{prompt}, {head}" for prompt, head in names],
            layers,
            lambda name, layer, centring=centring: one(
                depths,
                prompt=name.split(", ")[0],
                pooling=name.split(", ")[1],
                layers=layer,
                centring=centring,
                pool_over="all",
            ),
        )

    print("Centring\n")
    for name, rows in (("heads, last layer", heads), ("layers", depths)):
        print(f"* {name}: {effect(rows, 'centring', False, True)}")
        for head in HEADS:
            if found := find(rows, pooling=head):
                print(f"  * {head}: {effect(found, 'centring', False, True)}")
    print("\nWhat is pooled over, last layer\n")
    for over in ("text", "suffix"):
        for head in HEADS:
            if find(heads, pooling=head, pool_over=over):
                print(f"* {head}, {over} instead of all: {effect(find(heads, pooling=head), 'pool_over', 'all', over)}")
    for rows in more:
        print("\nWhat is pooled over, by layer\n")
        grid(
            "pooled over",
            ["all", "text", "suffix"],
            sorted({row["layers"] for row in rows}),
            lambda over, layer, rows=rows: one(rows, pool_over=over, layers=layer, centring=True),
        )
    print("Some cells, set by set (last layer)\n")
    tasks = list(heads[0]["tasks"])
    chosen = [
        ("mean", "none"),
        ("last", "none"),
        ("eos", "none"),
        ("last", "cluster"),
        ("last", "ccw"),
        ("last", "cot"),
    ]
    for centring in (False, True):
        cells = [
            (f"{head}, {prompt}{', centred' if centring else ''}", find(heads, pooling=head, prompt=prompt, **settings))
            for head, prompt in (
                chosen if not centring else [("last", "cot"), ("concat", "cot"), ("weighted_mean", "cot")]
            )
            for settings in ({**last, "centring": centring},)
        ]
        print("| head, prompt | " + " | ".join(tasks) + " | mean |\n|---|" + "---:|" * (len(tasks) + 1))
        for name, (row,) in cells:
            scores = [*row["tasks"].values(), row["score"]]
            print(f"| {name} | " + " | ".join(f"{score:.1f}" for score in scores) + " |")
        print()
    print("The best of each set, and overall\n")
    everything = [row for rows in (heads, depths, *more) for row in rows]
    for task in [*tasks, "mean"]:
        key = (lambda row: row["score"]) if task == "mean" else (lambda row, task=task: row["tasks"][task])
        best = max(everything, key=key)
        print(f"* {task}: {key(best):.1f} with " + ", ".join(f"{name} {best[name]}" for name in SETTINGS))


if __name__ == "__main__":
    main(sys.argv[1:])
