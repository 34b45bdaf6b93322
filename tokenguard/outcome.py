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
    """How far a request has come: a bad credential alone does not refuse it, nor does a good one let it in."""

    KNOWN = auto()
    #: A guard around this one has let it in, and has counted the use in the place where this one would.
    COUNTED = auto()
    LET_IN = auto()
    REFUSED = auto()


KNOWN, COUNTED, LET_IN, REFUSED = Stage

#: The contents of all places where a credential was looked for. In a cell: code that shows the environ item by item,
#: hiding only those known to be secret, must not show the credential under this name. Cells are equal if their
#: contents are.
Presented: TypeAlias = CellType
#: The guard that judged, what was presented, who is calling or why nobody, and the stage. A bare tuple, as each
#: request makes one.
Outcome: TypeAlias = tuple[object, Presented, Verified | AuthError, Stage]
