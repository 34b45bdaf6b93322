"""What became of a request's credential, remembered in its environ."""

from __future__ import annotations

from enum import Enum, auto
from types import CellType
from typing import TypeAlias

from .errors import AuthError
from .verified import Verified

#: Where the view finds the Identity, or None when the request carries no valid token.
IDENTITY = "tokenguard.identity"
OUTCOME = "tokenguard.outcome"


class Stage(Enum):
    """How far it has gone with a credential: a bad one alone refuses no request, nor does a good one let it in."""

    KNOWN = auto()
    #: A guard around this one, which counts for the same, has let it in.
    COUNTED = auto()
    LET_IN = auto()
    REFUSED = auto()


KNOWN, COUNTED, LET_IN, REFUSED = Stage

#: All that was there where a credential was looked for. In a cell: whatever shows the environ, item by item and without
#: those that are known to be secret, must not show the credential under this name. Equal cells hold what is equal.
Presented: TypeAlias = CellType
#: By whom it was judged, what of, who or why not, and how far that has gone. Bare, as each request makes one.
Outcome: TypeAlias = tuple[object, Presented, Verified | AuthError, Stage]
