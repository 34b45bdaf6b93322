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

#: All that was read to find the credential. In a cell, since code that prints an environ, and masks only the names that
#: it knows to be secret, would print the credential under ours. Cells are equal if their contents are.
Presented: TypeAlias = CellType
#: The guard that judged, what was presented, who is calling or why nobody, and the stage. A bare tuple, as each
#: request makes one.
Outcome: TypeAlias = tuple[object, Presented, Verified | AuthError, Stage]
