"""Made-up mirrors of mteb's tasks, one for each shape that their data have."""

import csv
import gzip
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Splits = dict[str, dict[str, list[Any]]]
WORDS = {"fish": ("trout", "salmon", "carp"), "tree": ("oak", "birch", "pine"), "star": ("vega", "rigel", "deneb")}
MESSY = ('a "quoted" one, with a comma', " leading and trailing ", "two\nlines", "Ünïcode ✓", "12")


def write(path: Path, columns: Mapping[str, list[Any]]) -> None:
    """Write a table in the format that the name ends in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(dict(columns)), path)
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".jsonl" in path.suffixes:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(columns), delimiter="\t" if ".tsv" in path.suffixes else ",")
            writer.writeheader()
            writer.writerows(rows)


def documents(number: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return texts, no two alike, and their labels."""
    rng = random.Random(seed)
    labels = [rng.choice(list(WORDS)) for _ in range(number)]
    texts = [f"{' '.join(rng.choices((*WORDS[label], 'the', 'sea'), k=4))} {n}" for n, label in enumerate(labels)]
    return [*MESSY, *texts[len(MESSY) :]], labels


def clustered(number: int = 400, labels: Callable[[str], Any] = str) -> Splits:
    texts, names = documents(number)
    return {"test": {"sentences": texts, "labels": [labels(name) for name in names]}}


def in_sets(flat: Splits, size: int = 90) -> Splits:
    columns = flat["test"]
    return {"test": {name: [values[:size], values[size : 2 * size]] for name, values in columns.items()}}


def classified(label: Callable[[str], Any] = str) -> Splits:
    halves: Splits = {}
    for seed, split in enumerate(("train", "test")):
        texts, names = documents(90, seed)
        halves[split] = {"text": texts, "label": [label(name) for name in names]}
    return halves


def paired(target: str, values: Callable[[random.Random, int], Any]) -> Splits:
    rng = random.Random(3)
    columns: dict[str, list[Any]] = {"sentence1": [], "sentence2": [], target: []}
    for number in range(60):
        first = rng.choices([word for words in WORDS.values() for word in words], k=5)
        kept = rng.randrange(6)
        columns["sentence1"].append(f"{' '.join(first)} {number}")
        columns["sentence2"].append(f"{' '.join(first[:kept] + rng.choices(('sea', 'moon'), k=5 - kept))} {number}")
        columns[target].append(values(rng, kept))
    return {"test": columns}


NUMBER = {"fish": 0, "star": 1, "tree": 2}
SCORED = paired("score", lambda rng, kept: round(kept + rng.random() / 2, 3) - 0.5)
LABELLED = paired("labels", lambda rng, kept: int(kept + rng.random() > 3))
CASES: dict[str, tuple[str, str, dict[str, Splits]]] = {
    "texts as labels": ("TwentyNewsgroupsClustering.v2", ".csv", {"": clustered()}),
    "numbers as labels": ("StackExchangeClustering.v2", ".csv", {"": clustered(labels=NUMBER.__getitem__)}),
    "minus one": ("RedditClustering.v2", ".tsv", {"": clustered(labels=lambda name: NUMBER[name] - 1)}),
    "two levels": ("ArXivHierarchicalClusteringS2S", ".jsonl", {"": clustered(labels=lambda name: [name[0], name])}),
    "some of one level": (
        "ArXivHierarchicalClusteringP2P",
        ".parquet",
        {"": clustered(labels=lambda name: [name[0], name][: 1 + (name == "fish")])},
    ),
    "sets": ("BiorxivClusteringS2S", ".jsonl.gz", {"": in_sets(clustered())}),
    "sets of numbers": ("TwentyNewsgroupsClustering", ".parquet", {"": in_sets(clustered(labels=NUMBER.get))}),
    "one subset": ("MasakhaNEWSClusteringS2S", ".jsonl", {"eng": in_sets(clustered())}),
    "one subset, no folder": ("SIB200ClusteringS2S", ".csv.gz", {"": clustered(120)}),
    "two subsets": (
        "ClusTREC-Covid",
        ".csv",
        {"title and abstract": clustered(), "title": clustered(labels=lambda name: name[::-1])},
    ),
    "classes as texts": ("Banking77Classification", ".csv", {"": classified()}),
    "classes as numbers": ("EmotionClassification", ".tsv.gz", {"": classified(NUMBER.__getitem__)}),
    "two classes": ("ToxicConversationsClassification", ".csv", {"": classified(lambda name: int(name == "fish"))}),
    "classes of a subset": ("MassiveScenarioClassification", ".parquet", {"en": classified()}),
    "scores": ("STS12", ".csv", {"": SCORED}),
    "scores of a subset": ("STS17", ".parquet", {"": SCORED}),
    "pairs": ("TwitterSemEval2015", ".csv", {"": LABELLED}),
    "pairs in one row": (
        "SprintDuplicateQuestions",
        ".jsonl",
        {"": {"test": {name: [values] for name, values in LABELLED["test"].items()}}},
    ),
}


def build(mirror: Path, case: str) -> str:
    """Write the mirror of a case and return the task's name."""
    name, ending, subsets = CASES[case]
    for subset, splits in subsets.items():
        for split, columns in splits.items():
            write(mirror / name / subset / f"{split}{ending}", columns)
    return name
