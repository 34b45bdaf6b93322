"""Clients and tokens in Django's admin: what it shows, does and refuses."""

from __future__ import annotations

import html
import json
import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.middleware import SessionMiddleware as Middleware
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import OperationalError, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.models.signals import post_save
from django.template.base import Template
from django.test import Client as Browser
from django.test import override_settings
from django.test.utils import CaptureQueriesContext, instrumented_test_render
from django.urls import path

from tokenguard import Conditions, Issued, Issuer, Secret
from tokenguard.clock import DAY, SECOND, now
from tokenguard.django import conf, models
from tokenguard.django.admin import ClientAdmin, TokenAdmin
from tokenguard.django.admin.states import with_state
from tokenguard.foreign import register_client
from tokenguard.secret import TOKEN_SHAPED
from tokenguard.store import USE_INTERVAL, NewUse, Record, State

from .conftest import KEY
from .django_tables import migrate
from .services.common import CATALOG
from .services.django_settings import database

TOKENS = "/admin/tokenguard/token/"
CLIENTS = "/admin/tokenguard/client/"
EVIL = "<script>alert(1)</script>\"'&"
SETTINGS = {"SCOPES": CATALOG, "SIGNING_KEY": KEY}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all the tables that the admin needs, to be copied."""
    path = tmp_path_factory.mktemp("admin") / "migrated.db"
    with default_database(path):
        call_command("migrate", verbosity=0)
    return path


@pytest.fixture
def site(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    path = tmp_path / "admin.db"
    shutil.copy(migrated, path)
    # As Django's test runner does: answers have the context of their templates.
    monkeypatch.setattr(Template, "_render", instrumented_test_render)
    with default_database(path), override_settings(TOKENGUARD=SETTINGS):
        yield Site()
        found = conf.built()
        if found is not None and found.requests.guard.usage is not None:
            found.requests.guard.usage.write(everything=True)  # before the database is gone


class default_database:  # noqa: N801 - used like a function
    """Django's default database is the file at ``path`` in this block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.before = connections.databases["default"]
        self._be(connections.configure_settings({"default": database(f"sqlite:///{self.path}")})["default"])

    def __exit__(self, *exception: object) -> None:
        self._be(self.before)

    @staticmethod
    def _be(settings: Any) -> None:
        connections["default"].close()
        del connections["default"]
        connections.databases["default"] = settings


@dataclass
class Site:
    """The admin, and the issuer of the same project."""

    @property
    def issuer(self) -> Issuer:
        return conf.get_issuer()

    def browser(self, *permissions: str, name: str = "ada", **options: Any) -> Browser:
        """A browser logged in as a new user with these permissions; "all" for all of them."""
        user = User(username=name, is_staff=True, is_superuser=permissions == ("all",))
        user.set_unusable_password()
        user.save()
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        browser = Browser(**options)
        browser.force_login(user)
        return browser

    def client(self, name: str = "billing", scopes: str = "users:manage groups:read", **more: Any) -> str:
        return self.issuer.register(name, scopes, actor="tests", **more).id

    def issue(self, client: str | None = None, scopes: str = "users:read", **more: Any) -> Issued:
        return self.issuer.issue(client or self.client(), scopes, actor="tests", **more)

    @property
    def first_client(self) -> str:
        return conf.get_store().clients()[0].id

    def record(self, token_id: str) -> Record:
        record = conf.get_store().find(token_id)
        assert record is not None
        return record

    def tokens(self) -> list[Record]:
        return conf.get_store().records()

    def state(self, token_id: str) -> State:
        return self.record(token_id).state(now())

    def use(self, token_id: str, *, ago: int = 0, scopes: str = "", requests: int = 1) -> None:
        at = now() - ago
        use = NewUse(token_id, at, "192.0.2.7", frozenset(scopes.split()), {at // DAY: requests})
        conf.get_store().record_uses([use])


def text_of(page: str) -> list[str]:
    """The tokens' texts that a page shows."""
    return re.findall(r"tg_[0-9A-Za-z]{16}_[0-9A-Za-z]{75}", page)


def filled(browser: Browser, url: str, **changes: Any) -> dict[str, Any]:
    """The fields of the form at ``url`` as a browser would send them, with ``changes``; None leaves one out."""
    answer = browser.get(url)
    assert answer.status_code == 200
    form = answer.context["form"]
    values = {name: form[name].value() for name in form.fields}
    values = {name: value for name, value in values.items() if value not in (None, False)} | changes
    return {name: value for name, value in values.items() if value is not None}


def listed(browser: Browser, query: str = "", url: str = TOKENS) -> list[str]:
    """The ids that a list shows, in its order."""
    answer = browser.get(f"{url}{query}")
    assert answer.status_code == 200
    return [row.pk for row in answer.context["cl"].result_list]


def everything_kept() -> str:
    """All that the database keeps, with its sessions decoded, as one text."""
    connection = connections["default"]
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        rows = []
        for table in tables:
            cursor.execute(f'SELECT * FROM "{table}"')
            rows += cursor.fetchall()
    sessions = [session.get_decoded() for session in Session.objects.all()]
    return repr(rows) + json.dumps(sessions)


class TestClients:
    def test_registers(self, site: Site) -> None:
        browser = site.browser("all")
        data = filled(
            browser,
            f"{CLIENTS}add/",
            name="nightly job",
            scopes=["users:manage"],
            more_scopes="groups:*",
            allow="10.0.0.0/8\n2001:db8::/32",
            deny="10.9.0.0/16, 10.8.0.1",
            rate="100/minute",
        )
        answer = browser.post(f"{CLIENTS}add/", data, follow=True)
        (client,) = conf.get_store().clients()
        assert (client.name, str(client.scopes)) == ("nightly job", "groups:* users:manage")
        assert client.conditions == Conditions.parse(
            ["10.0.0.0/8", "2001:db8::/32"], ["10.9.0.0/16", "10.8.0.1"], "100/minute"
        )
        assert answer.redirect_chain == [(f"{CLIENTS}{client.id}/change/", 302)]
        (event,) = conf.get_store().events(9)
        assert (event.kind, event.actor) == ("client.registered", "admin:ada")
        assert LogEntry.objects.get().get_change_message() == "Registered."

    def test_scopes_are_check_boxes_that_say_what_they_mean(self, site: Site) -> None:
        page = site.browser("all").get(f"{CLIENTS}add/").content.decode()
        assert page.count('type="checkbox"') == len(CATALOG)
        for said in ("Read users", "Change users; implies users:read", "Read groups"):
            assert said in page

    def test_in_a_window_beside_a_field_of_the_projects_own(self, site: Site) -> None:
        """Django opens it for a foreign key to clients, and its script fills in the field and closes the window."""
        browser = site.browser("all")
        url = f"{CLIENTS}add/?_to_field=id&_popup=1"
        page = browser.get(url).content.decode()
        assert '<input type="hidden" name="_popup" value="1">' in page
        assert "user-tools" not in page
        data = filled(browser, url, name="", scopes=["users:read"], _popup="1")
        assert "This field is required" in browser.post(url, data).content.decode()
        data["name"] = "nightly"
        assert browser.post(url, {**data, "_to_field": "nonsense"}).status_code == 400
        answer = browser.post(url, data)
        (client,) = conf.get_store().clients()
        assert json.loads(answer.context["popup_response_data"]) == {"value": client.id, "obj": "nightly"}

    def test_another_issuers_client_tells_when_it_last_called(self, site: Site) -> None:
        theirs = ("https://org.okta.com/oauth2/default", "0oa1nightly")
        client = register_client(site.issuer, *theirs, name="nightly", actor="tests")
        site.client("idle one")
        browser = site.browser("all")
        never = browser.get(CLIENTS).content.decode()
        site.use(client.id, requests=3)
        used = browser.get(CLIENTS).content.decode()
        assert never.count('class="field-last_used">-') == 2
        assert used.count('class="field-last_used">-') == 1
        page = browser.get(f"{CLIENTS}{client.id}/change/").content.decode()
        assert re.search(r"Last used at</\w+>\s*<\w+[^>]*>\s*(?!-)\w", page), page

    def test_without_a_catalogue_scopes_are_text(self, site: Site) -> None:
        browser = site.browser("all")
        with override_settings(TOKENGUARD={"SIGNING_KEY": KEY}):
            data = filled(browser, f"{CLIENTS}add/", name="nightly", more_scopes="a b:c")
            assert "scopes" not in data
            browser.post(f"{CLIENTS}add/", data)
            (client,) = conf.get_store().clients()
            assert list(client.scopes) == ["a", "b:c"]

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("name", "", "This field is required"),
            ("name", "billing", "there is already a client 'billing'"),
            ("name", "a\tb", "printable text"),
            ("more_scopes", "a\\b", "is not a scope"),
            ("more_scopes", "unknown", "this service has no scope 'unknown'"),
            ("scopes", ["unknown"], "not one of the available choices"),
            ("allow", "10.0.0.1/8", "is not a network"),
            ("deny", "nowhere", "is not a network"),
            ("rate", "often", "is not a rate"),
        ],
    )
    def test_what_cannot_be_registered_is_said(self, site: Site, field: str, value: Any, said: str) -> None:
        browser = site.browser("all")
        site.client("billing")
        data = filled(browser, f"{CLIENTS}add/", **{"name": "nightly", field: value})
        answer = browser.post(f"{CLIENTS}add/", data)
        assert answer.status_code == 200
        assert said in html.unescape(answer.content.decode())
        assert len(conf.get_store().clients()) == 1

    def test_list(self, site: Site) -> None:
        browser = site.browser("all")
        busy, idle = site.client("busy"), site.client("idle")
        first, second = site.issue(busy), site.issue(busy)
        site.issuer.revoke(first.token.id, actor="tests")
        site.use(second.token.id)
        answer = browser.get(CLIENTS)
        found = {row.pk: (row.active, bool(row.last_used)) for row in answer.context["cl"].result_list}
        assert found == {busy: (1, True), idle: (0, False)}
        assert listed(browser, "?q=idl", CLIENTS) == [idle]
        assert listed(browser, f"?q={busy}", CLIENTS) == [busy]
        assert listed(browser, "?o=-5", CLIENTS) == [busy, idle]
        site.issuer.disable(busy, actor="tests")
        assert listed(browser, "?enabled__exact=1", CLIENTS) == [idle]

    def test_changes_what_was_changed_and_nothing_else(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client(scopes="users:read users:*", conditions=Conditions.parse(["10.0.0.0/8"]))
        url = f"{CLIENTS}{client}/change/"
        for changes, kind in (
            ({"scopes": ["groups:read"]}, "client.scopes_changed"),
            ({"enabled": None}, "client.disabled"),
            ({"enabled": "on"}, "client.enabled"),
            ({"rate": "5/hour"}, "client.conditions_changed"),
        ):
            before = len(conf.get_store().events(99))
            assert browser.post(url, filled(browser, url, **changes)).status_code == 302
            (event,) = conf.get_store().events(99)[before:]
            assert (event.kind, event.actor) == (kind, "admin:ada")
        found = conf.get_store().client(client)
        assert found is not None
        assert (str(found.scopes), found.enabled) == ("groups:read users:*", True)
        assert found.conditions == Conditions.parse(["10.0.0.0/8"], rate="5/hour")
        assert [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")] == [
            "Changed scopes.",
            "Changed enabled.",
            "Changed enabled.",
            "Changed conditions.",
        ]

    def test_saving_without_a_change_records_nothing(self, site: Site) -> None:
        browser = site.browser("all")
        url = f"{CLIENTS}{site.client()}/change/"
        browser.post(url, filled(browser, url))
        assert len(conf.get_store().events(99)) == 1
        assert not LogEntry.objects.exists()

    def test_an_older_page_does_not_undo_what_others_did(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        url = f"{CLIENTS}{client}/change/"
        opened_earlier = filled(browser, url, rate="5/hour")
        site.issuer.disable(client, actor="somebody else")
        answer = browser.post(url, opened_earlier)
        assert b"Somebody else has changed this client" in answer.content
        found = conf.get_store().client(client)
        assert found is not None
        assert (found.enabled, found.conditions) == (False, Conditions())

    def test_a_restored_page_does_not_undo_what_others_did(self, site: Site) -> None:
        """Firefox loads the page of a tab that it restores again, and writes the old texts into all its text areas."""
        browser = site.browser("all")
        client = site.client()
        url = f"{CLIENTS}{client}/change/"
        old = filled(browser, url)
        limited = Conditions.parse(["10.0.0.0/8"])
        site.issuer.set_conditions(client, limited, actor="somebody else")
        areas = re.findall(r'<textarea name="(\w+)"', browser.get(url).content.decode())
        restored = {name: old.get(name, "") for name in areas}
        answer = browser.post(url, filled(browser, url, scopes=["groups:read"], **restored))
        assert b"Somebody else has changed this client" in answer.content
        found = conf.get_store().client(client)
        assert found is not None
        assert found.conditions == limited

    def test_page_shows_its_tokens_and_events(self, site: Site) -> None:
        token = site.issue(name="for the night").token
        page = site.browser("all").get(f"{CLIENTS}{token.client_id}/change/").content.decode()
        assert f'href="{TOKENS}{token.id}/change/"' in page
        assert "for the night" in page
        assert f'href="{TOKENS}add/?client={token.client_id}"' in page
        assert "client.registered" in page
        assert "token.issued" in page

    def test_tokens_are_not_shown_to_who_may_see_clients_only(self, site: Site) -> None:
        token = site.issue(name="for the night").token
        page = site.browser("view_client").get(f"{CLIENTS}{token.client_id}/change/").content.decode()
        assert "client.registered" in page
        for hidden in (token.id, "for the night", "token.issued", '<input type="submit"', "Issue a token"):
            assert hidden not in page


class TestIssue:
    def test_the_answer_shows_the_text_once(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        data = filled(
            browser,
            f"{TOKENS}add/?client={client}",
            name="nightly",
            scopes=["users:read"],
            expires_in="12h",
            idle="2h",
            allow="192.0.2.0/24",
            deny="192.0.2.9",
            rate="7/second",
        )
        assert data["client"] == client
        answer = browser.post(f"{TOKENS}add/", data)
        assert answer.status_code == 200
        (text,) = text_of(answer.content.decode())
        (record,) = site.tokens()
        token = record.token
        assert conf.service().options.token_format().read(Secret(text)).digest == token.digest
        assert (token.client_id, token.name, str(token.scopes)) == (client, "nightly", "users:read")
        assert token.expires_at == token.created_at + 12 * 3600 * SECOND
        assert token.idle_timeout == 7200 * SECOND
        assert token.conditions == Conditions.parse(["192.0.2.0/24"], ["192.0.2.9"], "7/second")
        assert conf.get_store().events(1)[0].actor == "admin:ada"

    def test_among_very_many_clients_one_is_typed(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        browser, client = site.browser("all"), site.client()
        assert "<select" in browser.get(f"{TOKENS}add/").content.decode()
        monkeypatch.setattr("tokenguard.django.admin.forms.MAX_OFFERED", 0)
        page = browser.get(f"{TOKENS}add/?client={client}").content.decode()
        assert "<select" not in page
        assert "users:manage" in page.split("billing may have")[1]
        for typed in (client, "billing"):
            data = filled(browser, f"{TOKENS}add/", client=typed, scopes=["users:read"])
            assert browser.post(f"{TOKENS}add/", data).status_code == 200
        assert [record.token.client_id for record in site.tokens()] == [client, client]
        data = filled(browser, f"{TOKENS}add/", client="nobody", scopes=["users:read"])
        assert "nobody" in browser.post(f"{TOKENS}add/", data).content.decode().split("errornote")[1]

    def test_the_list_counts_all_tokens_once(self, site: Site) -> None:
        with CaptureQueriesContext(connections[conf.get_store().using]) as queries:
            site.browser("all").get(TOKENS)
        counts = [
            query["sql"] for query in queries if "COUNT(*)" in query["sql"] and "tokenguard_token" in query["sql"]
        ]
        assert len(counts) == 1

    def test_nothing_may_keep_or_frame_the_answer(self, site: Site) -> None:
        answer = issue(site, site.browser("all"))
        assert "no-store" in answer["Cache-Control"]
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["Referrer-Policy"] == "same-origin"
        # Nor may a browser send the text to a service that translates pages.
        assert re.search(r'<code [^>]*translate="no">tg_', answer.content.decode())

    def test_the_text_is_nowhere_else(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        browser = site.browser("all")
        answer = issue(site, browser)
        (text,) = text_of(answer.content.decode())
        secret = text[20:]
        token_id = site.tokens()[0].token.id
        assert secret not in everything_kept()
        assert secret not in caplog.text
        assert not any(secret in value for value in answer.headers.values())
        assert not any(secret in repr(part) for part in answer.context)
        for url in (TOKENS, f"{TOKENS}{token_id}/change/", f"{TOKENS}{token_id}/history/", CLIENTS, "/admin/"):
            page = browser.get(url, follow=True)
            assert page.status_code == 200
            assert not TOKEN_SHAPED.search(page.content.decode())
        assert LogEntry.objects.get().get_change_message() == "Issued."

    def test_a_form_that_is_sent_again_issues_no_second_token(self, site: Site) -> None:
        browser = site.browser("all")
        data = filled(browser, f"{TOKENS}add/?client={site.client()}", scopes=["users:read"])
        browser.post(f"{TOKENS}add/", data)
        (record,) = site.tokens()
        again = browser.post(f"{TOKENS}add/", data)
        assert again.status_code == 409
        assert text_of(again.content.decode()) == []
        assert record.token.id in again.content.decode()
        assert len(site.tokens()) == 1

    def test_a_form_that_is_sent_twice_at_once_issues_one_token(self, site: Site, monkeypatch: Any) -> None:
        browser = site.browser("all")
        data = filled(browser, f"{TOKENS}add/?client={site.client()}", scopes=["users:read"])
        # As if the second request had begun before the first was answered: its session does not know of the first.
        load = SessionStore.load
        first_request = Middleware.process_request

        def begun_earlier(self: Any, request: Any) -> None:
            first_request(self, request)
            with monkeypatch.context() as patch:
                patch.setattr(SessionStore, "load", lambda self: {**load(self), "tokenguard_shown": {}})
                request.session.get("anything")

        monkeypatch.setattr(Middleware, "process_request", begun_earlier)
        assert browser.post(f"{TOKENS}add/", data).status_code == 200
        assert browser.post(f"{TOKENS}add/", data).status_code == 409
        assert len(site.tokens()) == 1
        assert LogEntry.objects.count() == 1

    def test_a_session_remembers_a_few_forms_only(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        for number in range(12):
            data = filled(browser, f"{TOKENS}add/?client={client}", scopes=["users:read"], form_id=f"form {number}")
            assert browser.post(f"{TOKENS}add/", data).status_code == 200
        assert len(browser.session["tokenguard_shown"]) == 10
        assert browser.post(f"{TOKENS}add/", data).status_code == 409

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"scopes": ["groups:read"]}, "the client 'reader' may not have 'groups:read'"),
            ({"scopes": []}, "a token must have at least one scope"),
            ({"expires_in": "soon"}, "is not a duration"),
            ({"expires_in": "0d"}, "between 1 second and 100 years"),
            ({"idle": "5s"}, "an idle timeout must be longer than"),
            ({"name": f"tg_{'a' * 16}_{'b' * 75}"}, "must not be the text of a token"),
            ({"client": "nobody"}, "not one of the available choices"),
            ({"form_id": None}, "This field is required"),
            ({"rate": "0/day"}, "between 1 and"),
        ],
    )
    def test_what_is_refused_is_said(self, site: Site, changes: dict[str, Any], said: str) -> None:
        browser = site.browser("all")
        client = site.client("reader", "users:read")
        data = filled(browser, f"{TOKENS}add/?client={client}", **{"scopes": ["users:read"], **changes})
        answer = browser.post(f"{TOKENS}add/", data)
        assert answer.status_code == 200
        assert said in html.unescape(answer.content.decode())
        assert "<title>Error: Issue a token |" in answer.content.decode()
        assert site.tokens() == []

    @pytest.mark.parametrize(
        ("policy", "changes", "rule"),
        [
            ({"REQUIRE_EXPIRY": True}, {"expires_in": ""}, "require_expiry"),
            ({"MAX_LIFETIME": 86_400}, {"expires_in": "2d"}, "max_lifetime"),
            ({"REQUIRE_NAME": True}, {"name": ""}, "require_name"),
            ({"MAX_ACTIVE_TOKENS": 1}, {}, "max_active_tokens"),
        ],
    )
    def test_the_policy_is_kept(self, site: Site, policy: dict[str, Any], changes: dict[str, Any], rule: str) -> None:
        browser = site.browser("all")
        client = site.client()
        site.issue(client)
        with override_settings(TOKENGUARD=SETTINGS | policy):
            data = filled(browser, f"{TOKENS}add/?client={client}", **{"scopes": ["users:read"], **changes})
            answer = browser.post(f"{TOKENS}add/", data)
        assert f"{rule}: " in answer.content.decode()
        assert len(site.tokens()) == 1
        (event,) = conf.get_store().events(1)
        assert (event.kind, event.data["rule"]) == ("policy.refused", [None, rule])

    def test_the_proposed_lifetime_keeps_to_the_policy(self, site: Site) -> None:
        browser = site.browser("all")
        assert filled(browser, f"{TOKENS}add/")["expires_in"] == "90d"
        with override_settings(TOKENGUARD=SETTINGS | {"MAX_LIFETIME": 12 * 3600}):
            assert filled(browser, f"{TOKENS}add/")["expires_in"] == "12h"

    def test_a_disabled_client_is_not_offered(self, site: Site) -> None:
        client = site.client("dormant")
        site.issuer.disable(client, actor="tests")
        assert b"dormant" not in site.browser("all").get(f"{TOKENS}add/?client={client}").content

    def test_a_client_that_is_disabled_meanwhile(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client("dormant")
        data = filled(browser, f"{TOKENS}add/?client={client}", scopes=["users:read"])
        site.issuer.disable(client, actor="tests")
        assert browser.post(f"{TOKENS}add/", data).status_code == 200
        assert site.tokens() == []

    def test_a_history_that_cannot_be_written_undoes_the_token(self, site: Site) -> None:
        browser = site.browser("all")
        data = filled(browser, f"{TOKENS}add/?client={site.client()}", scopes=["users:read"])
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE django_admin_log RENAME TO gone")
        answer = browser.post(f"{TOKENS}add/", data)
        assert answer.status_code == 200
        assert text_of(answer.content.decode()) == []
        assert site.tokens() == []
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO django_admin_log")
        # The same form is accepted now, as nothing was issued before.
        assert len(text_of(browser.post(f"{TOKENS}add/", data).content.decode())) == 1
        assert len(site.tokens()) == 1

    def test_a_page_that_cannot_be_drawn_undoes_the_token_and_betrays_no_text(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        data = filled(browser, f"{TOKENS}add/?client={client}", scopes=["users:read"])
        # As a project's own template may be, with a mistake after the text of the token.
        broken = '{% for token, text in issued %}{{ text.reveal }}{% url "nowhere" %}{% endfor %}'
        own = {"admin/tokenguard/issued.html": broken}
        loaders = [
            ("django.template.loaders.locmem.Loader", own),
            "django.template.loaders.app_directories.Loader",
        ]
        (engine,) = settings.TEMPLATES
        options = {**engine["OPTIONS"], "loaders": loaders}
        with override_settings(TEMPLATES=[{**engine, "APP_DIRS": False, "OPTIONS": options}], DEBUG=True):
            old = site.issue(client).token.id
            rotation = filled(browser, f"{TOKENS}{old}/rotate/", confirmed="yes")
            for url, posted in ((f"{TOKENS}add/", data), (f"{TOKENS}{old}/rotate/", rotation)):
                answer = browser.post(url, posted)
                assert answer.status_code == 200
                assert "cannot be rendered, so nothing was done (NoReverseMatch: Reverse for 'nowhere'" in plain(answer)
                assert text_of(answer.content.decode()) == []
        assert [record.token.id for record in site.tokens()] == [old]
        assert not LogEntry.objects.exists()
        assert len(text_of(browser.post(f"{TOKENS}add/", data).content.decode())) == 1


def issue(site: Site, browser: Browser, **changes: Any) -> Any:
    data = filled(browser, f"{TOKENS}add/?client={site.client()}", **{"scopes": ["users:read"], **changes})
    return browser.post(f"{TOKENS}add/", data)


class TestList:
    def test_filters(self, site: Site) -> None:
        browser = site.browser("all")
        client, other = site.client(), site.client("other")
        kinds = {
            "fresh": site.issue(client),
            "expiring": site.issue(client, expires_in=29 * 86_400),
            "lasting": site.issue(client, expires_in=31 * 86_400),
            "revoked": site.issue(client),
            "expired": site.issue(client, expires_in=1),
            "idle": site.issue(client, idle_timeout=3600),
            "rotated": site.issue(client),
            "used": site.issue(other),
        }
        ids = {name: issued.token.id for name, issued in kinds.items()}
        site.issuer.revoke(ids["revoked"], actor="tests")
        successor = site.issuer.rotate(ids["rotated"], overlap=0, actor="tests").token.id
        age(ids["expired"], 60 * SECOND)
        age(ids["idle"], 2 * 3600 * SECOND)
        site.use(ids["used"])
        active = {ids["fresh"], ids["expiring"], ids["lasting"], ids["used"], successor}
        for query, expected in {
            "?state=active": active,
            "?state=revoked": {ids["revoked"]},
            "?state=expired": {ids["expired"]},
            "?state=idle": {ids["idle"]},
            "?state=rotated": {ids["rotated"]},
            "?state=client_disabled": set(),
            "?attention=expiring": {ids["expiring"]},
            "?attention=unused": {*ids.values(), successor} - {ids["used"]},
            "?attention=unused&state=active": active - {ids["used"]},
            f"?client={other}": {ids["used"]},
            "?client=nobody": set(),
            "?client=%00": set(),
            "?state=%00": set(),
        }.items():
            assert set(listed(browser, query)) == expected, query
            assert browser.get(f"{TOKENS}{query}&_facets=True").status_code == 200
        site.issuer.disable(other, actor="tests")
        assert listed(browser, "?state=client_disabled") == [ids["used"]]

    def test_search(self, site: Site) -> None:
        browser = site.browser("all")
        token, other = site.issue(site.client("billing"), name="nightly").token, site.issue(site.client("ops")).token
        for query in (token.id, "night", "bill", "night bill"):
            assert listed(browser, f"?q={query}") == [token.id]
        assert set(listed(browser)) == {token.id, other.id}
        for part in (token.digest, token.digest[:12], token.key_fingerprint):
            assert listed(browser, f"?q={part}") == []

    def test_every_column_can_be_ordered_by(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        ids = [site.issue(client, name=name, expires_in=60).token.id for name in ("b", "a")]
        site.use(ids[0])
        for column in range(12):
            for sign in ("", "-"):
                assert set(listed(browser, f"?o={sign}{column}")) == set(ids)
        assert listed(browser, "?o=2") == ids[::-1]
        assert listed(browser, "?o=-7") == ids

    @pytest.mark.parametrize("url", [TOKENS, CLIENTS])
    def test_the_number_of_queries_does_not_grow(self, site: Site, url: str) -> None:
        browser = site.browser("all")
        numbers = []
        for round_ in range(2):
            for number in range(1 + 48 * round_):
                token = site.issue(site.client(f"client {round_} {number}") if number < 10 else site.first_client)
                site.use(token.token.id)
            browser.get(url)
            with CaptureQueriesContext(connections["default"]) as queries:
                assert browser.get(url).status_code == 200
            numbers.append(len(queries))
        assert numbers[0] == numbers[1]
        assert numbers[1] <= 9
        assert not any("digest" in query["sql"] for query in queries.captured_queries)

    def test_with_many_clients_the_margin_names_the_chosen_one(self, site: Site) -> None:
        browser = site.browser("all")
        ids = [site.client(f"client {number:02}") for number in range(21)]
        assert "client 07" not in browser.get(TOKENS).content.decode()
        assert "client 07" in browser.get(f"{TOKENS}?client={ids[7]}").content.decode()


def off(site: Site) -> str:
    client = site.client("off")
    site.issuer.disable(client, actor="tests")
    return client


def age(token_id: str, micros: int) -> None:
    """Make a token look as if it had been issued that much earlier."""
    row = models.Token._base_manager.filter(pk=token_id)
    token = row.get()
    row.update(created_at=token.created_at - micros, expires_at=token.expires_at and token.expires_at - micros)


class TestPage:
    def test_tells_what_the_command_line_tells(self, site: Site) -> None:
        issued = site.issue(
            name="nightly", scopes="users:manage", conditions=Conditions.parse(["192.0.2.0/24"]), idle_timeout=3600
        )
        site.use(issued.token.id, scopes="users:read", requests=5)
        page = plain(site.browser("all").get(f"{TOKENS}{issued.token.id}/change/"))
        for said in (
            "State active",
            "Client billing",
            "Name nightly",
            "Last address 192.0.2.7",
            "Conditions only from 192.0.2.0/24",
            "Effective scopes users:manage users:read",
            "Unused scopes users:manage",
            "Idle timeout 1h",
            "Key current",
            "token.issued",
            "5 requests in 30 days",
        ):
            assert said in page

    def test_times_are_local(self, site: Site) -> None:
        token = site.issue().token
        models.Token._base_manager.filter(pk=token.id).update(created_at=1_900_000_000 * SECOND)
        browser = site.browser("all")
        # 1900000000 is 2030-03-17 17:46:40 in UTC.
        with override_settings(TIME_ZONE="Asia/Tokyo", USE_TZ=True):
            assert "03/18/2030 2:46 a.m." in plain(browser.get(TOKENS))
            assert "March 18, 2030, 2:46 a.m." in plain(browser.get(f"{TOKENS}{token.id}/change/"))
        with override_settings(TIME_ZONE="Asia/Tokyo", USE_TZ=False):
            assert "03/18/2030 2:46 a.m." in plain(browser.get(TOKENS))
            assert "March 18, 2030, 2:46 a.m." in plain(browser.get(f"{TOKENS}{token.id}/change/"))

    def test_chart(self, site: Site) -> None:
        token = site.issue().token
        for ago, requests in ((0, 100), (1, 50), (29, 1), (30, 1000)):
            site.use(token.id, ago=ago * DAY, requests=requests)
        answer = site.browser("all").get(f"{TOKENS}{token.id}/change/")
        chart = answer.context["chart"]
        assert (len(chart.bars), chart.total, chart.busiest.requests) == (30, 151, 100)
        assert [bar.height for bar in chart.bars if bar.requests] == [2, 50, 100]
        page = answer.content.decode()
        assert page.count('class="tg-bar"') == 3
        # Otherwise, an Arabic date would pull in the number that follows it.
        assert re.search("most on <bdi>[^<]+</bdi>: 100", page)

    def test_its_successor_and_what_it_replaces_are_links(self, site: Site) -> None:
        old = site.issue().token.id
        new = site.issuer.rotate(old, actor="tests").token.id
        browser = site.browser("all")
        for here, there in ((old, new), (new, old)):
            page = browser.get(f"{TOKENS}{here}/change/").content.decode()
            assert f'href="{TOKENS}{there}/change/"' in page
        assert "/rotate/" not in browser.get(f"{TOKENS}{old}/change/").content.decode()

    @pytest.mark.parametrize("view", ["change", "rotate", "revoke", "history"])
    @pytest.mark.parametrize("token_id", ["nobody", "%00", "%ED%A0%80", "a/b", f"tg_{'a' * 16}_{'b' * 75}"])
    def test_unknown(self, site: Site, view: str, token_id: str) -> None:
        answer = site.browser("all").get(f"{TOKENS}{token_id}/{view}/")
        assert answer.status_code == 404
        assert "messages" not in answer.cookies

    def test_the_number_of_queries_is_bounded(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        for number in range(60):
            token = site.issue(client, name=f"token {number}").token
        for url in (f"{TOKENS}{token.id}/change/", f"{CLIENTS}{client}/change/"):
            with CaptureQueriesContext(connections["default"]) as queries:
                assert browser.get(url).status_code == 200
            assert len(queries) <= 9


def plain(answer: Any) -> str:
    """The text of a page, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.content.decode())).split())


class TestRevoke:
    def test_one(self, site: Site) -> None:
        browser = site.browser("all")
        token = site.issue().token
        url = f"{TOKENS}{token.id}/revoke/"
        assert f'href="{url}"' in browser.get(f"{TOKENS}{token.id}/change/").content.decode()
        asked = plain(browser.get(url))
        assert "in every other within a second" in asked
        assert "cannot be undone" in asked
        assert site.state(token.id) == State.ACTIVE
        # A POST without the confirmation asks for it, too.
        assert browser.post(url).status_code == 200
        assert site.state(token.id) == State.ACTIVE
        assert browser.post(url, {"confirmed": "yes"}).status_code == 302
        assert site.state(token.id) == State.REVOKED
        assert conf.get_store().events(1)[0].actor == "admin:ada"
        assert LogEntry.objects.get().get_change_message() == "Revoked."
        assert "/revoke/" not in browser.get(f"{TOKENS}{token.id}/change/").content.decode()

    def test_selected(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        ids = [site.issue(client).token.id for _ in range(3)]
        data = {"action": "revoke_selected", "_selected_action": ids[:2]}
        answer = browser.post(TOKENS, data)
        assert "Revoke these 2 tokens?" in plain(answer)
        assert answer.content.decode().count('name="_selected_action"') == 2
        assert browser.post(TOKENS, data | {"confirmed": "yes"}).status_code == 302
        assert [site.state(token_id) for token_id in ids] == [State.REVOKED, State.REVOKED, State.ACTIVE]

    def test_without_an_action_that_is_said(self, site: Site) -> None:
        browser = site.browser("all")
        token = site.issue().token
        data = {"action": "", "index": "0", "_selected_action": [token.id]}
        assert "No action selected." in plain(browser.post(TOKENS, data, follow=True))

    def test_the_action_may_be_chosen_below_the_list(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(TokenAdmin, "actions_on_bottom", True)
        browser = site.browser("all")
        token = site.issue().token
        for index, chosen in enumerate((["revoke_selected", ""], ["", "revoke_selected"])):
            data = {"action": chosen, "index": str(index), "_selected_action": [token.id]}
            assert "Revoke this token?" in plain(browser.post(TOKENS, data))
        data = {"action": ["", "delete_selected"], "index": "0", "_selected_action": [token.id]}
        assert browser.post(TOKENS, data).status_code == 403

    def test_all_in_a_long_list_are_not_taken_at_once(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        from tokenguard.django.admin import tokens

        monkeypatch.setattr(tokens, "MAX_AT_ONCE", 2)
        client = site.client()
        ids = [site.issue(client).token.id for _ in range(3)]
        data = {"action": "revoke_selected", "_selected_action": ids[:1], "select_across": "1", "confirmed": "yes"}
        answer = site.browser("all").post(TOKENS, data, follow=True)
        assert "Nothing was done: at most 2 tokens" in plain(answer)
        assert {site.state(token_id) for token_id in ids} == {State.ACTIVE}

    def test_what_has_left_the_list_meanwhile(self, site: Site) -> None:
        browser = site.browser("all")
        token = site.issue().token
        site.issuer.revoke(token.id, actor="tests")
        for action in ("revoke_selected", "rotate_selected"):
            data = {"action": action, "_selected_action": [token.id], "confirmed": "1", "overlap": "0", "form_id": "1"}
            answer = browser.post(f"{TOKENS}?state=active", data)
            assert "none of the selected tokens is in this list any more" in plain(answer)

    @pytest.mark.parametrize("forged", ["\0", "x\0", "\n"])
    def test_an_id_that_no_token_can_have_selects_nothing(self, site: Site, forged: str) -> None:
        token = site.issue().token
        data = {"action": "revoke_selected", "_selected_action": [token.id, forged], "confirmed": "yes"}
        assert site.browser("all").post(TOKENS, data).status_code == 403
        assert site.state(token.id) is State.ACTIVE

    def test_what_is_revoked_stays_so(self, site: Site) -> None:
        token = site.issue().token
        browser = site.browser("all")
        browser.post(f"{TOKENS}{token.id}/revoke/", {"confirmed": "yes"})
        revoked_at = site.record(token.id).token.revoked_at
        browser.post(f"{TOKENS}{token.id}/revoke/", {"confirmed": "yes"})
        assert site.record(token.id).token.revoked_at == revoked_at


class TestRotate:
    def test_one(self, site: Site) -> None:
        browser = site.browser("all")
        token = site.issue(name="nightly").token
        url = f"{TOKENS}{token.id}/rotate/"
        data = filled(browser, url, overlap="1h", confirmed="yes")
        answer = browser.post(url, data)
        (text,) = text_of(answer.content.decode())
        assert "no-store" in answer["Cache-Control"]
        old = site.record(token.id).token
        assert old.successor_id == text.split("_")[1]
        assert old.overlap_ends_at == site.record(old.successor_id).token.created_at + 3600 * SECOND
        assert text[20:] not in everything_kept()
        assert {(entry.object_id, entry.get_change_message()) for entry in LogEntry.objects.all()} == {
            (token.id, f"Rotated: its successor is {old.successor_id}."),
            (old.successor_id, f"Issued in place of {token.id}."),
        }
        again = browser.post(url, data)
        assert again.status_code == 409
        assert text_of(again.content.decode()) == []
        assert len(site.tokens()) == 2

    def test_selected(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        ids = [site.issue(client).token.id for _ in range(4)]
        data: dict[str, Any] = {"action": "rotate_selected", "_selected_action": ids}
        form = browser.post(TOKENS, data).context["form"]
        data |= {"confirmed": "yes", "overlap": "0", "form_id": form["form_id"].value()}
        answer = browser.post(TOKENS, data)
        texts = text_of(answer.content.decode())
        assert {text.split("_")[1] for text in texts} == {site.record(token_id).token.successor_id for token_id in ids}
        assert [site.state(token_id) for token_id in ids] == [State.ROTATED] * 4
        again = browser.post(f"{TOKENS}?state=active", data)
        assert again.status_code == 409
        assert "and others were issued then" in plain(again)

    @pytest.mark.parametrize(
        ("overlap", "said"),
        [("", "required"), ("long", "is not a duration"), ("7d", "before the overlap would end: shorten it")],
    )
    def test_what_is_refused_is_said(self, site: Site, overlap: str, said: str) -> None:
        browser = site.browser("all")
        token = site.issue(expires_in=86_400).token
        url = f"{TOKENS}{token.id}/rotate/"
        answer = browser.post(url, filled(browser, url, overlap=overlap, confirmed="yes"))
        assert answer.status_code == 200
        assert said in plain(answer)
        assert len(site.tokens()) == 1

    def test_several_are_rotated_all_or_none(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        ids = [site.issue(client).token.id for _ in range(2)]
        site.issuer.revoke(ids[0], actor="tests")
        data = {"action": "rotate_selected", "_selected_action": ids, "confirmed": "yes", "overlap": "1h"}
        answer = browser.post(TOKENS, data | {"form_id": "a form"})
        assert f"token {ids[0]} is revoked" in plain(answer)
        assert text_of(answer.content.decode()) == []
        assert len(site.tokens()) == 2

    def test_what_the_policy_refuses_undoes_the_others(self, site: Site) -> None:
        browser = site.browser("all")
        client = site.client()
        # The newest token comes first, and the policy lets it be rotated.
        ids = [site.issue(client, name=name).token.id for name in ("", "nightly")]
        data = {"action": "rotate_selected", "_selected_action": ids, "confirmed": "yes", "overlap": "1h"}
        before = conf.get_store().events(9)
        with override_settings(TOKENGUARD=SETTINGS | {"REQUIRE_NAME": True}):
            answer = browser.post(TOKENS, data | {"form_id": "a form"})
        assert "require_name: a token must have a name here" in plain(answer)
        assert {record.token.id: record.token.successor_id for record in site.tokens()} == dict.fromkeys(ids)
        (event,) = conf.get_store().events(9)[len(before) :]
        assert (event.kind, event.actor, event.data["rule"]) == ("policy.refused", "admin:ada", [None, "require_name"])


class TestPermissions:
    @pytest.fixture
    def token_id(self, site: Site) -> str:
        return site.issue().token.id

    def test_who_may_look_sees_no_buttons(self, site: Site, token_id: str) -> None:
        browser = site.browser("view_token", "view_client")
        client = site.first_client
        for url in (TOKENS, CLIENTS, f"{TOKENS}{token_id}/change/", f"{CLIENTS}{client}/change/"):
            answer = browser.get(url)
            assert answer.status_code == 200
            page = answer.content.decode()
            for button in ("/add/", "/rotate/", "/revoke/", 'name="action"', 'type="checkbox"', 'name="enabled"'):
                assert button not in page, (url, button)

    @pytest.mark.parametrize(
        "permissions", [(), ("view_token", "view_client"), ("delete_token", "delete_client"), ("add_client",)]
    )
    def test_who_may_look_changes_nothing(self, site: Site, token_id: str, permissions: tuple[str, ...]) -> None:
        browser = site.browser(*permissions)
        before = everything_kept()
        client = site.first_client
        posts: list[tuple[str, dict[str, Any]]] = [
            (f"{TOKENS}add/", {"client": client, "scopes": ["users:read"], "form_id": "1"}),
            (f"{TOKENS}{token_id}/rotate/", {"confirmed": "yes", "overlap": "0", "form_id": "1"}),
            (f"{TOKENS}{token_id}/revoke/", {"confirmed": "yes"}),
            (f"{TOKENS}{token_id}/change/", {"name": "mine"}),
            (f"{TOKENS}{token_id}/delete/", {"post": "yes"}),
            (f"{CLIENTS}{client}/change/", {"scopes": ["users:manage"]}),
            (f"{CLIENTS}{client}/delete/", {"post": "yes"}),
            *(
                (url, {"action": action, "_selected_action": [token_id], "confirmed": "yes", "form_id": "1"})
                for url in (TOKENS, CLIENTS)
                for action in ("revoke_selected", "rotate_selected", "delete_selected", "")
            ),
        ]
        for url, data in posts:
            assert browser.post(url, data).status_code == 403, url
            if not url.endswith(("/change/", TOKENS, CLIENTS)):
                assert browser.get(url).status_code == 403
        assert everything_kept() == before

    def test_nobody_deletes(self, site: Site, token_id: str) -> None:
        browser = site.browser("all")
        for url in (f"{TOKENS}{token_id}/delete/", f"{CLIENTS}{site.first_client}/delete/"):
            assert browser.post(url, {"post": "yes"}).status_code == 403
        data = {"action": "delete_selected", "_selected_action": [token_id], "post": "yes"}
        assert browser.post(TOKENS, data).status_code == 403
        assert site.state(token_id) == State.ACTIVE

    def test_issuing_needs_to_add_and_nothing_else(self, site: Site) -> None:
        browser = site.browser("add_token")
        (text,) = text_of(issue(site, browser).content.decode())
        token_id = text.split("_")[1]
        assert browser.get(f"{TOKENS}{token_id}/change/").status_code == 403
        assert browser.post(f"{TOKENS}{token_id}/revoke/", {"confirmed": "yes"}).status_code == 403

    def test_registering_needs_to_add_and_nothing_else(self, site: Site) -> None:
        browser = site.browser("add_client")
        data = filled(browser, f"{CLIENTS}add/", name="nightly", scopes=["users:read"])
        assert browser.post(f"{CLIENTS}add/", data, follow=True).status_code == 200
        assert len(conf.get_store().clients()) == 1

    def test_who_may_change_revokes_but_does_not_rotate(self, site: Site, token_id: str) -> None:
        browser = site.browser("change_token", "view_token")
        assert "/rotate/" not in browser.get(f"{TOKENS}{token_id}/change/").content.decode()
        data = {"confirmed": "yes", "overlap": "0", "form_id": "1"}
        assert browser.post(f"{TOKENS}{token_id}/rotate/", data).status_code == 403
        action = {"action": "rotate_selected", "_selected_action": [token_id]}
        assert browser.post(TOKENS, action | data).status_code == 403
        assert len(site.tokens()) == 1
        assert browser.post(f"{TOKENS}{token_id}/revoke/", data).status_code == 302
        assert site.state(token_id) == State.REVOKED

    def test_every_post_needs_the_csrf_token(self, site: Site, token_id: str) -> None:
        browser = site.browser("all", enforce_csrf_checks=True)
        before = everything_kept()
        for url in (
            TOKENS,
            CLIENTS,
            f"{TOKENS}add/",
            f"{CLIENTS}add/",
            f"{TOKENS}{token_id}/rotate/",
            f"{TOKENS}{token_id}/revoke/",
            f"{TOKENS}{token_id}/change/",
            f"{CLIENTS}{site.first_client}/change/",
        ):
            data = {"confirmed": "yes", "action": "revoke_selected", "_selected_action": [token_id]}
            assert browser.post(url, data).status_code == 403
        assert everything_kept() == before

    def test_a_token_opens_no_admin_page(self, site: Site) -> None:
        issued = site.issue(scopes="users:manage")
        headers = {"Authorization": f"Bearer {issued.text.reveal()}"}
        for url in (TOKENS, f"{TOKENS}add/", f"{TOKENS}{issued.token.id}/revoke/"):
            for answer in (Browser().get(url, headers=headers), Browser().post(url, headers=headers)):
                assert answer.status_code == 302
                assert answer["Location"].startswith("/admin/login/")


class TestNobodyReadsADigest:
    @pytest.mark.parametrize(
        "query",
        [
            "digest__startswith=0",
            "digest=0",
            "key_fingerprint__startswith=0",
            "client__tokens__digest__startswith=0",
            "use__token__digest__startswith=0",
            "id__in=0",
            "state__regex=0",
            "client__name__startswith=b",
            "_to_field=digest",
            "_popup=1&_to_field=digest",
        ],
    )
    def test_by_the_query_string(self, site: Site, query: str) -> None:
        site.issue()
        browser = site.browser("all")
        assert browser.get(f"{TOKENS}?{query}").status_code == 400

    def test_through_the_clients_list(self, site: Site) -> None:
        site.issue()
        browser = site.browser("all")
        for query in ("tokens__digest__startswith=0", "tokens__id=0", "_to_field=name", "scopes__contains=a"):
            assert browser.get(f"{CLIENTS}?{query}").status_code == 400

    def test_on_any_page(self, site: Site) -> None:
        browser = site.browser("all")
        old = site.issue()
        new = site.issuer.rotate(old.token.id, actor="tests")
        for token in (old.token, new.token):
            for url in (
                TOKENS,
                f"{TOKENS}?_popup=1",
                f"{TOKENS}?o=1.2.3.4.5.6.7.8.9",
                f"{TOKENS}{token.id}/change/",
                f"{TOKENS}{token.id}/history/",
                f"{TOKENS}{token.id}/rotate/",
                f"{TOKENS}{token.id}/revoke/",
                f"{CLIENTS}{token.client_id}/change/",
                f"{CLIENTS}{token.client_id}/history/",
            ):
                page = browser.get(url).content.decode()
                assert token.digest not in page
                assert token.key_fingerprint not in page

    def test_by_autocompletion(self, site: Site) -> None:
        token = site.issue().token
        query = f"app_label=tokenguard&model_name=use&field_name=token&term={token.digest[:8]}"
        answer = site.browser("all").get(f"/admin/autocomplete/?{query}")
        assert token.digest not in answer.content.decode()
        query = "app_label=tokenguard&model_name=token&field_name=client&term=bill"
        assert site.browser("view_token", name="eve").get(f"/admin/autocomplete/?{query}").status_code == 403

    def test_a_tokens_text_in_the_search_is_not_kept_on_the_page(self, site: Site) -> None:
        issued = site.issue()
        answer = site.browser("all").get(TOKENS, {"q": issued.text.reveal()}, follow=True)
        assert answer.redirect_chain == [(TOKENS, 302)]
        assert "consider revoking the token" in plain(answer)
        assert text_of(answer.content.decode()) == []


class TestHostileText:
    def test_names_are_text(self, site: Site) -> None:
        client = site.issuer.register(EVIL, "users:read", actor=EVIL).id
        token = site.issuer.issue(client, "users:read", name=EVIL, actor=EVIL).token
        site.use(token.id)
        browser = site.browser("all", name=EVIL)
        data = {"action": "revoke_selected", "_selected_action": [token.id]}
        answers = [
            browser.get(TOKENS),
            browser.get(CLIENTS),
            browser.get(f"{TOKENS}?client={client}&q=script"),
            browser.get(f"{TOKENS}add/?client={client}"),
            browser.get(f"{TOKENS}{token.id}/change/"),
            browser.get(f"{CLIENTS}{client}/change/"),
            browser.get(f"{TOKENS}{token.id}/rotate/"),
            browser.post(TOKENS, data),
            browser.post(f"{TOKENS}{token.id}/rotate/", {"confirmed": "1", "overlap": "1h", "form_id": EVIL}),
            browser.post(f"{TOKENS}{token.id}/revoke/", {"confirmed": "1"}, follow=True),
            browser.get(f"{TOKENS}{token.id}/history/"),
            browser.get(f"{TOKENS}add/?client={EVIL}&name={EVIL}"),
        ]
        for answer in answers:
            assert answer.status_code == 200
            assert "<script>alert" not in answer.content.decode()

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            (EVIL, f"admin:{EVIL}"),
            ("ada@example.org", "admin:ada@example.org"),
            ("a\nb", "admin#{pk}"),
            ("trailing ", "admin#{pk}"),
            (f"tg_{'a' * 16}_{'b' * 75}", "admin#{pk}"),
        ],
    )
    def test_who_did_it_is_named_whatever_the_name(self, site: Site, name: str, expected: str) -> None:
        browser = site.browser("all", name=name)
        issue(site, browser)
        assert conf.get_store().events(1)[0].actor == expected.format(pk=User.objects.get().pk)

    def test_an_actor_is_of_bounded_length(self) -> None:
        from django.http import HttpRequest

        from tokenguard.django.admin.writes import actor

        request = HttpRequest()
        request.user = User(pk=7, username="a" * 250)
        assert actor(request) == "admin#7"


class TestTrouble:
    def urls(self, site: Site) -> list[str]:
        token = site.issue().token
        client = f"{CLIENTS}{token.client_id}/change/"
        return [TOKENS, CLIENTS, f"{TOKENS}add/", client, *(f"{TOKENS}{token.id}/{v}/" for v in ("change", "revoke"))]

    def test_missing_tables(self, site: Site) -> None:
        browser = site.browser("all")
        urls = self.urls(site)
        with connections["default"].cursor() as cursor:
            for table in ("token", "client"):
                cursor.execute(f"ALTER TABLE tokenguard_{table} RENAME TO gone_{table}")
        for url in urls:
            answer = browser.get(url)
            assert answer.status_code == 503, url
            assert "manage.py migrate tokenguard" in plain(answer)

    def test_routers_that_name_another_database_than_before(self, site: Site) -> None:
        class Router:
            tokens_in = "default"

            def db_for_write(self, model: Any, **hints: Any) -> str | None:
                return self.tokens_in if model._meta.app_label == "tokenguard" else None

        with override_settings(DATABASE_ROUTERS=[router := Router()]):
            browser, urls = site.browser("all"), self.urls(site)
            router.tokens_in = "of_another_tenant"
            for url in urls:
                answer = browser.get(url)
                assert answer.status_code == 503, url
                assert 'name it with TOKENGUARD["USING"]' in plain(answer)
            answer = browser.post(f"{CLIENTS}add/", {"name": "nightly", "scopes": ["users:read"]})
            assert "keeps its tokens in one database" in plain(answer)
        assert len(site.tokens()) == 1

    def test_missing_tables_are_not_asked_for_what_nobody_may_delete(self, site: Site) -> None:
        browser = site.browser("all")
        connections["default"].cursor().execute("ALTER TABLE tokenguard_token RENAME TO gone")
        for url in (TOKENS, CLIENTS):
            assert browser.get(f"{url}anything/delete/").status_code == 403

    def test_a_locked_database(self, site: Site) -> None:
        import sqlite3

        browser = site.browser("all")
        token = site.issue().token
        data = filled(browser, f"{TOKENS}add/?client={token.client_id}", scopes=["users:read"])
        connection = connections["default"]
        connection.cursor().execute("PRAGMA busy_timeout = 1")
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            for url, posted in (
                (f"{TOKENS}add/", data),
                (f"{TOKENS}{token.id}/revoke/", {"confirmed": "yes"}),
                (f"{CLIENTS}add/", {"name": "nightly", "scopes": ["users:read"]}),
            ):
                answer = browser.post(url, posted)
                assert answer.status_code == 200
                assert "nothing was done, try again" in plain(answer)
        finally:
            other.close()
        assert browser.post(f"{TOKENS}add/", data).status_code == 200
        assert len(site.tokens()) == 2

    def test_a_commit_that_fails(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        browser = site.browser("all")
        data = filled(browser, f"{TOKENS}add/?client={site.client()}", scopes=["users:read"])

        def fail(self: Any) -> None:
            monkeypatch.undo()
            raise OperationalError("disk I/O error")

        monkeypatch.setattr(DatabaseWrapper, "_commit", fail)
        answer = browser.post(f"{TOKENS}add/", data)
        assert "disk I/O error" in answer.content.decode()
        assert text_of(answer.content.decode()) == []
        assert site.tokens() == []
        assert len(text_of(browser.post(f"{TOKENS}add/", data).content.decode())) == 1

    @pytest.mark.parametrize("error", [OperationalError("no queue"), RuntimeError("no queue")])
    def test_what_fails_after_the_commit_costs_no_text(
        self, site: Site, error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser = site.browser("all")
        data = filled(browser, f"{TOKENS}add/?client={site.client()}", scopes=["users:read"])

        def fail() -> None:
            raise error

        def saved(**kwargs: Any) -> None:
            transaction.on_commit(fail)

        post_save.connect(saved, sender=LogEntry)
        try:
            answer = browser.post(f"{TOKENS}add/", data)
        finally:
            post_save.disconnect(saved, sender=LogEntry)
        (text,) = text_of(answer.content.decode())
        assert "after the commit failed" in caplog.text
        assert "no queue" in caplog.text
        assert text[20:] not in caplog.text
        assert browser.post(f"{TOKENS}add/", data).status_code == 409
        assert len(site.tokens()) == 1

    def test_damaged_rows(self, site: Site) -> None:
        browser = site.browser("all")
        token = site.issue().token
        models.Token._base_manager.update(scopes="no list")
        models.Client._base_manager.update(scopes='{"a": 1}')
        assert "damaged" in plain(browser.get(TOKENS))
        assert "damaged" in plain(browser.get(CLIENTS))
        for url in (f"{TOKENS}{token.id}/change/", f"{CLIENTS}{token.client_id}/change/"):
            answer = browser.get(url)
            assert answer.status_code == 503
            assert "is damaged" in plain(answer)

    @pytest.mark.parametrize("time", [2**62, -(2**62)])
    def test_times_that_no_calendar_reaches(self, site: Site, time: int) -> None:
        """A damaged row may hold them: the page says so, and still shows the others."""
        browser = site.browser("all")
        token = site.issue().token
        models.Token._base_manager.update(expires_at=time, created_at=time)
        for url in (TOKENS, f"{TOKENS}{token.id}/change/", f"{CLIENTS}{token.client_id}/change/"):
            assert browser.get(url).status_code == 200
        call_command("tokenguard", "list", stdout=StringIO())

    def test_a_setting_that_cannot_be_used(self, site: Site) -> None:
        browser = site.browser("all")
        without = [name for name in settings.MIDDLEWARE if "tokenguard" not in name]
        with override_settings(TOKENGUARD={"SIGNING_KEY": "short"}, MIDDLEWARE=without):
            answer = browser.get(TOKENS)
        assert answer.status_code == 500
        assert 'TOKENGUARD["SIGNING_KEY"]' in plain(answer)


class TestDatabases:
    def test_the_state_in_the_list_is_the_guards(self, site: Site, alias: str) -> None:
        migrate(alias)
        with override_settings(TOKENGUARD=SETTINGS | {"USING": alias}):
            at = now()
            ends = (None, at - 1, at + 1)
            timeouts = (None, 3600 * SECOND, DAY - USE_INTERVAL, DAY)
            owners = (site.client("on"), off(site))
            every = product(owners, (at, at - DAY), ends, ends[:2], ends[:2], ends, timeouts)
            ends_of = ("expires_at", "revoked_at", "idle_ended_at", "overlap_ends_at", "idle_timeout")
            names = ("client_id", "created_at", *ends_of)
            kept = {"name": "", "scopes": '["users:read"]', "digest": "0" * 64, "key_fingerprint": "0" * 16}
            rows = [
                models.Token(id=f"{number:016}", **kept, **dict(zip(names, values, strict=True)))
                for number, values in enumerate(every)
            ]
            models.Token._base_manager.using(alias).bulk_create(rows)
            for number in range(0, len(rows), 3):
                site.use(rows[number].id, ago=number % 2 * 7200 * SECOND)
            told = dict(with_state(models.Token.objects.using(alias), at).values_list("pk", "state"))
            assert told == {record.token.id: record.state(at) for record in site.tokens()}
            assert set(told.values()) == set(State)

    def test_the_stores_database_is_read_and_written(self, site: Site, alias: str) -> None:
        browser = site.browser("all")
        site.client("in the default database")
        migrate(alias)
        with override_settings(TOKENGUARD=SETTINGS | {"USING": alias}):
            assert listed(browser, url=CLIENTS) == []
            (text,) = text_of(issue(site, browser, idle="30d").content.decode())
            token_id = text.split("_")[1]
            site.use(token_id, requests=3)
            assert listed(browser, "?state=active&q=bill&o=1.2.-3.5.6.7.8") == [token_id]
            assert listed(browser, "?attention=expiring&_facets=True") == []
            assert listed(browser, "?state=%00") == listed(browser, "?client=%00") == []
            assert [row.active for row in browser.get(CLIENTS).context["cl"].result_list] == [1]
            assert "3 requests" in plain(browser.get(f"{TOKENS}{token_id}/change/"))
            url = f"{TOKENS}{token_id}/rotate/"
            data = filled(browser, url, overlap="0", confirmed="1")
            assert len(text_of(browser.post(url, data).content.decode())) == 1
            assert browser.post(url, data).status_code == 409
            assert listed(browser, "?state=rotated") == [token_id]
            assert browser.post(f"{TOKENS}{token_id}/revoke/", {"confirmed": "1"}).status_code == 302
            assert models.Token.objects.using(alias).get(pk=token_id).revoked_at
        assert site.tokens() == []
        assert LogEntry.objects.count() == 4

    def test_a_request_may_be_one_transaction(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
        browser = site.browser("all")
        (text,) = text_of(issue(site, browser).content.decode())
        assert site.state(text.split("_")[1]) == State.ACTIVE
        with override_settings(TOKENGUARD=SETTINGS | {"REQUIRE_NAME": True}):
            data = filled(browser, f"{TOKENS}add/?client={site.first_client}", scopes=["users:read"])
            assert browser.post(f"{TOKENS}add/", data).status_code == 200
        assert conf.get_store().events(1)[0].kind == "policy.refused"
        assert len(site.tokens()) == 1


def csp_nonce(request: Any) -> dict[str, str]:
    """The variable that Django 6's context processor ``csp`` adds."""
    return {"csp_nonce": "only this once"}


class TestLooks:
    @pytest.mark.parametrize("processors", [[], [f"{__name__}.csp_nonce"]])
    def test_what_a_page_loads_has_the_nonce_if_there_is_one(self, site: Site, processors: list[str]) -> None:
        (engine,) = settings.TEMPLATES
        options = {"context_processors": [*engine["OPTIONS"]["context_processors"], *processors]}
        with override_settings(TEMPLATES=[{**engine, "OPTIONS": options}]):
            page = issue(site, site.browser("all")).content.decode()
        loaded = re.findall(r"<(?:link|script)[^>]*/(?:tokenguard/|css/forms)[^>]*>", page)
        assert len(loaded) == 4
        assert all(('nonce="only this once"' in tag) is bool(processors) for tag in loaded)

    def test_the_colours_are_djangos(self) -> None:
        """A CSS variable that Django does not define gives no colour at all."""
        static = Path(admin.__file__).parent / "static/admin/css"
        known = {
            name
            for file in ("base.css", "dark_mode.css")
            for name in re.findall(r"(--[\w-]+):", (static / file).read_text())
        }
        ours = (Path(conf.__file__).parent / "static/tokenguard/admin.css").read_text()
        assert set(re.findall(r"var\((--[\w-]+)\)", ours)) <= known


class TestSites:
    def test_links_stay_in_a_site_of_another_name(self, site: Site) -> None:
        other = AdminSite(name="operations")
        other.register(models.Client, ClientAdmin)
        other.register(models.Token, TokenAdmin)
        urls = Urls([path("admin/", admin.site.urls), path("ops/", other.urls)])
        token = site.issue().token
        browser = site.browser("all")
        with override_settings(ROOT_URLCONF=urls):
            for url in (f"token/{token.id}/change/", f"client/{token.client_id}/change/", f"token/{token.id}/revoke/"):
                page = browser.get(f"/ops/tokenguard/{url}").content.decode()
                assert f'href="/ops/tokenguard/token/{token.id}/' in page
                assert 'href="/admin/' not in page
            answer = browser.post(f"/ops/tokenguard/token/{token.id}/revoke/", {"confirmed": "1"})
            assert answer["Location"] == f"/ops/tokenguard/token/{token.id}/change/"

    def test_what_a_list_leaves_out_has_no_page(self, site: Site) -> None:
        client = site.issue().token.client_id
        hidden, shown = site.issue(client).token.id, site.issue(client, name="ours").token.id
        other = AdminSite(name="operations")
        other.register(models.Client, NoClients)
        other.register(models.Token, OurTokens)
        browser = site.browser("all")
        with override_settings(ROOT_URLCONF=Urls([path("ops/", other.urls)])):
            for view in ("change", "history", "rotate", "revoke"):
                assert browser.get(f"/ops/tokenguard/token/{shown}/{view}/").status_code == 200
                assert browser.get(f"/ops/tokenguard/token/{hidden}/{view}/").status_code == 404
            assert browser.post(f"/ops/tokenguard/token/{hidden}/revoke/", {"confirmed": "1"}).status_code == 404
            for view in ("change", "history"):
                assert browser.get(f"/ops/tokenguard/client/{client}/{view}/").status_code == 404


class OurTokens(TokenAdmin):
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).filter(name="ours")


class NoClients(ClientAdmin):
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).none()


class Urls:
    def __init__(self, urlpatterns: list[Any]) -> None:
        self.urlpatterns = urlpatterns


def test_it_can_be_unregistered(site: Site) -> None:
    client = site.issue().token.client_id
    browser = site.browser("all")
    admin.site.unregister(models.Token)
    try:
        page = browser.get(f"{CLIENTS}{client}/change/")
        assert page.status_code == 200
        assert "token.issued" not in page.content.decode()
    finally:
        admin.site.register(models.Token, TokenAdmin)
    assert isinstance(admin.site._registry[models.Client], ClientAdmin)
