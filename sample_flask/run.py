"""``make run``: the sample under gunicorn until Ctrl-C, with a token and lines to try."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import tempfile
import threading
from pathlib import Path

from .demo import NEW_USER, say, set_up
from .playground import Playground, PlaygroundError

LINES = """
The service runs at {url}. In another terminal:

  . {environ}

  curl -i "{url}/api/v1/users?limit=2"
  curl -i "{url}/api/v1/users?limit=2" -H "Authorization: Bearer $READER"
  curl -i "{url}/api/v1/groups"        -H "Authorization: Bearer $READER"
  curl -i "{url}/api/v1/users"         -H "Authorization: Bearer $MANAGER" --json '{new_user}'
  {bin}/flask tokenguard list
  {bin}/flask tokenguard client disable acme-sync

The token that reads, shown this once: {reader}

Ctrl-C stops the service and removes what it has stored.
"""


def main() -> None:
    """Run until interrupted, on the port that the environment variable PORT names, or a free one."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)  # however it is ended, nothing is left behind
    with tempfile.TemporaryDirectory(prefix="tokenguard-run-") as folder:
        playground = Playground(Path(folder))
        reader, manager = set_up(playground)
        environ = write_environ(playground, READER=reader, MANAGER=manager)
        with playground.serve(int(os.environ.get("PORT", "0"))) as url:
            facts = {"url": url, "environ": environ, "reader": reader, "bin": Path(sys.executable).parent}
            say(LINES.format(new_user=json.dumps(NEW_USER), **facts))
            wait_for_interrupt()


def write_environ(playground: Playground, **tokens: str) -> Path:
    """A file for a shell to read, for nobody else's eyes: the signing key is in it."""
    path = playground.folder / "environ"
    path.touch(mode=0o600)
    settings = {**playground.settings, **tokens}
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))
    return path


def wait_for_interrupt() -> None:
    """Return at Ctrl-C."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        say("")


if __name__ == "__main__":
    try:
        main()
    except PlaygroundError as error:
        sys.exit(f"Error: {error}")
