from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from tokenguard import forks
from tokenguard.forks import in_children

from .child import in_child


class Worker:
    """An object that must be told when it is in a child."""

    def __init__(self, told: list[str], name: str) -> None:
        self._told, self._name = told, name
        in_children(self.start)

    def start(self) -> None:
        self._told.append(self._name)


def test_nothing_is_kept_of_who_is_gone() -> None:
    gc.collect()
    before = len(forks._starts)
    workers = [Worker([], "gone") for _ in range(100)]
    assert len(forks._starts) == before + 100
    workers.clear()
    gc.collect()
    assert len(forks._starts) == before


def test_nothing_is_said_where_a_class_goes_with_its_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at exit, where Python would write its complaints into the output of a command."""
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    class Gone:
        start: Any

    gone: Any = Gone()
    gone.itself = gone
    Gone.start = lambda self: None
    in_children(gone.start)
    del gone, Gone
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_one_that_cannot_start_keeps_no_other_from_it(
    caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """Nor does a signal whose handler raises: Python lets no exception out of a function that it calls after a fork."""

    class Failing(Worker):
        def start(self) -> None:
            raise kind("of this one")

    told: list[str] = []
    workers = [Worker(told, "first"), Failing(told, ""), Worker(told, "second")]
    told_in_child, log = in_child(lambda: (told, caplog.text))
    assert (told_in_child, told) == (["first", "second"], [])
    assert "of this one" in log
    workers.clear()


@pytest.fixture
def uwsgi(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that uWSGI has in its processes; uWSGI calls its ``post_fork_hook``, and none of Python's hooks."""
    module = ModuleType("uwsgi")
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    monkeypatch.setitem(sys.modules, "uwsgidecorators", None)
    return module


def test_a_worker_of_uwsgi_is_told_that_it_is_a_child(uwsgi: Any) -> None:
    told: list[str] = []
    first, second = Worker(told, "first"), Worker(told, "second")
    uwsgi.post_fork_hook()
    assert sorted(told) == ["first", "second"]
    del first
    uwsgi.post_fork_hook()
    assert sorted(told) == ["first", "second", "second"]
    del second


def test_there_may_be_any_number_of_them_in_a_worker_of_uwsgi(uwsgi: Any) -> None:
    told: list[str] = []
    workers = [Worker(told, "one of many") for _ in range(sys.getrecursionlimit())]
    uwsgi.post_fork_hook()
    assert len(told) == len(workers)
    workers.clear()


def test_the_services_own_hook_is_called_last(uwsgi: Any) -> None:
    told: list[str] = []
    uwsgi.post_fork_hook = partial(told.append, "the service's")  # a partial, as ours is
    worker = Worker(told, "ours")
    uwsgi.post_fork_hook()
    assert told == ["ours", "the service's"]
    del worker


@pytest.fixture
def decorators(uwsgi: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    """uWSGI's own ``uwsgidecorators``, which sets uWSGI's hooks on its first import, whoever imports it."""
    monkeypatch.delitem(sys.modules, "uwsgidecorators")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "uwsgidecorators.py").write_text(
        "import uwsgi\ntold = []\nuwsgi.post_fork_hook = lambda: told.append('a decorated function')\n"
        "uwsgi.spooler = uwsgi.mule_msg_hook = None\n"
    )
    yield
    sys.modules.pop("uwsgidecorators", None)


@pytest.mark.usefixtures("decorators")
def test_uwsgis_decorators_do_not_take_the_place_of_ours(uwsgi: Any) -> None:
    told: list[str] = []
    worker = Worker(told, "ours")
    found = __import__("uwsgidecorators")
    uwsgi.post_fork_hook()
    assert [*told, *found.told] == ["ours", "a decorated function"]
    del worker


@pytest.mark.usefixtures("decorators")
def test_nor_do_they_take_the_place_of_what_the_service_has_set(uwsgi: Any) -> None:
    told: list[str] = []
    uwsgi.post_fork_hook, uwsgi.spooler = (lambda: told.append("the service's")), "the service's"
    workers = [Worker(told, "ours"), Worker(told, "ours")]
    found = __import__("uwsgidecorators")
    uwsgi.post_fork_hook()
    assert (told, uwsgi.spooler) == (["ours", "ours", "the service's"], "the service's")
    assert found.told == ["a decorated function"]
    workers.clear()


def test_uwsgi_without_a_master_has_none_of_these_decorators(uwsgi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their module is there but refuses to be imported, which must not keep a service from starting."""

    class Refusing:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "uwsgidecorators":
                raise Exception("you have to enable the uWSGI master process to use this module")

    monkeypatch.delitem(sys.modules, "uwsgidecorators")
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    told: list[str] = []
    worker = Worker(told, "ours")
    uwsgi.post_fork_hook()
    assert told == ["ours"]
    del worker
