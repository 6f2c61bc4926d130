"""What a sweep of 12 scoring jobs costs beside the jobs' own work: encoding, clustering and intervals.

The sweep is ``python train.py -m`` in a process of its own, from its start to its end. The own work is timed here, with
everything imported and loaded, on the same documents; both sides take turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from embedllm.embedder import Embedder, ModelSpec
from embedllm.eval.specs import parse_specs
from embedllm.pooling import EosPooling, LastTokenPooling, MeanPooling
from embedllm.scoring import score

ROOT = Path(__file__).parents[2]
HEADS = {"mean": MeanPooling, "last": LastTokenPooling, "eos": EosPooling}
PROMPTS = ("none", "cluster", "cot", "eol")


def swept(model: str, documents: int) -> float:
    """Return the seconds of the sweep."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"model.name={model}", f"pooling={','.join(HEADS)}", f"prompt={','.join(PROMPTS)}"]
        words += ["trainer.max_steps=0", "eval.cache=false", "eval.intrinsic=false", f"eval.max_documents={documents}"]
        command = [sys.executable, str(ROOT / "train.py"), "-m", *words, f"runs_dir={folder}", "study=sweep"]
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        return time.perf_counter() - begin


def own_work(model: str, documents: int) -> float:
    """Return the seconds that the 12 jobs encode and score."""
    import yaml

    seconds = 0.0
    for prompt in PROMPTS:
        template = yaml.safe_load((ROOT / "conf" / "prompt" / f"{prompt}.yaml").read_text())["template"]
        for head in HEADS.values():
            embedder = Embedder.from_pretrained(ModelSpec(model), template=template, head=head)
            begin = time.perf_counter()
            score(embedder, parse_specs(["embedded:wordnet_definitions"]), documents, lambda *_: None)
            seconds += time.perf_counter() - begin
    return seconds


def main() -> None:
    """Print the medians and their ratio as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded:smollm2_135m")
    parser.add_argument("--documents", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    warm = Embedder.from_pretrained(ModelSpec("embedded:tiny"))
    score(warm, parse_specs(["embedded:wordnet_definitions"]), 50, lambda *_: None)  # imports
    rounds = [
        (swept(options.model, options.documents), own_work(options.model, options.documents))
        for _ in range(options.rounds)
    ]
    sweep, own = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(json.dumps({"sweep_s": round(sweep, 1), "own_work_s": round(own, 1), "ratio": round(sweep / own, 2)}))


if __name__ == "__main__":
    main()
