"""Run by a Python with older packages: compare each folder given with the reference in it; print JSON."""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import sentence_transformers
import transformers


def compare(folder):
    reference = json.loads((folder / "embedllm_reference.json").read_text(encoding="utf-8"))["samples"]
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    texts = [sample["text"] * sample["times"] for sample in reference]
    ids = [model.tokenize([text])["input_ids"][0].tolist() for text in texts]
    expected = np.array([sample["vector"] for sample in reference])
    vectors = model.encode(texts, show_progress_bar=False)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return {
        "ids": ids == [sample["ids"] for sample in reference],
        "cosine": float(((vectors * expected).sum(axis=1) / lengths).min()),
    }


folders = {Path(name).name: compare(Path(name)) for name in sys.argv[1:]}
versions = [sentence_transformers.__version__, transformers.__version__]
sys.stdout.write(json.dumps({"versions": versions, "folders": folders}) + "\n")
