"""How Sphinx builds the documentation: ``make docs``. Nothing is fetched, neither by the build nor by its pages."""

import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

project = "embedllm"
author = "the authors of embedllm"
release = importlib.metadata.version("embedllm")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3  # links such as training.md#loss work as they do in the repository
suppress_warnings = ["myst.header"]  # a study may begin its sections where it likes
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"embedllm {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_copyright = False
html_show_sphinx = False
html_math_renderer = "mathml"


def copy_studies(app: Sphinx, config: object) -> None:
    """Copy the studies and what their pages show to docs/experiments, as Sphinx reads nothing outside of its folder."""
    docs = Path(app.srcdir)
    shutil.rmtree(docs / "experiments", ignore_errors=True)
    for path in (docs.parent / "experiments").rglob("*"):
        if path.suffix in (".md", ".png", ".csv"):
            copy = docs / path.relative_to(docs.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def link_studies(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let links to the studies, which are right in the repository, lead to their pages here."""
    if not docname.startswith("experiments/"):
        source[0] = source[0].replace("](../experiments/", "](experiments/")


def visit_math(translator: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers draw by themselves."""
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=block)
    translator.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the above."""
    app.connect("config-inited", copy_studies)
    app.connect("source-read", link_studies)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
