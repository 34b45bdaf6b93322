"""The matrix: each framework's oldest and newest versions, on the oldest and newest Python.

``nox`` runs all of it; ``make test`` is one run of everything on the Python at hand, which CI does not repeat here.
``nox --session lowest`` takes the oldest version of everything.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import requires, version

import nox
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

nox.options.sessions = ["frameworks"]
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
# uv installs in a fraction of the time; NOX_DEFAULT_VENV_BACKEND=virtualenv is for those who have no index for uv.
nox.options.default_venv_backend = "uv|virtualenv"

# The tests that depend on a framework, a database driver or the version of Python. The browser, raw requests and what
# the samples do besides being guarded are tested once, by make test.
TESTS = [
    "tests/test_django.py",
    "tests/test_django_admin.py",
    "tests/test_django_checks.py",
    "tests/test_django_service.py",
    "tests/test_django_store.py",
    "tests/test_drf.py",
    "tests/test_drf_service.py",
    "tests/test_error_form.py",
    "tests/test_flask.py",
    "tests/test_flask_service.py",
    "tests/test_management.py",
    "tests/test_sample_django.py",
    "tests/test_sqlalchemy_store.py",
    "tests/test_testing.py",
]
# The tests that depend on what else may be installed.
LIBRARIES = ["tests/test_jwt.py", "tests/test_push.py", "tests/test_ratelimits.py"]


@nox.session
@nox.parametrize(
    ("python", "django"),
    [nox.param("3.11", "~= 5.2.0", id="3.11-django5.2"), nox.param("3.13", "~= 6.0", id="3.13-django6")],
)
def frameworks(session: nox.Session, django: str) -> None:
    """Flask and one version of Django on one version of Python; further arguments are pytest's."""
    if os.environ.get("CI") and _is_at_hand(str(session.python), django):
        session.skip("make test has run all of it on these versions")
    session.install("-e", ".[test]", f"Django {django}")
    session.run("python", "-m", "pytest", *session.posargs, *TESTS)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """All that tokenguard needs to run in its oldest version, for a change to that; arguments are pytest's."""
    # In Click 8.1 the runner of the tests mixes both outputs. Commands work there, which these tests cannot show.
    session.install("-e", ".[test]", *_oldest(), "click == 8.2.0")
    session.run("python", "-m", "pytest", *session.posargs, *TESTS, *LIBRARIES)


def _is_at_hand(python: str, django: str) -> bool:
    """Return whether this is such a Python, with such a version of Django."""
    return platform.python_version().startswith(f"{python}.") and version("Django") in SpecifierSet(django)


def _oldest() -> list[str]:
    """Return the oldest versions of what has two bounds in setup.cfg, which is what tokenguard needs to run."""
    needed = [Requirement(text) for text in requires("wsgi-tokenguard") or ()]
    bounds = {each.name: each.specifier for each in needed if "hardening" not in str(each.marker)}
    return [
        f"{name} == {bound.version}"
        for name, both in bounds.items()
        for bound in both
        if len(both) == 2 and bound.operator == ">=" and name != "click"
    ]
