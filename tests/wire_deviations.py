"""Where a server deviates from the contract: the cases, their outcomes there, and the reasons. Data alone.

The keys name a server, or a sample and a server. The first pattern that matches a case's name decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from .wire_cases import MALFORMED, NONE, OK


@dataclass(frozen=True)
class Deviation:
    """Cases, given by a pattern for their names, that have another outcome, and the reason."""

    cases: str
    outcome: str
    reason: str


def _refused(reason: str, *cases: str, outcome: str = "400") -> list[Deviation]:
    return [Deviation(case, outcome, reason) for case in cases]


_WHERE = "[bf]*[erd] the *"  # before the token, behind the token, for the space
_ADAPTER = "asgiref's WsgiToAsgi takes an underscore in a header's name for a dash"
_STRIPS = "wsgiref strips what Python takes for white space from the value"
#: Of Python's http.server, on which two of the servers are built.
_HTTP_SERVER = [
    *_refused(
        "its own limit for a line is 64 kB, and 100 headers",
        "70 kB*",
        "the further header, 70 kB",
        "a thousand headers",
        outcome="431",
    ),
    Deviation("bare CR behind the token", OK, "a bare CR ends a header's line to it"),
    Deviation("bare CR for the space", MALFORMED, "a bare CR ends a header's line to it"),
    *_refused(
        "it reads headers as those of mail: what it cannot read ends them, or is a name",
        "* before the colon",
        "a line without *",
        "a name *",
        outcome=NONE,
    ),
]

DEVIATIONS: dict[str, list[Deviation]] = {
    "gunicorn": [
        *_refused(
            "it refuses control characters in a value",
            *(f"{name} {_WHERE}" for name in ("NUL", "SOH", "backspace", "vertical tab", "form feed", "escape", "DEL")),
            f"bare CR {_WHERE}",
        ),
        *_refused("it refuses folded lines", "folded*"),
        *_refused(
            "its own limit for a header is 8190 bytes, and 100 for their number",
            "longer than that",
            "70 kB*",
            "the further header, 70 kB",
            "a thousand headers",
            outcome="431",
        ),
        *_refused("it knows no other expectation (RFC 9110, section 10.1.1)", "Expect: x *", outcome="417"),
        *_refused(
            "it believes a SCRIPT_NAME from 127.0.0.1 (forwarded_allow_ips), and fails where the path is another",
            "SCRIPT_NAME: /api to /",
            "SCRIPT_NAME: /api to /mounted/*",
            "SCRIPT_NAME: /x *",
            outcome="500",
        ),
        Deviation("SCRIPT_NAME: /api to *", "404 application", "the same, where the path does begin so: it is cut off"),
    ],
    "waitress": [
        *_refused(
            "it refuses control characters in a value",
            *(f"{name} {_WHERE}" for name in ("NUL", "SOH", "backspace", "vertical tab", "form feed", "escape", "DEL")),
            f"bare CR {_WHERE}",
        ),
        Deviation("an expectation", "closed", "it says that it goes on, and waits for a body until the end"),
    ],
    "uvicorn": [
        *_refused(
            "h11 refuses these characters in a value",
            *(f"{name} {_WHERE}" for name in ("NUL", "vertical tab", "form feed", "bare CR")),
        ),
        Deviation("folded behind the space", OK, "h11 puts one space for the fold and for the space before it"),
    ],
    "flask under uvicorn": [
        Deviation("X_API_Key", OK, _ADAPTER),
        Deviation("X-API_Key", OK, _ADAPTER),
        Deviation("X_API_Key beside *", MALFORMED, _ADAPTER),
    ],
    "werkzeug": _HTTP_SERVER,
    "runserver": [
        *_HTTP_SERVER,
        Deviation("vertical tab behind the token", OK, _STRIPS),
        Deviation("form feed behind the token", OK, _STRIPS),
        Deviation("latin-1 n* behind the token", OK, _STRIPS),
        Deviation("folded", NONE, "it hands a fold on as it is, and a line break is no space"),
    ],
}
