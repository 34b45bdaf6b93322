"""What an error keeps of the frames that it has passed through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings

from tokenguard.django.conf import SettingError, load, load_options, service
from tokenguard.frames import clear_frames

from .canaries import shown
from .keys import KEY

SECRET = "tg_a-secret"
#: A function of some module that fails while a variable holds the secret.
CODE = """
def fail():
    held = "-".join(["tg_a", "secret"])
    raise ValueError("no")
"""


def caught(module: str = "tokenguard.pretended") -> Exception:
    names: dict[str, Any] = {"__name__": module}
    exec(CODE, names)
    with pytest.raises(ValueError, match="no") as failed:
        names["fail"]()
    return failed.value


def plain() -> BaseException:
    return caught()


def while_another_was_handled() -> BaseException:
    other = KeyError("outer")
    other.__context__ = caught()
    return other


def from_another_that_was_not_being_handled() -> BaseException:
    with pytest.raises(KeyError) as failed:
        raise KeyError("outer") from caught()
    assert failed.value.__context__ is None
    return failed.value


def from_another_behind_two_more() -> BaseException:
    middle = KeyError("middle")
    middle.__cause__, middle.__context__ = caught(), KeyError("beside it")
    outer = KeyError("outer")
    outer.__context__ = middle
    return outer


def one_of_a_group() -> BaseException:
    return ExceptionGroup("several", [KeyError("one"), caught()])


def in_a_circle() -> BaseException:
    one, other = KeyError("one"), caught()
    one.__cause__, other.__context__ = other, one
    return one


@pytest.mark.parametrize(
    "made",
    [
        plain,
        while_another_was_handled,
        from_another_that_was_not_being_handled,
        from_another_behind_two_more,
        one_of_a_group,
        in_a_circle,
    ],
)
def test_no_error_that_is_shown_with_it_holds_what_our_frames_held(made: Callable[[], BaseException]) -> None:
    error = made()
    assert SECRET in shown(error)
    clear_frames(error)
    assert SECRET not in shown(error)


def test_what_the_services_own_frames_hold_stays_to_be_seen() -> None:
    error = caught("tokenguards_user.views")
    clear_frames(error)
    assert SECRET in shown(error)


@pytest.mark.parametrize("read", [load, load_options, service])
def test_an_error_in_djangos_settings_does_not_show_the_signing_key(read: Callable[[], object]) -> None:
    with override_settings(TOKENGUARD={"SIGNING_KEY": KEY, "PROXIES": "many"}):
        with pytest.raises(SettingError, match="PROXIES") as failed:
            read()
        assert KEY not in shown(failed.value)
