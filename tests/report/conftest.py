"""Studies on disk."""

import itertools
from pathlib import Path

import pytest
from made_studies import make_run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two heads, two prompts, two seeds."""
    return _made(tmp_path / "made", 0)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The same, with what runs keep of their tasks."""
    return _made(tmp_path / "made", 60)


def _made(folder: Path, documents: int) -> Path:
    for pooling, prompt, seed in itertools.product(("mean", "last"), ("none", "cluster"), range(2)):
        make_run(folder, pooling, prompt, seed, documents=documents)
    return folder
