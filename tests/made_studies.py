"""Studies whose scores follow a formula, on disk as runs leave them."""

import copy
import errno
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedllm.eval.evidence import Evidence
from embedllm.runs import RunFolder, decisive, run_id

CONFIG: dict[str, Any] = {
    "study": "made",
    "seed": 0,
    "runs_dir": "runs",
    "model": {"name": "embedded:tiny", "layers": None, "max_length": 64},
    "prompt": {"template": "{text}", "bos": "auto"},
    "pooling": {"_target_": "embedllm.pooling.MeanPooling", "pool_over": "all", "normalize": True},
    "adapter": {"kind": "lora", "r": 16, "alpha": 32.0, "path": None},
    "data": {"path": "pairs.csv", "label": None, "augment": None},
    "loss": {"_target_": "embedllm.losses.InfoNCE", "temperature": 0.1},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.0002},
    "trainer": {"max_steps": 40, "batch_size": 32, "devices": 1},
    "eval": {"tasks": ["animals.csv", "Twenty"], "max_documents": 128, "dev": [], "select": True},
    "logger": {},
}
HEADS = {"mean": "MeanPooling", "last": "LastTokenPooling", "eos": "EosPooling", "max": "MaxPooling"}
WORTH = {"mean": 3.0, "last": 5.0, "eos": -6.0, "max": -2.0, "none": -4.0, "cluster": 2.0, "cot": 0.0}
TEMPLATES = {"none": "{text}", "cluster": "{text} is of the cluster", "cot": "think: {text}"}


def made_config(pooling: str = "mean", prompt: str = "none", seed: int = 0, **settings: Any) -> dict[str, Any]:
    """Return settings; ``loss__temperature=0.2`` sets one."""
    config = copy.deepcopy(CONFIG)
    config["seed"] = seed
    config["prompt"]["template"] = TEMPLATES.get(prompt, prompt)
    config["pooling"]["_target_"] = f"embedllm.pooling.{HEADS[pooling]}"
    for name, value in settings.items():
        *groups, last = name.split("__")
        node = config
        for group in groups:
            node = node[group]
        node[last] = value
    return config


def make_run(
    study: Path,
    pooling: str = "mean",
    prompt: str = "none",
    seed: int = 0,
    scores: dict[str, float | None] | None = None,
    before: float = 30.0,
    documents: int = 0,
    **settings: Any,
) -> RunFolder:
    """Write a finished run; with ``documents``, also what it keeps of its tasks."""
    config = made_config(pooling, prompt, seed, study=study.name, **settings)
    identity = run_id(config)
    noise = np.random.default_rng(zlib.crc32(json.dumps(decisive(config)).encode()))
    worth = WORTH[pooling] + WORTH.get(prompt, 0.0)
    found = (
        scores
        if scores is not None
        else {task: 40 + worth + 5 * i + float(noise.normal()) for i, task in enumerate(("animals", "Twenty"))}
    )
    folder = RunFolder(study / f"{pooling}-{prompt if prompt in TEMPLATES else 'custom'}-{identity}")
    trained = config["trainer"]["max_steps"] > 0
    of = {"sha256": "ab", "kind": None, "max_documents": config["eval"]["max_documents"]}
    tasks = {}
    for task, score in found.items():
        if score is None:
            tasks[task] = {"error": "HubError: the Hub is away", "of": of}
            continue
        start = before + worth / 2 if trained else None
        tasks[task] = {
            "main_score": score,
            "metric": "v_measure",
            "std": 1.0,
            "of": of,
            "before": start,
            "gain": {"low": score - start - 2, "high": score - start + 2} if start is not None else None,
        }
        if documents:
            _keep(folder, task, {"after": score, **({"before": start} if start is not None else {})}, documents, noise)
    train = {
        "steps": config["trainer"]["max_steps"],
        "seconds": 30.0 + 3 * config["adapter"]["r"] + float(noise.random()),
        "pairs_per_second": 9.0,
        "peak_memory_gb": 2.0,
        "trainable_parameters": 100_000 * config["adapter"]["r"],
        "selection": {
            "tasks": ["dev"],
            "steps": [40],
            "score": 40.0,
            "curve": {str(step): 30 + worth / 2 + step / 10 + float(noise.normal(0, 0.5)) for step in range(0, 41, 10)},
        },
    }
    result = {
        "run_id": identity,
        "study": study.name,
        "status": "done",
        "config": config,
        "choices": {"pooling": pooling, "prompt": prompt if prompt in TEMPLATES else "custom", "model": "tiny"},
        "tasks": tasks,
        "train": train if trained else None,
        "versions": {"torch": "2.13.0", "mteb": "2.26.24"},
        "commit": "c0ffee",
        "hardware": "2 cores",
    }
    folder.create()
    folder.write_result(result)
    return folder


def _keep(folder: RunFolder, task: str, scores: dict[str, float], count: int, noise: np.random.Generator) -> None:
    shared = np.random.default_rng(0).normal(0, 3, (50, 2))  # what all models find hard in the same halves
    labels = np.array([f"label {i % 5}" for i in range(count)])
    for stage, score in scores.items():
        centres = np.random.default_rng(1).normal(0, score / 30, (5, 8))
        Evidence(
            documents=np.array([f"{task}{i:08d}"[:16] for i in range(count)]),
            labels=labels,
            score=np.array(score),
            halves=score + shared + noise.normal(0, 1, (50, 2)),
            components=(centres[np.arange(count) % 5] + noise.normal(0, 0.6, (count, 8))).astype(np.float16),
        ).save(folder.evidence(stage, task))


def close(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing in ``folder`` be opened or looked at, as its mode does for users other than root."""

    def closed(call: Callable[..., Any]) -> Callable[..., Any]:
        def act(path: Path, *given: Any, **named: Any) -> Any:
            if folder in path.parents:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *given, **named)

        return act

    for name in ("stat", "open"):
        monkeypatch.setattr(Path, name, closed(getattr(Path, name)))
