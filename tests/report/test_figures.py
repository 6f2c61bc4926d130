"""How figures are written."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from embedllm.report.figures import save_figure

BEGINS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", BEGINS)
def test_the_suffix_decides_the_format_and_folders_are_made(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"figure{suffix}"
    save_figure(Figure(figsize=(1, 1)), path)
    assert path.read_bytes().startswith(BEGINS[suffix])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    figure = Figure(figsize=(1, 1))
    figure.suptitle("$\\nonsense$")
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"


def test_the_same_figure_gives_the_same_svg(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        save_figure(Figure(figsize=(1, 1)), tmp_path / name)
    assert b"dc:date" not in (tmp_path / "a.svg").read_bytes()
