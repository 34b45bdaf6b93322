"""The Flask sample's directory, as a client sees it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sample_flask import create_app, seed
from sample_flask.directory import Directory

ROOT = Path(__file__).parent.parent
USERS = "/api/v1/users"
GROUPS = "/api/v1/groups"
ADA = f"{USERS}/ada.abbott@example.com"
NEW = {"firstName": "Wanda", "lastName": "Zimmer", "email": "w@example.com", "login": "wanda@example.com"}
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = create_app(
        {
            "TESTING": True,
            "TOKENGUARD_SIGNING_KEY": "a key for tests alone " * 2,
            "TOKENGUARD_DATABASE_URL": "memory://",
            "SAMPLE_DATABASE_URL": f"sqlite:///{tmp_path}/d.db",
        }
    )
    yield app
    app.extensions["sample_directory"].close()


@pytest.fixture
def api(app: Flask) -> FlaskClient:
    """A client that may do everything."""
    return client_with(app, "okta.users.manage okta.groups.read")


def client_with(app: Flask, scopes: str) -> FlaskClient:
    issuer = app.extensions["tokenguard"].issuer
    owner = issuer.register(f"tests {scopes}", scopes, actor="test")
    token = issuer.issue(owner.id, scopes, actor="test").text.reveal()
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


def body(response: TestResponse) -> Any:
    assert response.is_json
    return response.json


def links(response: TestResponse) -> dict[str, str]:
    (header,) = response.headers.getlist("Link")
    found = re.findall(r'<([^>]*)>; rel="(\w+)"', header)
    assert [rel for _, rel in found] in (["self"], ["self", "next"])
    return {rel: url for url, rel in found}


def walk(client: FlaskClient, url: str) -> list[list[Any]]:
    """The pages from ``url`` on."""
    pages = []
    while url:
        response = client.get(url)
        pages.append(body(response))
        url = links(response).get("next", "")
    return pages


def assert_error(response: TestResponse, status: int, code: str, *causes: str) -> None:
    assert (response.status_code, response.content_type) == (status, "application/json")
    error = body(response)
    assert sorted(error) == ["errorCauses", "errorCode", "errorId", "errorLink", "errorSummary"]
    assert (error["errorCode"], error["errorLink"]) == (code, code)
    assert error["errorId"].startswith("oae")
    assert error["errorSummary"]
    if causes:
        assert [cause["errorSummary"] for cause in error["errorCauses"]] == list(causes)


class TestGuarding:
    def test_the_index_is_public(self, app: Flask) -> None:
        response = app.test_client().get("/")
        assert response.status_code == 200
        assert body(response)["users"] == USERS

    def test_everything_else_needs_a_token(self, app: Flask) -> None:
        refused = 0
        for rule in app.url_map.iter_rules():
            for method in (rule.methods or set()) - {"OPTIONS"}:
                if rule.rule != "/":
                    path = rule.rule.replace("<key>", "x").replace("<group_id>", "x")
                    assert app.test_client().open(path, method=method).status_code == 401, (method, path)
                    refused += 1
        assert refused >= 12

    @pytest.mark.parametrize(
        ("scopes", "users", "writing", "groups"),
        [
            ("okta.users.read", 200, 403, 403),
            ("okta.users.manage", 200, 404, 403),
            ("okta.groups.read", 403, 403, 200),
        ],
    )
    def test_scopes(self, app: Flask, scopes: str, users: int, writing: int, groups: int) -> None:
        client = client_with(app, scopes)
        assert client.get(USERS).status_code == users
        assert client.delete(f"{USERS}/nobody@example.com").status_code == writing
        assert client.get(GROUPS).status_code == groups

    def test_an_unused_token_ends_after_thirty_days_as_at_okta(self, app: Flask) -> None:
        issuer = app.extensions["tokenguard"].issuer
        owner = issuer.register("tests", "okta.users.read", actor="test")
        token = issuer.issue(owner.id, "okta.users.read", actor="test").token
        assert token.idle_timeout == 30 * 86_400 * 1_000_000

    def test_refusals_of_a_token_keep_the_form_that_tokenguard_gives_them(self, app: Flask) -> None:
        assert app.test_client().get(USERS).content_type == "application/problem+json"
        refused = client_with(app, "okta.groups.read").get(USERS)
        assert refused.content_type == "application/problem+json"

    def test_a_write_is_logged_with_the_application_that_did_it(
        self, app: Flask, api: FlaskClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("INFO", app.logger.name):
            user = body(api.post(USERS, json={"profile": NEW}))
        assert f"tests okta.users.manage okta.groups.read created user {user['id']}" in caplog.text


class TestReading:
    def test_a_user(self, api: FlaskClient) -> None:
        user = body(api.get(ADA))
        assert user == {
            "id": "00uvPEReAvQ5AtGf3Sg5",
            "status": "ACTIVE",
            "created": "2024-01-02T08:00:00.000Z",
            "activated": "2024-01-02T08:00:00.000Z",
            "statusChanged": "2024-01-02T08:00:00.000Z",
            "lastLogin": None,
            "lastUpdated": "2024-01-02T08:00:00.000Z",
            "passwordChanged": None,
            "type": {"id": "oty1defaultusertype0"},
            "profile": {
                "firstName": "Ada",
                "lastName": "Abbott",
                "email": "ada.abbott@example.com",
                "login": "ada.abbott@example.com",
                "mobilePhone": "+1-555-0100",
                "department": "Accounting",
                "title": "Assistant",
            },
            "credentials": {"provider": {"type": "OKTA", "name": "OKTA"}},
            "_links": {"self": {"href": f"http://localhost{USERS}/{user['id']}"}},
        }

    def test_a_group(self, api: FlaskClient) -> None:
        (page,) = walk(api, GROUPS)
        assert len(page) == 12
        group = next(group for group in page if group["profile"]["name"] == "Accounting")
        assert group == {
            "id": group["id"],
            "created": "2024-01-02T08:00:00.000Z",
            "lastUpdated": "2024-01-02T08:00:00.000Z",
            "lastMembershipUpdated": "2024-11-10T01:05:02.100Z",
            "objectClass": ["okta:user_group"],
            "type": "OKTA_GROUP",
            "profile": {"name": "Accounting", "description": "Books, invoices and payments"},
            "_links": {"self": {"href": f"http://localhost{GROUPS}/{group['id']}"}},
        }
        assert body(api.get(f"{GROUPS}/{group['id']}")) == group

    def test_a_user_is_found_by_id_and_by_login_in_any_case(self, api: FlaskClient) -> None:
        user = body(api.get(f"{USERS}/ADA.Abbott@example.com"))
        assert body(api.get(f"{USERS}/{user['id']}")) == user

    def test_ids_look_like_oktas(self, api: FlaskClient) -> None:
        assert all(re.fullmatch("00u[0-9A-Za-z]{17}", user["id"]) for user in body(api.get(USERS)))
        assert all(re.fullmatch("00g[0-9A-Za-z]{17}", group["id"]) for group in body(api.get(GROUPS)))

    def test_unknown_ids(self, api: FlaskClient) -> None:
        missing = api.get(f"{USERS}/00uNobody")
        assert_error(missing, 404, "E0000007")
        assert body(missing)["errorSummary"] == "Not found: Resource not found: 00uNobody (User)"
        assert_error(api.get(f"{GROUPS}/00gNothing"), 404, "E0000007")


class TestPaging:
    def test_a_walk_sees_each_user_once(self, api: FlaskClient) -> None:
        pages = walk(api, f"{USERS}?limit=37")
        assert [len(page) for page in pages] == [37] * 8 + [4]
        logins = [user["profile"]["login"] for page in pages for user in page]
        assert set(logins) == {person["login_key"] for person in seed.people()}
        assert len(logins) == seed.PEOPLE

    def test_a_walk_is_not_upset_by_those_who_go(self, api: FlaskClient) -> None:
        first = api.get(f"{USERS}?limit=10")
        for user in body(first):
            assert api.delete(f"{USERS}/{user['id']}").status_code == 204
        rest = [user["id"] for page in walk(api, links(first)["next"]) for user in page]
        assert len(rest) == seed.PEOPLE - 10

    def test_groups_are_paged_too(self, api: FlaskClient) -> None:
        assert [len(page) for page in walk(api, f"{GROUPS}?limit=5")] == [5, 5, 2]

    def test_there_are_200_users_on_a_page_unless_told(self, api: FlaskClient) -> None:
        assert [len(page) for page in walk(api, USERS)] == [200, 100]

    def test_a_full_last_page_has_no_next(self, api: FlaskClient) -> None:
        assert [len(page) for page in walk(api, f"{USERS}?limit=100")] == [100, 100, 100]

    def test_links(self, api: FlaskClient) -> None:
        first = api.get(f"{USERS}?limit=2")
        assert links(first)["self"] == f"http://localhost{USERS}?limit=2"
        second = api.get(links(first)["next"])
        assert links(second)["self"] == links(first)["next"]

    @pytest.mark.parametrize("limit", ["0", "201", "-1", "+1", "1e1", "", " 1", "٣", "9" * 5000, "\x00"])
    def test_bad_limits(self, api: FlaskClient, limit: str) -> None:
        assert_error(api.get(USERS, query_string={"limit": limit}), 400, "E0000001")

    def test_bad_cursors(self, api: FlaskClient) -> None:
        url = links(api.get(f"{USERS}?limit=2"))["next"]
        after = re.findall(r"after=(\w+)", url)[0]
        for bad in ("", "x", after[:-1], after + "0", after.swapcase(), "ff" + after, "é" * 28, "\x00" * 28):
            assert_error(api.get(USERS, query_string={"after": bad}), 400, "E0000001")

    @pytest.mark.parametrize("argument", ["q", "filter", "search"])
    def test_a_search_is_not_answered_with_everybody(self, api: FlaskClient, argument: str) -> None:
        assert_error(api.get(USERS, query_string={argument: "ada"}), 400, "E0000001")


class TestWriting:
    def test_create(self, api: FlaskClient) -> None:
        created = api.post(USERS, json={"profile": NEW})
        assert created.status_code == 200
        user = body(created)
        assert re.fullmatch("00u[0-9A-Za-z]{17}", user["id"])
        assert user["status"] == "ACTIVE"
        assert user["profile"] == {**NEW, "mobilePhone": None, "department": None, "title": None}
        assert DATE.fullmatch(user["created"])
        assert user["created"] == user["activated"] == user["statusChanged"] == user["lastUpdated"]
        assert body(api.get(f"{USERS}/{user['id']}")) == user

    def test_create_without_activation(self, api: FlaskClient) -> None:
        user = body(api.post(f"{USERS}?activate=false", json={"profile": NEW}))
        assert (user["status"], user["activated"]) == ("STAGED", None)
        assert body(api.post(f"{USERS}/{user['id']}/lifecycle/activate")) == {}
        user = body(api.get(f"{USERS}/{user['id']}"))
        assert user["status"] == "ACTIVE"
        assert DATE.fullmatch(user["activated"])

    def test_activate_is_true_or_false(self, api: FlaskClient) -> None:
        assert_error(api.post(f"{USERS}?activate=no", json={"profile": NEW}), 400, "E0000001")

    @pytest.mark.parametrize("login", ["ada.abbott@example.com", "ADA.ABBOTT@EXAMPLE.COM"])
    def test_a_login_is_unique(self, api: FlaskClient, login: str) -> None:
        taken = "login: An object with this field already exists in the current organization"
        assert_error(api.post(USERS, json={"profile": {**NEW, "login": login}}), 400, "E0000001", taken)
        bruno = f"{USERS}/bruno.abbott@example.com"
        assert_error(api.post(bruno, json={"profile": {"login": login}}), 400, "E0000001", taken)
        assert api.get(bruno).status_code == 200

    def test_update_changes_what_is_sent(self, api: FlaskClient) -> None:
        before = body(api.get(ADA))
        after = body(api.post(ADA, json={"profile": {"title": "Countess", "mobilePhone": None}}))
        assert after["profile"] == {**before["profile"], "title": "Countess", "mobilePhone": None}
        assert after["lastUpdated"] > before["lastUpdated"]
        assert body(api.get(ADA)) == after

    def test_update_of_nothing(self, api: FlaskClient) -> None:
        assert body(api.post(ADA, json={}))["profile"] == body(api.get(ADA))["profile"]

    def test_update_cannot_clear_what_is_needed(self, api: FlaskClient) -> None:
        blank = "login: The field cannot be left blank"
        assert_error(api.post(ADA, json={"profile": {"login": None}}), 400, "E0000001", blank)

    def test_replace_clears_what_is_not_sent(self, api: FlaskClient) -> None:
        before = body(api.get(ADA))
        after = body(api.put(ADA, json={"profile": NEW}))
        assert after["profile"] == {**NEW, "mobilePhone": None, "department": None, "title": None}
        assert after["id"] == before["id"]
        assert api.get(ADA).status_code == 404

    def test_a_user_can_be_put_back_as_it_was_got(self, api: FlaskClient) -> None:
        user = body(api.get(ADA))
        assert body(api.put(ADA, json=user))["profile"] == user["profile"]

    def test_a_name_may_be_in_any_script(self, api: FlaskClient) -> None:
        api.put(ADA, json={"profile": {**NEW, "login": "ada.abbott@example.com", "firstName": "Łucja 李"}})
        assert body(api.get(ADA))["profile"]["firstName"] == "Łucja 李"

    def test_deactivate(self, api: FlaskClient) -> None:
        answer = api.post(f"{ADA}/lifecycle/deactivate")
        assert (answer.status_code, body(answer)) == (200, {})
        assert body(api.get(ADA))["status"] == "DEPROVISIONED"
        assert_error(api.post(f"{ADA}/lifecycle/deactivate"), 403, "E0000038")
        assert "ada.abbott@example.com" not in json.dumps(walk(api, USERS))
        assert api.post(f"{ADA}/lifecycle/activate").status_code == 200
        assert_error(api.post(f"{ADA}/lifecycle/activate"), 403, "E0000038")

    def test_delete_deactivates_first(self, api: FlaskClient) -> None:
        answer = api.delete(ADA)
        assert (answer.status_code, answer.data) == (204, b"")
        assert body(api.get(ADA))["status"] == "DEPROVISIONED"
        assert api.delete(ADA).status_code == 204
        assert_error(api.get(ADA), 404, "E0000007")
        assert_error(api.delete(ADA), 404, "E0000007")


def profile(**changes: Any) -> bytes:
    return json.dumps({"profile": {**NEW, **changes}}).encode()


BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "E0000003"),
    (b"{", 400, "E0000003"),
    (b"profile=1", 400, "E0000003"),
    (b"\xff\xfe", 400, "E0000003"),
    (b'{"profile": NaN}', 400, "E0000003"),
    (b"1" * 10_000, 400, "E0000003"),
    (b"[" * 16_000, 400, "E0000003"),
    (b"[" * 8_000 + b"]" * 8_000, 400, "E0000003"),
    (b'{"profile": {"firstName": ' + b"[" * 400 + b"]" * 400 + b"}}", 400, "E0000001"),
    (b'{"profile": ' * 400 + b"1" + b"}" * 400, 400, "E0000001"),
    (b"[]", 400, "E0000003"),
    (b"null", 400, "E0000003"),
    (b'"profile"', 400, "E0000003"),
    (b"{}", 400, "E0000001"),
    (b'{"profile": null}', 400, "E0000001"),
    (b'{"profile": []}', 400, "E0000001"),
    (b'{"profile": {}}', 400, "E0000001"),
    (profile(nickName="W"), 400, "E0000001"),
    (profile(**{"\ud800" * 1_000: "W"}), 400, "E0000001"),
    (profile(firstName=""), 400, "E0000001"),
    (profile(firstName=" \t "), 400, "E0000001"),
    (profile(firstName="x" * 51), 400, "E0000001"),
    (profile(firstName=1), 400, "E0000001"),
    (profile(firstName=True), 400, "E0000001"),
    (profile(firstName={"a": 1}), 400, "E0000001"),
    (profile(firstName=10**400), 400, "E0000001"),
    (profile(firstName="W\x00"), 400, "E0000001"),
    (profile(firstName="\ud800"), 400, "E0000001"),
    (profile(lastName="a\nb"), 400, "E0000001"),
    (profile(title="\x7f"), 400, "E0000001"),
    (profile(title="x" * 101), 400, "E0000001"),
    (profile(email="wanda"), 400, "E0000001"),
    (profile(email="wanda@example.com\n"), 400, "E0000001"),
    (profile(email="a@b@example.com"), 400, "E0000001"),
    (profile(login="w@x"), 400, "E0000001"),
    (profile(login="a/b@example.com"), 400, "E0000001"),
    (profile(login="żaba@example.com"), 400, "E0000001"),
    (profile(login="x" * 90 + "@example.com"), 400, "E0000001"),
    (profile(login="x@" + "a." * 49), 400, "E0000001"),
    (profile(title="x" * 17_000), 413, "E0000001"),
]


class TestHostileInput:
    @pytest.mark.parametrize(("sent", "status", "code"), BODIES, ids=range(len(BODIES)))
    def test_bodies(self, api: FlaskClient, sent: bytes, status: int, code: str) -> None:
        for send, path in ((api.post, USERS), (api.put, ADA)):
            answer = send(path, data=sent, content_type="application/json")
            assert_error(answer, status, code)
            assert len(answer.data) < 2_000
        assert api.get(f"{USERS}/wanda@example.com").status_code == 404

    def test_every_fault_is_told(self, api: FlaskClient) -> None:
        answer = api.post(USERS, json={"profile": {"firstName": "W", "login": "w@x", "email": 7}})
        assert_error(
            answer,
            400,
            "E0000001",
            "lastName: The field cannot be left blank",
            "email: The field must be a string",
            "login: The field must have 5 to 100 characters",
        )
        assert body(answer)["errorSummary"] == "Api validation failed: lastName"

    @pytest.mark.parametrize(
        "path",
        [
            f"{USERS}/%00",
            f"{USERS}/%ff%fe",
            f"{USERS}/%ed%a0%80",
            f"{USERS}/'%20OR%201=1--",
            f"{USERS}/a%2Fb@example.com",
            f"{USERS}/" + "x" * 5_000,
            f"{USERS}/ada.abbott@example.com%00",
            f"{USERS}/../groups",
            f"{USERS}/",
            f"{USERS}/a/b",
            f"{GROUPS}/%00",
            f"{GROUPS}/Accounting",
            "/api/v1/nothing",
            "/api",
            "/static/x",
            "/%00",
        ],
    )
    def test_paths(self, api: FlaskClient, path: str) -> None:
        answer = api.get(path)
        assert_error(answer, 404, "E0000007")
        assert len(answer.data) < 2_000

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PATCH", ADA, {"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"}),
            ("DELETE", USERS, {"GET", "HEAD", "OPTIONS", "POST"}),
            ("POST", GROUPS, {"GET", "HEAD", "OPTIONS"}),
            ("GET", f"{ADA}/lifecycle/deactivate", {"POST", "OPTIONS"}),
            ("PROPFIND", "/", {"GET", "HEAD", "OPTIONS"}),
        ],
    )
    def test_methods(self, api: FlaskClient, method: str, path: str, allowed: set[str]) -> None:
        answer = api.open(path, method=method)
        assert_error(answer, 405, "E0000022")
        assert set(answer.allow) == allowed

    @pytest.mark.parametrize("host", ["", "a b", "<script>", "[", "evil.example:99999999"])
    def test_a_strange_host_does_no_harm(self, api: FlaskClient, host: str) -> None:
        for path in (USERS, ADA):
            assert api.get(path, headers={"Host": host}).status_code == 200

    def test_a_host_that_cannot_be(self, app: Flask, api: FlaskClient) -> None:
        assert_error(api.get(USERS, headers={"Host": "x" * 300}), 400, "E0000001")
        app.config["TRUSTED_HOSTS"] = ["directory.example"]
        assert_error(api.get(USERS), 400, "E0000001")

    @pytest.mark.parametrize(("size", "status"), [(1_000, 200), (17_000, 413)])
    def test_chunked_bodies(self, api: FlaskClient, size: int, status: int) -> None:
        environ = {"wsgi.input": BytesIO(profile().ljust(size)), "wsgi.input_terminated": True}
        assert api.post(USERS, environ_overrides=environ).status_code == status

    def test_a_body_that_stops_short(self, api: FlaskClient) -> None:
        answer = api.post(USERS, data=profile(), environ_overrides={"CONTENT_LENGTH": "5000"})
        assert_error(answer, 400, "E0000003")

    def test_a_fault_of_ours_is_told_in_the_same_form(
        self, app: Flask, api: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app.config["PROPAGATE_EXCEPTIONS"] = False
        monkeypatch.setattr(Directory, "user", lambda self, key: 1 / 0)
        answer = api.get(ADA)
        assert_error(answer, 500, "E0000009")
        assert b"division" not in answer.data


# Says that it is ready, waits for a line, and then starts the service.
START = """
import sys
from sample_flask.directory import Directory
print("ready", flush=True)
sys.stdin.readline()
directory = Directory(sys.argv[1])
print(len(directory.users(1000).items), len(directory.groups(1000).items))
"""


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str], line: str = "") -> str:
    out, err = process.communicate(line, timeout=60)
    assert process.returncode == 0, err
    return out


class TestStart:
    def test_processes_that_start_at_once_fill_the_directory_once(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/d.db"
        workers = [run("-c", START, url, cwd=tmp_path) for _ in range(4)]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        assert [output(worker) for worker in workers] == [f"{seed.PEOPLE} 12\n"] * 4

    def test_a_start_that_stopped_halfway(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        url = f"sqlite:///{tmp_path}/d.db"
        with monkeypatch.context() as patched:
            patched.setattr(seed, "groups", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                Directory(url)
        directory = Directory(url)
        assert len(directory.users(1000).items) == seed.PEOPLE
        directory.close()

    def test_what_was_changed_survives_a_restart(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/d.db"
        for expected in (seed.PEOPLE, 0):
            directory = Directory(url)
            assert len(directory.users(1000).items) == expected
            for user in directory.users(1000).items:
                directory.delete_user(user.id)
            directory.close()

    def test_only_sqlite_will_do(self) -> None:
        with pytest.raises(ValueError, match="SAMPLE_DATABASE_URL"):
            Directory("postgresql://localhost/directory")

    def test_the_people_are_the_same_everywhere(self) -> None:
        first, *_, last = seed.people()
        assert (first["id"], last["id"]) == ("00uvPEReAvQ5AtGf3Sg5", "00uh23Kk50Dv8wHRq3Hn")
        assert len({person["login_key"] for person in seed.people()}) == seed.PEOPLE

    def test_importing_opens_no_database(self, tmp_path: Path) -> None:
        output(run("-c", "import sample_flask", cwd=tmp_path))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "arguments",
        [
            ("-c", "import sample_flask; assert sample_flask.app is sample_flask.app"),
            ("-m", "flask", "--app", "sample_flask", "routes"),
            ("-m", "flask", "--app", "sample_flask:create_app", "routes"),
            ("-m", "gunicorn", "--check-config", "sample_flask:app"),
            ("-m", "gunicorn", "--check-config", "sample_flask:create_app()"),
        ],
        ids=" ".join,
    )
    def test_the_application_is_found(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        if "gunicorn" in arguments:
            pytest.importorskip("gunicorn")
        environ = {"TOKENGUARD_SIGNING_KEY": "k" * 40, "TOKENGUARD_DATABASE_URL": "memory://"}
        output(run(*arguments, cwd=tmp_path, **environ))
        assert (tmp_path / "sample_directory.db").exists()
