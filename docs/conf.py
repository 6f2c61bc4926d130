"""How Sphinx builds the documentation: ``make docs``. Nothing is fetched."""

from importlib.metadata import version

project = "embedllm"
author = "the authors of embedllm"
release = version("embedllm")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = False  # torch and numpy have no inventory here

myst_heading_anchors = 3  # links such as training.md#loss work as they do in the repository
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
