"""What a result must name to be repeated: versions, the commit and the hardware. Imports none of what it names."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("embedllm", "torch", "transformers", "tokenizers", "peft", "lightning", "mteb", "numpy", "scikit-learn")

VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "ATEN_CPU_CAPABILITY")
"""Environment variables that decide what computes, and how exactly."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a score."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the commit of the checkout that this package runs from, with ``-dirty`` if files differ; else None."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():  # installed as a wheel: a git repository further up is another project's
        return None
    try:
        name = _git(here, "rev-parse", "HEAD")
        return name + ("-dirty" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def hardware() -> str:
    """Return the accelerators, or the processor and its cores."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, {_processor()}"


def threads() -> int:
    """Return how many threads compute on the processor; rounding depends on it."""
    import torch

    return int(torch.get_num_threads())


def environment() -> dict[str, str]:
    """Return those of :data:`VARIABLES` that are set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
