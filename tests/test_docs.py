"""The documentation builds without a warning, and its pages are there."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("html")
    words = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built(built: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in built.glob("*.html")}


def test_the_reference_has_what_the_package_exports(built: Path) -> None:
    import embedllm

    text = (built / "api.html").read_text(encoding="utf-8")
    assert all(f'id="embedllm.{name}"' in text or f"{name}" in text for name in embedllm.__all__ if name[0] != "_")


def test_no_page_fetches_anything(built: Path) -> None:
    import re

    for path in built.glob("*.html"):
        found = re.findall(
            r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]+)"', path.read_text(encoding="utf-8")
        )
        assert not found, f"{path.name}: {found}"
