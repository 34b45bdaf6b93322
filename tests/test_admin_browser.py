"""The admin as an operator uses it: Chromium, a real server, the API called with what was copied."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from sample_flask.playground import Serving, gunicorn

from .conftest import KEY
from .server import Server
from .test_django_admin import default_database

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route

CHROMIUM = shutil.which("chromium")
PASSWORD = "of this test alone"
PHONE = {"width": 390, "height": 844}
EVIL = "<img src=x onerror=document.title='owned'>"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="there is no chromium on the PATH to drive"
)


@dataclass
class Running:
    """The service with its admin, and what it has logged."""

    url: str
    serving: Serving

    def status(self, token: str) -> int:
        """The status with which the API answers a token."""
        port = urlsplit(self.url).port
        assert port is not None
        return Server(port, self.serving.log).get("/read", token).status


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("browser") / "admin.db"
    with default_database(path):
        call_command("migrate", verbosity=0)
        User.objects.create_superuser("ada", password=PASSWORD)
    environ = os.environ | {"TOKENGUARD_DATABASE_URL": f"sqlite:///{path}", "TOKENGUARD_SIGNING_KEY": KEY}
    # One worker, which knows at once what it has revoked itself.
    options = ["--threads", "4"]
    with gunicorn("django.core.wsgi:get_wsgi_application()", environ, workers=1, options=options) as serving:
        yield Running(serving.url, serving)


@pytest.fixture(scope="module")
def chromium(running: Running) -> Iterator[Browser]:
    # Started after ``running``: from here on the thread has an event loop, in which Django refuses to use a database.
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "the browser's tests are not skipped where CI is set: install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, running: Running) -> Iterator[BrowserContext]:
    context = chromium.new_context(base_url=running.url, viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    log_in(page)
    yield page
    assert [said for said in wrong if "Failed to load resource" not in said] == []


def log_in(page: Page) -> None:
    page.goto("/admin/")
    page.fill("#id_username", "ada")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.get_by_role("link", name="Tokens").first.wait_for()


def register(page: Page, name: str) -> None:
    page.goto("/admin/tokenguard/client/add/")
    page.fill("#id_name", name)
    page.check("input[value='users:manage']")
    page.click("input[value=Register]")


def copied(page: Page) -> str:
    """Press the button, and read the clipboard."""
    page.click("button.tg-copy")
    page.get_by_text("Copied.").wait_for()
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def shot(page: Page, name: str) -> None:
    """Take pictures for people to look at, if ADMIN_SHOTS names a folder for them."""
    folder = os.environ.get("ADMIN_SHOTS")
    if folder is None:
        return
    desk = page.viewport_size
    assert desk is not None
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for kind, size in (("desk", desk), ("phone", PHONE)):
            page.set_viewport_size({"width": size["width"], "height": size["height"]})
            page.wait_for_timeout(500)  # until colours have changed
            page.screenshot(path=Path(folder) / f"{name}-{scheme}-{kind}.png", full_page=True)
    page.set_viewport_size(desk)


def test_the_life_of_a_token(page: Page, running: Running) -> None:
    register(page, "billing")
    page.get_by_text("The client billing is registered").wait_for()
    shot(page, "client")

    page.click("text=Issue a token")
    page.fill("#id_name", "nightly export")
    page.check("input[value='users:read']")
    shot(page, "issue")
    page.click("input[value=Issue]")
    shot(page, "issued")
    first = copied(page)
    assert re.fullmatch(r"tg_[0-9A-Za-z]{16}_[0-9A-Za-z]{75}", first)
    assert running.status(first) == 200

    # The browser asks whether to send the form again; saying yes issues no second token.
    page.reload()
    page.get_by_text("This form was sent before").first.wait_for()
    assert first[20:] not in page.content()
    shot(page, "shown-before")
    page.goto("/admin/tokenguard/token/")
    assert page.locator("#result_list tbody tr").count() == 1

    page.click(f"text={first.split('_')[1]}")
    page.get_by_text("users:read").first.wait_for()
    shot(page, "token")
    page.click("text=Rotate")
    shot(page, "rotate")
    page.click("input[value=Rotate]")
    shot(page, "rotated")
    second = copied(page)
    assert second != first
    assert (running.status(first), running.status(second)) == (200, 200)

    page.goto("/admin/tokenguard/token/")
    for token in (first, second):
        page.check(f"input[value='{token.split('_')[1]}']")
    page.select_option("select[name=action]", "revoke_selected")
    shot(page, "list")
    page.click("button[name=index]")
    shot(page, "revoke")
    page.click("input[value=Revoke]")
    page.get_by_text("are revoked").wait_for()
    assert (running.status(first), running.status(second)) == (401, 401)
    page.goto("/admin/tokenguard/client/")
    shot(page, "clients")
    page.goto(f"/admin/tokenguard/token/{second.split('_')[1]}/history/")
    shot(page, "history")
    log = "".join(running.serving.log)
    assert first[20:] not in log
    assert second[20:] not in log


def test_without_javascript(chromium: Browser, running: Running) -> None:
    context = chromium.new_context(base_url=running.url, java_script_enabled=False)
    try:
        page = context.new_page()
        log_in(page)
        register(page, "without scripts")
        page.click("text=Issue a token")
        page.check("input[value='users:read']")
        page.click("input[value=Issue]")
        assert running.status(page.locator(".tg-secret code").inner_text()) == 200
        assert not page.locator("button.tg-copy").is_visible()
    finally:
        context.close()


def test_where_the_clipboard_is_refused_the_text_is_selected(page: Page, running: Running) -> None:
    register(page, "without a clipboard")
    page.click("text=Issue a token")
    page.check("input[value='users:read']")
    page.click("input[value=Issue]")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject() }")
    page.click("button.tg-copy")
    page.get_by_text("copy it with the keyboard").wait_for()
    assert page.evaluate("getSelection().toString()") == page.locator(".tg-secret code").inner_text()


def test_names_run_no_script(page: Page) -> None:
    register(page, EVIL)
    page.get_by_text(f"The client {EVIL} is registered").wait_for()
    page.click("text=Issue a token")
    page.fill("#id_name", EVIL)
    page.check("input[value='users:read']")
    page.click("input[value=Issue]")
    page.locator(".tg-secret").wait_for()
    for url in ("/admin/tokenguard/token/", "/admin/tokenguard/client/", "/admin/"):
        page.goto(url)
        page.wait_for_load_state()
        assert page.title() != "owned"


def test_the_back_button_does_not_undo_what_others_did(page: Page, context: BrowserContext) -> None:
    """On the way back, Chromium loads the page again, and would tick the boxes as they were before."""
    register(page, "seen before")
    client = page.url
    page.goto("/admin/")
    other = context.new_page()
    other.goto(client)
    other.uncheck("#id_enabled")
    other.uncheck("input[value='users:manage']")
    other.check("input[value='users:read']")
    other.click("input[value=Save]")
    other.get_by_text("Changed scopes, enabled.").wait_for()
    page.go_back()
    page.fill("#id_rate", "5/hour")
    page.click("input[value=Save]")
    page.get_by_text("Changed conditions.").wait_for()
    assert not page.is_checked("#id_enabled")
    assert not page.is_checked("input[value='users:manage']")


def test_a_double_click_sends_a_form_once(page: Page) -> None:
    page.goto("/admin/tokenguard/token/add/")
    # This stays on the page, and so sees both clicks, however fast the server is.
    listener = "event => { prevented.push(event.defaultPrevented); event.preventDefault(); }"
    page.evaluate(f"() => {{ window.prevented = []; addEventListener('submit', {listener}); }}")
    page.dblclick("input[value=Issue]")
    assert page.evaluate("prevented") == [False, True]


def test_our_pages_need_no_inline_script_or_style(page: Page, context: BrowserContext) -> None:
    """A strict Content-Security-Policy breaks nothing of ours."""
    register(page, "behind a policy")
    policy = "default-src 'self'; img-src 'self' data:"

    def with_policy(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, headers={**response.headers, "content-security-policy": policy})

    context.route("**/tokenguard/**", with_policy)
    page.click("text=Issue a token")
    page.check("input[value='users:read']")
    page.click("input[value=Issue]")
    assert copied(page).startswith("tg_")
    page.get_by_role("link", name=re.compile("^[0-9A-Za-z]{16}$")).first.click()
    page.locator("svg.tg-chart").wait_for()
    context.unroute_all(behavior="wait")  # requests still on their way would fail in the next test


def test_the_way_back_looks_as_on_the_admins_own_pages(page: Page) -> None:
    looks = []
    for url in ("/admin/tokenguard/token/", "/admin/tokenguard/token/add/"):
        page.goto(url)
        colours = "way => [way, way.querySelector('a')].map(e => [e, 'color', 'backgroundColor']).flatMap"
        style = "([e, a, b]) => [getComputedStyle(e)[a], getComputedStyle(e)[b]]"
        looks.append(page.locator(".breadcrumbs").evaluate(f"{colours}({style})"))
    assert looks[0] == looks[1]


def test_a_name_that_is_one_long_word_widens_no_page(page: Page) -> None:
    page.set_viewport_size({"width": 320, "height": 800})
    register(page, "W" * 99)
    assert room_to_scroll(page) == 0
    page.click("text=Issue a token")
    assert room_to_scroll(page) == 0
    page.fill("#id_name", "W" * 100)
    page.check("input[value='users:read']")
    page.click("input[value=Issue]")
    page.locator(".tg-secret").wait_for()
    assert room_to_scroll(page) == 0
    page.get_by_role("link", name=re.compile("^[0-9A-Za-z]{16}$")).first.click()
    page.locator("svg.tg-chart").wait_for()
    assert room_to_scroll(page) == 0


def test_a_long_name_is_neither_covered_nor_cut_off(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    register(page, "Nightly export of all invoices for the northern branch, as seen by its accounting office")
    # Django 5.2 has the buttons beside the title, Django 6.1 has them below it.
    is_covered: bool = page.evaluate(
        """() => {
            const [buttons, title] = ['.object-tools a', '#content h1'].map(found => document.querySelector(found));
            const { left, top } = buttons.getBoundingClientRect();
            const range = new Range();
            range.selectNodeContents(title);
            return [...range.getClientRects()].some(line => line.right > left && line.bottom > top);
        }"""
    )
    assert not is_covered
    page.click("text=Issue a token")
    right: list[float] = page.evaluate(
        "['#id_client', '.field-client'].map(found => document.querySelector(found).getBoundingClientRect().right)"
    )
    assert right[0] <= right[1]


def test_on_a_phone_a_scope_and_an_actor_stay_in_one_piece(page: Page) -> None:
    page.set_viewport_size(PHONE)
    register(page, "on a phone")
    page.click("text=Issue a token")
    page.check("input[value='users:manage']")
    page.click("input[value=Issue]")
    page.locator(".tg-secret").wait_for()
    page.goto("/admin/tokenguard/client/")
    page.click("text=on a phone")
    scopes = page.locator("#tokens").get_by_role("cell", name="users:manage", exact=True)
    assert len(ends_of_lines(scopes)) == 1
    actor = page.locator("#events td.tg-text").first
    actor.evaluate("actor => { actor.textContent = 'admin:admin' }")
    assert len(ends_of_lines(actor)) == 1


def room_to_scroll(page: Page) -> int:
    """The number of pixels by which a page is wider than its window."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return wider


def test_in_a_language_from_right_to_left(page: Page) -> None:
    register(page, "from the right")
    page.click("text=Issue a token")
    page.evaluate("document.documentElement.dir = 'rtl'")
    # The check boxes are below each other, however long what is beside them is.
    boxes = page.locator("input[name=scopes]").all()
    assert len({box.evaluate("box => box.getBoundingClientRect().left") for box in boxes}) == 1
    # The colon of their heading stays at its end, and the way to the page starts on the right.
    heading = page.locator(":is(legend, label)", has_text=re.compile("^Scopes:"))  # by the version of Django
    assert left_of(heading, 0) < left_of(heading, 6)
    way = page.locator(".breadcrumbs")
    assert left_of(way.get_by_text("API tokens")) > left_of(way.get_by_text("Tokens", exact=True))
    page.fill("#id_name", "nightly!")
    page.check("input[value='users:read']")
    page.click("input[value=Issue]")
    page.get_by_role("link", name=re.compile("^[0-9A-Za-z]{16}$")).first.click()
    page.locator("svg.tg-chart").wait_for()
    page.evaluate("document.documentElement.dir = 'rtl'")
    # The chart has its oldest day on the left, whatever the language.
    oldest, newest = (left_of(page.locator(".tg-axis span").nth(place)) for place in (0, 1))
    assert oldest < newest
    # A date in such a language starts on the right.
    axis = page.locator(".tg-axis span").first
    axis.evaluate("axis => { axis.textContent = '30 \u0646\u0648\u0641\u0645\u0628\u0631' }")
    assert left_of(axis, 0) > left_of(axis, 7)
    # The last character of a name or a scope stays at its end.
    name = page.get_by_role("cell", name="nightly!", exact=True)
    assert left_of(name, 0) < left_of(name, 7)


def left_of(element: Locator, character: int = 0) -> float:
    """The left edge of a character in an element's text."""
    script = """(element, place) => {
        const range = new Range();
        range.setStart(element.firstChild, place);
        range.setEnd(element.firstChild, place + 1);
        return range.getBoundingClientRect().left;
    }"""
    left: float = element.evaluate(script, character)
    return left


def ends_of_lines(element: Locator) -> list[float]:
    """The right edge of each line of an element's text."""
    script = """element => {
        const range = new Range();
        range.selectNodeContents(element);
        return [...range.getClientRects()].map(line => line.right);
    }"""
    ends: list[float] = element.evaluate(script)
    return ends


def test_fields_and_boxes_can_be_seen_in_a_theme_that_draws_its_own(page: Page) -> None:
    page.route("**/admin/css/**", lambda route: route.abort())
    page.goto("/admin/tokenguard/token/add/")
    page.add_style_tag(content="@layer theme { * { border: 0 solid } } input[type=checkbox] { display: none }")
    look = "(element, property) => getComputedStyle(element)[property]"
    for field in ("input[name=name]", "select[name=client]", "textarea[name=allow]", "input[type=submit]"):
        assert page.locator(field).first.evaluate(look, "borderTopWidth") == "1px", field
    assert page.locator("input[name=scopes]").first.is_visible()
