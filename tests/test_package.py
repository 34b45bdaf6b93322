"""The package itself: what importing it loads, and the README, followed word by word."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

import tokenguard
from sample_flask.playground import SAMPLES

ROOT = Path(__file__).parent.parent
#: The Python that runs the tests, quoted for the shell.
PYTHON = shlex.quote(sys.executable)


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, text=True, capture_output=True).stdout


def test_importing_the_core_loads_no_framework_and_no_database() -> None:
    loaded = json.loads(python("import sys, json, tokenguard; print(json.dumps(sorted(sys.modules)))"))
    unwanted = {"flask", "django", "sqlalchemy", "alembic", "click", "rich", "jinja2", "psycopg"}
    assert unwanted.isdisjoint(name.partition(".")[0] for name in loaded)


def test_every_module_has_a_place_in_the_architecture() -> None:
    table = re.findall(r"^\|.*\|(.*)\|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = re.findall(r"`([\w.]+)/?`", "".join(table))
    there = {path.name for path in (ROOT / "tokenguard").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert sorted(named) == sorted(there - {"__init__.py", "__pycache__"})


def without(*packages: str) -> str:
    """Return code that makes these packages impossible to import, as if they were not installed."""
    return f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(packages)}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
"""


def test_the_core_works_with_its_two_dependencies_alone() -> None:
    """As after a plain ``pip install wsgi-tokenguard``: everything else is made impossible to import."""
    code = """
from tokenguard import Guard, Issuer, MemoryStore, SigningKeys, TokenFormat
store, tokens = MemoryStore(), TokenFormat(SigningKeys("k" * 32))
issuer = Issuer(store, tokens)
issuer.register("billing", "a", actor="me")
print(Guard(store, tokens).authenticate(issuer.issue("billing", "a", actor="me").text).client_name)
from tokenguard.service import open_store
try:
    open_store("sqlite:///x.db")
except Exception as error:
    print(error)
sys.argv = ["tokenguard"]
from tokenguard.__main__ import main
try:
    main()
except SystemExit as error:
    print(error)
"""
    blocked = without("flask", "sqlalchemy", "alembic", "click", "rich", "psycopg")
    assert python(blocked + code).splitlines() == [
        "billing",
        (
            'a database of tokens requires sqlalchemy: pip install "wsgi-tokenguard[sqlalchemy]" '
            '(for a Django project, use "manage.py tokenguard" instead)'
        ),
        'Error: the command line requires click: pip install "wsgi-tokenguard[cli]"',
    ]


def test_it_runs_without_what_windows_lacks(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
lacking = {
    os: ("fork", "register_at_fork", "getuid", "fchmod", "O_NONBLOCK", "O_NOFOLLOW"),
    time: ("clock_gettime", "CLOCK_BOOTTIME", "tzset"),
    signal: ("SIGHUP", "SIGALRM", "SIGPIPE"),
}
for module, names in lacking.items():
    for name in names:
        vars(module).pop(name, None)
os.getlogin = lambda: "zoe"
import tokenguard.django, tokenguard.flask, tokenguard.testing
from tokenguard.__main__ import main
for line in ("init", "client add billing --scopes a", "issue billing --scopes a", "events --json"):
    sys.argv[1:] = line.split()
    try:
        main()
    except SystemExit as error:
        print(error)
"""
    environ = os.environ | {"TOKENGUARD_SIGNING_KEY": "k" * 32}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, check=True, text=True, capture_output=True, cwd=tmp_path, env=environ).stdout
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [(event["kind"], event["actor"]) for event in events] == [
        ("client.registered", "cli:zoe"),
        ("token.issued", "cli:zoe"),
    ]


DJANGO = """
import django
from django.conf import settings
contrib = ["admin", "auth", "contenttypes", "messages", "sessions"]
settings.configure(
    SECRET_KEY="s" * 50,
    DEBUG=True,
    INSTALLED_APPS=[*(f"django.contrib.{name}" for name in contrib), "tokenguard.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()
"""


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("flask", "flask", "flask"),
        ("flask", "click", "flask"),
        ("sqlalchemy", "sqlalchemy", "sqlalchemy"),
        ("ratelimits", "limits", "limits"),
        ("django", "django", "django"),
        ("django.rest_framework", "rest_framework", "drf"),
        ("django.management.commands.tokenguard", "click", "django"),
    ],
)
def test_an_import_says_which_extra_is_missing(module: str, package: str, extra: str) -> None:
    code = f"""
try:
    import tokenguard.{module}
except ModuleNotFoundError as error:
    print(error.name, error, sep="; ")
"""
    setup = DJANGO if "." in module else ""
    said = f'{package}; this requires {package}: pip install "wsgi-tokenguard[{extra}]"\n'
    assert python(setup + without(package) + code) == said


def test_tables_are_not_set_up_without_what_does_that(tmp_path: Path) -> None:
    code = f"""
from tokenguard import ConfigurationError
from tokenguard.sqlalchemy import SQLAlchemyStore
try:
    SQLAlchemyStore("sqlite:///{tmp_path}/tokens.db").upgrade()
except ConfigurationError as error:
    print(error)
"""
    said = 'setting up the tables requires alembic: pip install "wsgi-tokenguard[sqlalchemy]"\n'
    assert python(without("alembic") + code) == said


def test_flask_is_not_asked_for_what_its_next_version_warns_of() -> None:
    """Flask 3.2 has another name for the context of a request, and warns when this one is used."""
    code = """
import flask.globals
del flask.globals.request_ctx
def asked(name):
    raise DeprecationWarning(name)
flask.globals.__getattr__ = asked
import tokenguard.flask
print("done")
"""
    assert python(code) == "done\n"


def test_an_import_of_anything_else_fails_as_it_does() -> None:
    code = """
try:
    import tokenguard.flask
except ModuleNotFoundError as error:
    print(error)
"""
    assert python(without("blinker") + code) == "blinker\n"


def test_djangos_admin_needs_nothing_of_the_command_line() -> None:
    code = """
from django.contrib import admin
admin.autodiscover()
print(sorted(model.__name__ for model in admin.site._registry if model.__module__.startswith("tokenguard.")))
"""
    blocked = without("flask", "sqlalchemy", "alembic", "click", "rich", "limits", "rest_framework")
    assert python(blocked + DJANGO + code) == "['Client', 'Token']\n"


def test_djangos_settings_are_read_live_where_no_tests_run() -> None:
    """A process that has never loaded Django's test tools need not check whether tests run."""
    code = """
import sys, django
from django.conf import settings
settings.configure(DEBUG=True, SECRET_KEY="s" * 50, INSTALLED_APPS=["tokenguard.django"], DATABASES={"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
django.setup()
from django.core.exceptions import ImproperlyConfigured
from tokenguard import InvalidToken
from tokenguard.django.conf import service
def realm():
    assert service() is service()
    return service().requests.scheme.realm
assert realm() == "api"
settings.TOKENGUARD = {"REALM": "one"}
assert realm() == "one"
signed = service().requests.guard.tokens.mint().text.reveal()
settings.SECRET_KEY = "t" * 50  # which signs, in debug
assert isinstance(service().requests.guard.tokens.examine(signed), InvalidToken)
settings.TOKENGUARD = {"REALM": "two", "SIGNING_KEY": "k" * 50}
assert realm() == "two"
settings.TOKENGUARD = {"REALM": "three", "SIGNING_KEY": "k" * 50}
assert realm() == "three"
settings.DEBUG = False
assert realm() == "three"
del settings.TOKENGUARD
try:
    service()
except ImproperlyConfigured:
    assert "django.test.utils" not in sys.modules
    print("done")
"""
    assert python(code) == "done\n"


def test_all_names_are_there_and_documented() -> None:
    for name in tokenguard.__all__:
        assert getattr(tokenguard, name).__doc__, name


class Readme:
    """The blocks of code in one section of the README, in order."""

    def __init__(self, section: str) -> None:
        text = (ROOT / "README.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        self.python = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        consoles = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        self.commands = [
            line.removeprefix("$ ") for block in consoles for line in block.splitlines() if line[:2] == "$ "
        ]
        self.answers = [line for block in consoles for line in block.splitlines() if line[:2] != "$ "]

    def follow(self, folder: Path, commands: list[str], serve: str, quietly: str) -> None:
        """Run ``commands`` in one shell, unchanged except for the server's port, which may be taken.

        ``serve`` is the command that keeps running, and ``quietly`` is run in its place.
        """
        assert serve in commands
        python = f'python() {{ {PYTHON} "$@"; }}\n'
        tools = "".join(f'{tool}() {{ python -m {tool} "$@"; }}\n' for tool in ("flask", "tokenguard"))
        tools += 'django-admin() { python -m django "$@"; }\n'
        script = "set -e\n" + "\n".join(commands).replace(
            serve, f'coproc {quietly} 2>&1; PORT=$(grep -m1 -oP "http://127.0.0.1:\\K[0-9]+" <&${{COPROC[0]}})'
        )
        script = re.sub(r":[58]000", ":$PORT", script).replace("curl ", "curl -sS ") + "\nkill $COPROC_PID\n"
        foreign = ("TOKENGUARD_", "FLASK_", "DJANGO_")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        environ |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        script = python + tools + script
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=environ, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        said = done.stderr + done.stdout
        for answer in self.answers:
            pattern = ".*".join(re.escape(part) for part in answer.split("..."))
            assert re.search(pattern, said), f"{answer!r} is not what was said:\n{said}"


def test_the_readmes_five_minutes_with_flask_word_by_word(tmp_path: Path) -> None:
    readme = Readme("Five minutes with Flask")
    (tmp_path / "app.py").write_text(readme.python[0])
    commands = [line for line in readme.commands if not line.startswith("pip ")]
    readme.follow(tmp_path, commands, "flask run", f"{PYTHON} -m flask run --port 0")


def test_the_readmes_five_minutes_with_django_word_by_word(tmp_path: Path) -> None:
    readme = Readme("Five minutes with Django")
    (tmp_path / "settings").write_text(readme.python[0])
    (tmp_path / "urls").write_text(readme.python[1])
    install, start, *rest = readme.commands
    assert install.startswith("pip ")
    commands = [start, "cat settings >> mysite/settings.py", "cp urls mysite/urls.py", *rest]
    serve = "python manage.py runserver"
    readme.follow(tmp_path, commands, serve, f"{PYTHON} manage.py runserver --noreload 127.0.0.1:0")


def test_the_readmes_wsgi_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With clients and tokens as with Flask, as it says."""
    commands = [line for line in Readme("Five minutes with Flask").commands if line.startswith(("export", "flask tok"))]
    script = [
        f'tokenguard() {{ {PYTHON} -m tokenguard "$@"; }}',
        "set -e",
        *commands,
        "echo $TOKENGUARD_SIGNING_KEY $TOKEN",
    ]
    command = ["bash", "-c", "\n".join(script).replace("flask tokenguard", "tokenguard")]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    key, token = done.stdout.split()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(Readme("Any other WSGI application").python[0], names)
    guarded = names["guarded"](Response("let in"), key)  # type: ignore[operator]
    assert Client(guarded).get("/").status_code == 401
    assert Client(guarded).get("/", headers={"Authorization": f"Bearer {token}"}).text == "let in"


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE) or target in {"and"}, target


@pytest.mark.parametrize("sample", ["flask", "django"])
def test_the_commands_of_make_run_need_no_folder(sample: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, *SAMPLES[sample].arguments, "--version"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sample", ["flask", "django"])
def test_the_demo_shows_what_it_must(sample: str) -> None:
    done = subprocess.run([sys.executable, "-m", "sample_flask.demo", sample], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  BAD " not in done.stdout
    assert done.stdout.endswith("All as it must be.\n")
    assert 'error="insufficient_scope", scope="okta.users.manage"' in done.stdout
    assert re.search(r"ok  200 .* the old one in the overlap ", done.stdout)
    assert re.search(r"still used +yes, last at ", done.stdout)
    assert re.search(r"ok  401 .* the old one, ended early ", done.stdout)
    assert re.search(r"ok  403 .* The API token may not be used from this network\.\n", done.stdout)
    assert re.search(r"ok  429 .* Retry-After: [0-9]+ ", done.stdout)
    assert re.search(r"ok  201 .* issue a smaller one +token \w{16} \(okta\.users\.read\)", done.stdout)
    assert re.search(r"ok  403 .* scopes: The calling token does not have okta\.users\.manage\n", done.stdout)
    assert re.search(r"ok  204 .* the successor revokes itself ", done.stdout)
