"""How a figure of matplotlib becomes a file."""

import io
import warnings
from pathlib import Path
from typing import Any

from embedllm.runs import replace_bytes

DPI = 150


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure in the format of its suffix; a reader sees the old file or the new one, never a part.

    The same figure gives the same SVG on another day. Tokens in scripts that the font lacks are drawn as boxes, without
    a warning.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, buffer = path.suffix.removeprefix("."), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    replace_bytes(path, buffer.getvalue())
