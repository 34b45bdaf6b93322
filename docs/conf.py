"""How Sphinx builds these pages: ``python -m sphinx -W --keep-going -n -b html docs docs/_build``."""

from __future__ import annotations

import tokenguard

project = "tokenguard"
author = "the tokenguard authors"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name for it
release = version = tokenguard.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"tokenguard {release}"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

nitpicky = True
