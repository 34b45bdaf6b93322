"""Rules that tell scanners for leaked secrets what a service's tokens look like, to be pasted into their files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .secret import TOKEN_SHAPED

_GITLEAKS = """\
# For .gitleaks.toml
[[rules]]
id = "tokenguard-{prefix}"
description = "API token (tokenguard, prefix {prefix})"
regex = '''{regex}'''
keywords = ["{prefix}_"]
"""

# Trufflehog reports what the group matches, and its regexes are Go's.
_TRUFFLEHOG = """\
# For trufflehog: trufflehog filesystem --config=tokenguard.yaml .
detectors:
  - name: tokenguard-{prefix}
    keywords:
      - '{prefix}_'
    regex:
      token: '{grouped}'
"""

_DETECT_SECRETS = '''\
# For detect-secrets: detect-secrets scan --plugin tokenguard_detector.py
import re

from detect_secrets.plugins.base import RegexBasedDetector


class TokenguardDetector(RegexBasedDetector):
    """API tokens (tokenguard, prefix {prefix})."""

    secret_type = "tokenguard API token ({prefix})"
    denylist = [re.compile(r"{regex}")]
'''


def token_pattern(prefix: str) -> str:
    """Return a regular expression for tokens with this prefix; it means the same to Python, Go's RE2 and PCRE."""
    return rf"\b{prefix}_{TOKEN_SHAPED.pattern}\b"


def _filled(template: str, prefix: str) -> str:
    regex = token_pattern(prefix)
    return template.format(prefix=prefix, regex=regex, grouped=rf"\b({regex[2:-2]})\b")


#: By scanner, the function that makes its rules for a prefix.
RULES: dict[str, Callable[[str], str]] = {
    "gitleaks": partial(_filled, _GITLEAKS),
    "trufflehog": partial(_filled, _TRUFFLEHOG),
    "detect-secrets": partial(_filled, _DETECT_SECRETS),
}
