"""The samples' directory, as a client sees it: the same on each sample and each server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from sample_flask import seed

from .samples import EVERYTHING, Client, Sample, django_sample, flask_sample
from .server import Answer

USERS = "/api/v1/users"
GROUPS = "/api/v1/groups"
TOKENS = "/api/v1/api-tokens"
ADA = f"{USERS}/ada.abbott@example.com"
NEW = {"firstName": "Wanda", "lastName": "Zimmer", "email": "w@example.com", "login": "wanda@example.com"}
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
#: Every path that requires a token, with its methods and the scope that each requires.
GUARDED = {
    USERS: {"GET": "okta.users.read", "POST": "okta.users.manage"},
    f"{USERS}/x": {
        "GET": "okta.users.read",
        "POST": "okta.users.manage",
        "PUT": "okta.users.manage",
        "DELETE": "okta.users.manage",
    },
    f"{USERS}/x/lifecycle/activate": {"POST": "okta.users.manage"},
    f"{USERS}/x/lifecycle/deactivate": {"POST": "okta.users.manage"},
    GROUPS: {"GET": "okta.groups.read"},
    f"{GROUPS}/x": {"GET": "okta.groups.read"},
    TOKENS: {"GET": "okta.apiTokens.read", "POST": "okta.apiTokens.manage"},
    f"{TOKENS}/x": {
        "GET": "okta.apiTokens.read",
        "PUT": "okta.apiTokens.manage",
        "DELETE": "okta.apiTokens.manage",
    },
    f"{TOKENS}/x/rotate": {"POST": "okta.apiTokens.manage"},
}


@pytest.fixture(scope="module", params=["flask", "django under gunicorn", "django under uvicorn"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    server = request.param.partition(" under ")[2]
    folder = tmp_path_factory.mktemp("sample")
    opened: AbstractContextManager[Sample] = django_sample(folder, server) if server else flask_sample(folder)
    with opened as sample:
        yield sample


@pytest.fixture
def sample(running: Sample) -> Sample:
    """One of the samples, with its directory as it was at first."""
    running.reset()
    return running


@pytest.fixture
def api(sample: Sample) -> Client:
    """A client that may do everything."""
    return sample.client(EVERYTHING)


def body(response: Answer) -> Any:
    assert response.headers["Content-Type"] == "application/json"
    return response.json


def links(response: Answer) -> dict[str, str]:
    (header,) = response.headers.get_all("Link", [])
    found = re.findall(r'<([^>]*)>; rel="(\w+)"', header)
    assert [rel for _, rel in found] in (["self"], ["self", "next"])
    return {rel: url for url, rel in found}


def walk(client: Client, url: str) -> list[list[Any]]:
    """Return the pages from ``url`` on."""
    pages = []
    while url:
        response = client.get(url)
        pages.append(body(response))
        url = links(response).get("next", "")
    return pages


def assert_error(response: Answer, status: int, code: str, *causes: str) -> None:
    assert response.status == status
    error = body(response)
    assert sorted(error) == ["errorCauses", "errorCode", "errorId", "errorLink", "errorSummary"]
    assert (error["errorCode"], error["errorLink"]) == (code, code)
    assert error["errorId"].startswith("oae")
    assert error["errorSummary"]
    if causes:
        assert [cause["errorSummary"] for cause in error["errorCauses"]] == list(causes)


class TestGuarding:
    def test_the_index_is_public(self, sample: Sample) -> None:
        response = sample.client().get("/")
        assert response.status == 200
        assert body(response)["users"] == USERS

    def test_everything_else_needs_a_token_with_its_scope(self, sample: Sample) -> None:
        nobody, others = sample.client(), {"okta.groups.read": sample.client("okta.users.manage")}
        stranger = sample.client("okta.groups.read")
        for path, methods in GUARDED.items():
            for method, scope in methods.items():
                assert nobody.request(method, path).status == 401, (method, path)
                refused = others.get(scope, stranger).request(method, path)
                assert refused.status == 403, (method, path)
                assert f'scope="{scope}"' in refused.headers["WWW-Authenticate"], (method, path)

    @pytest.mark.parametrize(
        ("scopes", "users", "writing", "groups"),
        [
            ("okta.users.read", 200, 403, 403),
            ("okta.users.manage", 200, 404, 403),
            ("okta.groups.read", 403, 403, 200),
        ],
    )
    def test_manage_implies_read(self, sample: Sample, scopes: str, users: int, writing: int, groups: int) -> None:
        client = sample.client(scopes)
        assert client.get(USERS).status == users
        assert client.delete(f"{USERS}/nobody@example.com").status == writing
        assert client.get(GROUPS).status == groups

    def test_refusals_of_a_token_have_the_form_of_all_others(self, sample: Sample) -> None:
        assert_error(sample.client().get(USERS), 401, "E0000005")
        assert_error(sample.client().get(USERS, headers={"Authorization": "SSWSgarbage"}), 401, "E0000011")
        assert_error(sample.client("okta.groups.read").get(USERS), 403, "E0000006")

    def test_every_answer_has_an_id(self, sample: Sample, api: Client) -> None:
        answers = [api.get(path) for path in (USERS, "/", "/nothing", f"{USERS}/nobody")] + [sample.client().get(USERS)]
        assert len({answer.headers["X-Okta-Request-Id"] for answer in answers} - {None}) == len(answers)

    def test_a_write_is_logged_with_the_application_that_did_it(self, sample: Sample, api: Client) -> None:
        user = body(api.post(USERS, sent={"profile": NEW}))
        expected = f"tests {EVERYTHING} created user {user['id']}"
        assert any(expected in sample.log() for _ in range(200))


class TestReading:
    def test_a_user(self, sample: Sample, api: Client) -> None:
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
            "_links": {"self": {"href": f"{sample.root}{USERS}/{user['id']}"}},
        }

    def test_a_group(self, sample: Sample, api: Client) -> None:
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
            "_links": {"self": {"href": f"{sample.root}{GROUPS}/{group['id']}"}},
        }
        assert body(api.get(f"{GROUPS}/{group['id']}")) == group

    def test_a_user_is_found_by_id_and_by_login_in_any_case(self, api: Client) -> None:
        user = body(api.get(f"{USERS}/ADA.Abbott@example.com"))
        assert body(api.get(f"{USERS}/{user['id']}")) == user

    def test_ids_look_like_oktas(self, api: Client) -> None:
        assert all(re.fullmatch("00u[0-9A-Za-z]{17}", user["id"]) for user in body(api.get(USERS)))
        assert all(re.fullmatch("00g[0-9A-Za-z]{17}", group["id"]) for group in body(api.get(GROUPS)))

    def test_an_unknown_id_is_named(self, api: Client) -> None:
        missing = api.get(f"{USERS}/00uNobody")
        assert_error(missing, 404, "E0000007")
        assert body(missing)["errorSummary"] == "Not found: Resource not found: 00uNobody (User)"
        assert_error(api.get(f"{GROUPS}/00gNothing"), 404, "E0000007")


class TestPaging:
    def test_a_walk_sees_each_user_once(self, api: Client) -> None:
        pages = walk(api, f"{USERS}?limit=37")
        assert [len(page) for page in pages] == [37] * 8 + [4]
        logins = [user["profile"]["login"] for page in pages for user in page]
        assert set(logins) == {person["login_key"] for person in seed.people()}
        assert len(logins) == seed.PEOPLE

    def test_a_walk_is_not_upset_by_those_who_go(self, api: Client) -> None:
        first = api.get(f"{USERS}?limit=10")
        for user in body(first):
            assert api.delete(f"{USERS}/{user['id']}").status == 204
        rest = [user["id"] for page in walk(api, links(first)["next"]) for user in page]
        assert len(rest) == seed.PEOPLE - 10

    def test_groups_are_paged_too(self, api: Client) -> None:
        assert [len(page) for page in walk(api, f"{GROUPS}?limit=5")] == [5, 5, 2]

    def test_there_are_200_users_on_a_page_unless_told(self, api: Client) -> None:
        assert [len(page) for page in walk(api, USERS)] == [200, 100]

    def test_a_full_last_page_has_no_next(self, api: Client) -> None:
        assert [len(page) for page in walk(api, f"{USERS}?limit=100")] == [100, 100, 100]

    def test_links_are_absolute_and_lead_on(self, sample: Sample, api: Client) -> None:
        first = api.get(f"{USERS}?limit=2")
        assert links(first)["self"] == f"{sample.root}{USERS}?limit=2"
        second = api.get(links(first)["next"])
        assert links(second)["self"] == links(first)["next"]

    @pytest.mark.parametrize("limit", ["0", "201", "-1", "+1", "1e1", "", " 1", "٣", "9" * 3000, "\x00"])
    def test_a_limit_is_a_number_from_1_to_200(self, api: Client, limit: str) -> None:
        assert_error(api.get(USERS, query={"limit": limit}), 400, "E0000001")

    def test_only_a_cursor_that_was_handed_out_will_do(self, api: Client) -> None:
        url = links(api.get(f"{USERS}?limit=2"))["next"]
        after = re.findall(r"after=(\w+)", url)[0]
        for bad in ("", "x", after[:-1], after + "0", after.swapcase(), "ff" + after, "é" * 28, "\x00" * 28):
            assert_error(api.get(USERS, query={"after": bad}), 400, "E0000001")

    def test_an_argument_that_is_there_twice(self, api: Client) -> None:
        assert_error(api.get(f"{USERS}?limit=1&limit=2"), 400, "E0000001")

    @pytest.mark.parametrize("argument", ["q", "filter", "search"])
    def test_a_search_is_not_answered_with_everybody(self, api: Client, argument: str) -> None:
        assert_error(api.get(USERS, query={argument: "ada"}), 400, "E0000001")


class TestWriting:
    def test_what_is_created_can_be_read(self, api: Client) -> None:
        created = api.post(USERS, sent={"profile": NEW})
        assert created.status == 200
        user = body(created)
        assert re.fullmatch("00u[0-9A-Za-z]{17}", user["id"])
        assert user["status"] == "ACTIVE"
        assert user["profile"] == {**NEW, "mobilePhone": None, "department": None, "title": None}
        assert DATE.fullmatch(user["created"])
        assert user["created"] == user["activated"] == user["statusChanged"] == user["lastUpdated"]
        assert body(api.get(f"{USERS}/{user['id']}")) == user

    def test_create_without_activation(self, api: Client) -> None:
        user = body(api.post(f"{USERS}?activate=false", sent={"profile": NEW}))
        assert (user["status"], user["activated"]) == ("STAGED", None)
        assert body(api.post(f"{USERS}/{user['id']}/lifecycle/activate")) == {}
        user = body(api.get(f"{USERS}/{user['id']}"))
        assert user["status"] == "ACTIVE"
        assert DATE.fullmatch(user["activated"])

    def test_activate_is_true_or_false(self, api: Client) -> None:
        for bad in ("activate=no", "activate=", "activate=true&activate=false"):
            assert_error(api.post(f"{USERS}?{bad}", sent={"profile": NEW}), 400, "E0000001")

    @pytest.mark.parametrize("login", ["ada.abbott@example.com", "ADA.ABBOTT@EXAMPLE.COM"])
    def test_a_login_is_unique(self, api: Client, login: str) -> None:
        taken = "login: An object with this field already exists in the current organization"
        assert_error(api.post(USERS, sent={"profile": {**NEW, "login": login}}), 400, "E0000001", taken)
        bruno = f"{USERS}/bruno.abbott@example.com"
        assert_error(api.post(bruno, sent={"profile": {"login": login}}), 400, "E0000001", taken)
        assert api.get(bruno).status == 200

    def test_update_changes_what_is_sent(self, api: Client) -> None:
        before = body(api.get(ADA))
        after = body(api.post(ADA, sent={"profile": {"title": "Countess", "mobilePhone": None}}))
        assert after["profile"] == {**before["profile"], "title": "Countess", "mobilePhone": None}
        assert after["lastUpdated"] > before["lastUpdated"]
        assert body(api.get(ADA)) == after

    def test_update_of_nothing_changes_nothing(self, api: Client) -> None:
        before = body(api.get(ADA))
        assert body(api.post(ADA, sent={}))["profile"] == body(api.get(ADA))["profile"] == before["profile"]

    def test_update_cannot_clear_what_is_needed(self, api: Client) -> None:
        blank = "login: The field cannot be left blank"
        assert_error(api.post(ADA, sent={"profile": {"login": None}}), 400, "E0000001", blank)

    def test_replace_clears_what_is_not_sent(self, api: Client) -> None:
        before = body(api.get(ADA))
        after = body(api.put(ADA, sent={"profile": NEW}))
        assert after["profile"] == {**NEW, "mobilePhone": None, "department": None, "title": None}
        assert after["id"] == before["id"]
        assert api.get(ADA).status == 404

    def test_a_user_can_be_put_back_as_it_was_got(self, api: Client) -> None:
        user = body(api.get(ADA))
        assert body(api.put(ADA, sent=user))["profile"] == user["profile"]

    def test_a_name_may_be_in_any_script(self, api: Client) -> None:
        api.put(ADA, sent={"profile": {**NEW, "login": "ada.abbott@example.com", "firstName": "Łucja 李"}})
        assert body(api.get(ADA))["profile"]["firstName"] == "Łucja 李"

    def test_deactivate(self, api: Client) -> None:
        answer = api.post(f"{ADA}/lifecycle/deactivate")
        assert (answer.status, body(answer)) == (200, {})
        assert body(api.get(ADA))["status"] == "DEPROVISIONED"
        assert_error(api.post(f"{ADA}/lifecycle/deactivate"), 403, "E0000038")
        assert "ada.abbott@example.com" not in json.dumps(walk(api, USERS))
        assert api.post(f"{ADA}/lifecycle/activate").status == 200
        assert_error(api.post(f"{ADA}/lifecycle/activate"), 403, "E0000038")

    def test_delete_deactivates_first(self, api: Client) -> None:
        answer = api.delete(ADA)
        assert (answer.status, answer.body) == (204, b"")
        assert body(api.get(ADA))["status"] == "DEPROVISIONED"
        assert api.delete(ADA).status == 204
        assert_error(api.get(ADA), 404, "E0000007")
        assert_error(api.delete(ADA), 404, "E0000007")


class TestTokens:
    @pytest.fixture
    def manager(self, sample: Sample) -> Client:
        return sample.client("okta.users.read okta.apiTokens.manage")

    def made(self, manager: Client, **members: Any) -> dict[str, Any]:
        answer = manager.post(TOKENS, sent={"scopes": ["okta.users.read"], **members})
        assert (answer.status, answer.headers["Cache-Control"]) == (201, "no-store")
        found: dict[str, Any] = body(answer)
        return found

    def test_a_token_from_its_making_to_its_end(self, sample: Sample, manager: Client) -> None:
        token = self.made(manager, name="nightly")
        assert (token["name"], token["tokenWindow"]) == ("nightly", "P30D")
        users = sample.client_with(token["token"])
        assert users.get(USERS).status == 200
        assert_error(users.get(TOKENS), 403, "E0000006")
        one = f"{TOKENS}/{token['id']}"
        assert "token" not in body(manager.get(one))
        successor = body(manager.post(f"{one}/rotate", sent={"overlap": "PT1H"}))
        assert sample.client_with(successor["token"]).get(USERS).status == 200
        assert users.get(USERS).status == 200
        assert manager.delete(one).status == 204
        assert_error(manager.get(one), 404, "E0000007")
        assert_error(users.get(USERS), 401, "E0000011")
        last = sample.client_with(successor["token"])
        assert last.delete(f"{TOKENS}/current").status == 204

    def test_nobody_issues_more_than_they_have(self, manager: Client) -> None:
        assert_error(
            manager.post(TOKENS, sent={"scopes": ["okta.users.manage"]}),
            403,
            "E0000006",
            "scopes: The calling token does not have okta.users.manage",
        )

    def test_a_token_is_kept_to_a_network(self, sample: Sample, manager: Client) -> None:
        token = self.made(manager)
        network = {"connection": "ZONE", "include": ["10.0.0.0/8"]}
        assert body(manager.put(f"{TOKENS}/{token['id']}", sent={"network": network}))["network"] == network
        assert_error(sample.client_with(token["token"]).get(USERS), 403, "E0000006")

    def test_tokens_are_paged_too(self, manager: Client) -> None:
        made = {self.made(manager)["id"] for _ in range(3)}
        pages = walk(manager, f"{TOKENS}?limit=2")
        assert all(len(page) == 2 for page in pages[:-1])
        assert made < {token["id"] for page in pages for token in page}


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
    def test_a_bad_body_creates_and_replaces_nobody(self, api: Client, sent: bytes, status: int, code: str) -> None:
        for send, path in ((api.post, USERS), (api.put, ADA)):
            answer = send(path, body=sent)
            assert_error(answer, status, code)
            assert len(answer.body) < 2_000
        assert api.get(f"{USERS}/wanda@example.com").status == 404

    def test_every_fault_is_told(self, api: Client) -> None:
        answer = api.post(USERS, sent={"profile": {"firstName": "W", "login": "w@x", "email": 7}})
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
            f"{USERS}/" + "x" * 3_000,
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
    def test_an_unknown_path_has_a_short_answer(self, api: Client, path: str) -> None:
        answer = api.get(path)
        assert_error(answer, 404, "E0000007")
        assert len(answer.body) < 2_000

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            *((method, "/", {"GET", "HEAD", "OPTIONS"}) for method in ("POST", "PUT", "PATCH", "TRACE", "PROPFIND")),
            ("PATCH", ADA, {"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"}),
            ("DELETE", USERS, {"GET", "HEAD", "OPTIONS", "POST"}),
            ("POST", GROUPS, {"GET", "HEAD", "OPTIONS"}),
            ("GET", f"{ADA}/lifecycle/deactivate", {"POST", "OPTIONS"}),
        ],
    )
    def test_other_methods_are_told_those_allowed(self, api: Client, method: str, path: str, allowed: set[str]) -> None:
        answer = api.request(method, path)
        assert_error(answer, 405, "E0000022")
        assert set(answer.headers["Allow"].split(", ")) == allowed

    def test_the_public_page_tells_what_it_takes(self, sample: Sample) -> None:
        told = sample.client().request("OPTIONS", "/")
        assert (told.status, set(told.headers["Allow"].split(", "))) == (200, {"GET", "HEAD", "OPTIONS"})
        assert sample.client().request("HEAD", "/").status == 200

    @pytest.mark.parametrize("host", ["", "a b", "<script>", "[", "evil.example:99999999", "x" * 300])
    def test_a_strange_host_does_no_harm(self, api: Client, host: str) -> None:
        for path in (USERS, ADA, "/", "/nothing"):
            answer = api.get(path, headers={"Host": host})
            assert answer.status in (200, 400, 404), path
            assert "<" not in answer.body.decode()
