"""``tokenguard`` and ``python -m tokenguard``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line on what the environment names."""
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        sys.exit(f'Error: the command line requires {error.name}: pip install "wsgi-tokenguard[cli]"')
    run()


if __name__ == "__main__":
    main()
