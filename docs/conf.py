"""How Sphinx builds these pages: ``python -m sphinx -W --keep-going -n -b html docs docs/_build``."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

import tokenguard

# What is there for Django cannot be imported before it is set up.
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "rest_framework",
        "tokenguard.django",
    ],
)
django.setup()

project = "tokenguard"
author = "the tokenguard authors"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name for it
release = version = tokenguard.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"tokenguard {release}"
html_static_path = html_css_files = ["tables.css"]
toc_object_entries_show_parents = "hide"

autoclass_content = "both"
# A class of which only some members are meant says :no-members: before it lists them, or this would win.
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

# Every reference must lead somewhere, but for what others document; nothing is fetched to build these pages.
nitpicky = True
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(collections|contextlib|datetime|django|enum|flask|ipaddress|logging|rest_framework|sqlalchemy|types|werkzeug)\..+",
    ),
    ("py:class", r"WSGI\w+|Headers|tokenguard\.hooks\.On\w+|(tokenguard\.(flask|django)\.\w+\.)?[BPRV]"),
]


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", _say_nothing_of_tuples)


def _say_nothing_of_tuples(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    # What Python itself writes into a NamedTuple tells nothing that the signature does not.
    lines[:] = [line for line in lines if not line.startswith(("Alias for field number", "Create new instance of"))]
