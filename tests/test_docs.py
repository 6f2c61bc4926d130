"""The documentation builds without a warning, and its pages fetch nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import embedllm

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("html")
    words = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built(built: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in built.glob("*.html")}


def test_every_study_is_a_page(built: Path) -> None:
    studies = {path.parent.name for path in (ROOT / "experiments").glob("*/README.md")}
    assert studies == {path.parent.name for path in built.glob("experiments/*/README.html")}


def test_the_reference_has_what_the_package_exports(built: Path) -> None:
    found = re.findall(r'id="([\w.]+)"', (built / "api.html").read_text(encoding="utf-8"))
    exported = [name for name in embedllm.__all__ if not name.startswith("_")]
    assert set(exported) <= {name.rpartition(".")[2] for name in found}


def test_no_page_fetches_anything(built: Path) -> None:
    for path in built.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="https?://[^"]+"', text), path.name
