"""``make run``: a sample under gunicorn until Ctrl-C, with tokens and commands to try."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import sys
import tempfile
import threading
from pathlib import Path

from .demo import NEW_USER, say, set_up
from .playground import Playground, PlaygroundError, Sample, chosen_sample

LINES = """
The service runs at {url}. In another terminal:

  . {environ}

  curl -i "{url}/api/v1/users?limit=2"
  curl -i "{url}/api/v1/users?limit=2" -H "Authorization: Bearer $READER"
  curl -i "{url}/api/v1/groups"        -H "Authorization: Bearer $READER"
  curl -i "{url}/api/v1/users"         -H "Authorization: Bearer $MANAGER" -d '{new_user}'
  {command} tokenguard list
  {command} tokenguard client disable acme-sync

The token that reads, shown only once: {reader}
{admin}
Ctrl-C stops the service and removes what it has stored.
"""

ADMIN = """The admin: {url}/admin/ (user: admin, password: {password})
"""


def main(sample: Sample) -> None:
    """Run until interrupted, on the port that the environment variable PORT names, or a free one."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)  # so that nothing is left behind, however it is ended
    with tempfile.TemporaryDirectory(prefix="tokenguard-run-") as folder:
        playground = Playground(Path(folder), sample)
        reader, manager = set_up(playground)
        environ = write_environ(playground, READER=reader, MANAGER=manager)
        with playground.serve(int(os.environ.get("PORT", "0"))) as url:
            command = shlex.join([sys.executable, *sample.arguments])
            admin = ADMIN.format(url=url, password=create_admin(playground)) if sample.has_admin else ""
            facts = {"url": url, "environ": environ, "reader": reader, "command": command, "admin": admin}
            say(LINES.format(new_user=json.dumps(NEW_USER), **facts))
            wait_for_interrupt()


def write_environ(playground: Playground, **tokens: str) -> Path:
    """Write a file for a shell to read; only its owner may, as the signing key is in it."""
    path = playground.folder / "environ"
    path.touch(mode=0o600)
    settings = {**playground.settings, **tokens}
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))
    return path


def create_admin(playground: Playground) -> str:
    """Create the user ``admin`` of Django's admin; returns its password."""
    password = secrets.token_urlsafe(12)
    options = ("--noinput", "--username", "admin", "--email", "admin@example.com")
    playground.run("createsuperuser", *options, DJANGO_SUPERUSER_PASSWORD=password)
    return password


def wait_for_interrupt() -> None:
    """Return at Ctrl-C."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        say("")


if __name__ == "__main__":
    try:
        main(chosen_sample(sys.argv[1:]))
    except PlaygroundError as error:
        sys.exit(f"Error: {error}")
