#!/usr/bin/env python
"""Django's command line for the sample; run it from anywhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command that the arguments name."""
    # The checkout, instead of the folder of this file, whose modules belong to a package.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample_django.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line()


if __name__ == "__main__":
    main()
