"""Check the locked packages for known vulnerabilities: ``python .ci/audit.py LOCK``, and any options of pip-audit.

The exit status is 1 for a finding, and for anything else that is wrong with the lock or the tool. A service that cannot
be reached is no finding: that is printed, and the status is 0, so that a machine without it can run all the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: What pip-audit and requests print when the network fails.
_NETWORK = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "Could not connect", "your network may be blocking")


def verdict(report: str, complaint: str) -> tuple[int, str]:
    """Return the exit status and the message for pip-audit's JSON report and its standard error."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        if any(sign in complaint for sign in _NETWORK):
            return 0, "The vulnerability service could not be asked: it cannot be reached from here."
        return 1, f"pip-audit failed:\n{complaint}"
    found = [
        f"{package['name']} {package['version']}: {weakness['id']}"
        + (f", fixed in {', '.join(weakness['fix_versions'])}" if weakness["fix_versions"] else ", not fixed yet")
        for package in dependencies
        for weakness in package.get("vulns", ())
    ]
    unknown = [package["skip_reason"] for package in dependencies if "skip_reason" in package]
    if found:
        return 1, "\n".join(["Known vulnerabilities:", *found])
    if len(unknown) == len(dependencies):
        # A mirror that has only the packages reports every one of them as unknown.
        return 0, f"The vulnerability service could not be asked: it knows none of these {len(unknown)} packages."
    if unknown:  # what the index no longer has was often removed for a reason
        return 1, "\n".join(["Packages that the vulnerability service does not know:", *unknown])
    return 0, f"No known vulnerability in {len(dependencies)} packages."


def main() -> int:
    """Run pip-audit on the lock."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--no-deps", "--disable-pip"]
    options = ["--format", "json", "--requirement", *sys.argv[1:]]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    status, said = verdict(done.stdout, done.stderr)
    print(said)
    return status


if __name__ == "__main__":
    sys.exit(main())
