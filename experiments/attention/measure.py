"""Measure runs of the study: ``python experiments/attention/measure.py runs/attention/last-*``.

What is there already is not made again.
"""

import argparse
import os
import sys
from pathlib import Path

from embedllm.analysis.stages import opened, sources
from embedllm.cli import main as embedllm
from embedllm.eval.score import score_tasks
from embedllm.eval.specs import parse_specs
from embedllm.runs import replace_text

EXAMPLE = "a man is driving a car"


def main() -> None:
    """Write ``attention/`` into each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--sentences", type=int, default=500)
    parser.add_argument("--attribute", type=int, default=40, help="of the sentences; default: 40")
    parser.add_argument("--documents", type=int, default=512, help="of each scored task; default: 512")
    options = parser.parse_args()
    data = os.environ.get("EMBEDLLM_DATA")
    if data is None:
        sys.exit("EMBEDLLM_DATA: name the folder that experiments/DATA.md describes")
    corpus = ["--corpus", f"{data}/sts_stsb_dev.csv", "--column", "sentence1"]
    corpus += ["--max-texts", str(options.sentences), "--attribute", str(options.attribute)]
    for run in options.runs:
        folder = run / "attention"
        folder.mkdir(exist_ok=True)
        for name, arguments in {"example": ["--text", EXAMPLE], "corpus": corpus}.items():
            figure = folder / f"{name}.png"
            if not figure.exists() and embedllm(["attention", str(run), *arguments, "-o", str(figure)]):
                sys.exit(1)
        if not (folder / "scores.csv").exists():
            write_scores(run, folder / "scores.csv", data, options.documents)


def write_scores(run: Path, path: Path, data: str, documents: int) -> None:
    """Score every stage of a run."""
    specs = parse_specs(["embedded:wordnet_definitions", f"{data}/cluster_stackoverflow20.csv"], "EMBEDLLM_DATA")
    lines = ["stage,task,score"]
    for source in sources(str(run)):
        with opened(source) as embedder:
            scores = score_tasks(embedder, specs, max_documents=documents)
        lines += [f'"{source.label}",{task},{entry["main_score"]:.4f}' for task, entry in scores.items()]
        print("\n".join(lines[-len(specs) :]))
    replace_text(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
