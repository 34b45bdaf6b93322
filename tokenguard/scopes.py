"""Scopes: what a token may do, what a view asks for (:class:`Requirement`), and what a service knows (its catalog).

A scope is a name (``users:read``, ``okta.users.read``), or a wildcard that stands for every name below it
(``okta.users.*``, or ``*`` alone). A wildcard covers whole segments only, so of two names either one covers the
other or they have nothing in common. That makes intersection simple.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigurationError, InvalidValue
from .secret import TOKEN_SHAPED

MAX_LENGTH = 128
#: How many results of each kind a catalogue caches.
REMEMBERED = 1024
# RFC 6749 section 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ). "*" is reserved for wildcards.
_NAME = re.compile(r"[!#-)+-\[\]-~]+")
_WILDCARD = re.compile(r"(?:[!#-)+-\[\]-~]*[.:/])?\*")


def is_wildcard(name: str) -> bool:
    """Whether a well-formed scope stands for all names below it."""
    return name.endswith("*")


def covers(scope: str, name: str) -> bool:
    """Whether holding ``scope`` means holding ``name`` (which may itself be a wildcard)."""
    return scope == name or (is_wildcard(scope) and name.startswith(scope[:-1]))


def check_name(name: str) -> str:
    """Return ``name`` if it is a well-formed scope or wildcard; otherwise raise InvalidValue.

    The result is plain text, also of a member of an enumeration, which would be shown by its own name.
    """
    if not isinstance(name, str):
        raise InvalidValue(f"a scope must be a string, not {name!r}")
    if not (_NAME.fullmatch(name) or _WILDCARD.fullmatch(name)):
        raise InvalidValue(
            f"{name[:MAX_LENGTH]!r} is not a scope: use printable ASCII without spaces, quotes and backslashes, "
            "and * only as the whole last segment, as in users.*"
        )
    if TOKEN_SHAPED.search(name):
        raise InvalidValue("a scope must not be the text of a token, which is stored nowhere")
    if len(name) > MAX_LENGTH:
        raise InvalidValue(f"a scope must have at most {MAX_LENGTH} characters; {name[:32]!r}… has {len(name)}")
    return str.__str__(name)


class Scopes:
    """An immutable set of scopes. An empty one permits nothing.

    ``"users:read" in scopes`` checks whether that scope is *granted*, by its name or by a wildcard. Iterating yields
    the scopes as written, sorted. ``a & b`` is what both grant.
    """

    __slots__ = ("_prefixes", "names")

    def __init__(self, names: Iterable[str] = ()) -> None:
        """``names`` is an iterable of scopes; for one text of several scopes use :meth:`parse`."""
        if isinstance(names, str):
            raise InvalidValue(f"Scopes takes a list of scopes; for one string, use Scopes.parse({names!r})")
        #: The scopes as written; wildcards are not expanded.
        self.names = frozenset(check_name(name) for name in names)
        self._prefixes = tuple(name[:-1] for name in self.names if is_wildcard(name))

    @classmethod
    def _checked(cls, names: Iterable[str]) -> Scopes:
        # For names that have passed the check: repeating it would cost every request.
        scopes = cls()
        scopes.names = frozenset(names)
        scopes._prefixes = tuple(name[:-1] for name in scopes.names if is_wildcard(name))
        return scopes

    @classmethod
    def parse(cls, text: str) -> Scopes:
        """Parse RFC 6749's form, scopes separated by spaces. Raises InvalidValue."""
        return cls(name for name in text.split(" ") if name)

    @classmethod
    def of(cls, scopes: Scopes | str | Iterable[str]) -> Scopes:
        """Convert what a caller of the API may pass: Scopes, one text with spaces, or an iterable of names."""
        if isinstance(scopes, Scopes):
            return scopes
        return cls.parse(scopes) if isinstance(scopes, str) else cls(scopes)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return name in self.names or (bool(self._prefixes) and name.startswith(self._prefixes))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def __bool__(self) -> bool:
        return bool(self.names)

    def __eq__(self, other: object) -> bool:
        return self.names == other.names if isinstance(other, Scopes) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.names)

    def __and__(self, other: Scopes) -> Scopes:
        return Scopes._checked({name for name in self if name in other} | {name for name in other if name in self})

    def __or__(self, other: Scopes) -> Scopes:
        return Scopes._checked(self.names | other.names)

    def __str__(self) -> str:
        return " ".join(self)

    def __repr__(self) -> str:
        return f"Scopes({list(self)!r})"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a resource asks for: *all* of ``all_of`` and, if ``any_of`` is not empty, at least one of ``any_of``.

    With neither, any valid token will do. Raises InvalidValue for a malformed name, and for a wildcard: a view
    has to name the scopes that it needs.
    """

    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    #: ``all_of`` as a set, to be compared in one step.
    needed: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)
    #: Stands for this requirement in the lookups of each request: hashing the requirement would take longer.
    mark: object = field(default_factory=object, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.all_of, tuple) and isinstance(self.any_of, tuple)):
            raise InvalidValue('a requirement takes tuples of scopes: write Requirement(("users:read",))')
        for part, names in (("all_of", self.all_of), ("any_of", self.any_of)):
            object.__setattr__(self, part, tuple(map(check_name, names)))
        for name in filter(is_wildcard, self.names):
            raise InvalidValue(f"a view cannot ask for the wildcard {name!r}: name the scopes it needs")
        object.__setattr__(self, "needed", frozenset(self.all_of))

    @classmethod
    def scopes(cls, *all_of: str, any_of: Iterable[str] = ()) -> Requirement:
        """Create a requirement; raises InvalidValue for an empty one: a forgotten argument must not open a view."""
        if isinstance(any_of, str):
            raise InvalidValue(f"any_of takes several scopes: write any_of=({any_of!r},)")
        if all_of and callable(all_of[0]):
            raise InvalidValue('the decorator takes scopes, not the view: write @require_scopes("a")')
        if all_of and (isinstance(all_of[0], (list, tuple, set)) or " " in str(all_of[0])):
            raise InvalidValue(f'name each scope by itself, "a", "b", not {all_of[0]!r}')
        requirement = cls(all_of, tuple(any_of))
        if not requirement.names:
            raise InvalidValue("name at least one scope; where any valid token will do, ask for a token alone")
        return requirement

    @classmethod
    def scopes_or_token(cls, *all_of: str, any_of: Iterable[str] | None = None) -> Requirement:
        """As :meth:`scopes`, but without arguments any valid token will do: for guarding an application or a part."""
        return cls.scopes(*all_of, any_of=any_of or ()) if all_of or any_of is not None else ANY_TOKEN

    @property
    def names(self) -> tuple[str, ...]:
        """All scopes named here, in the order written."""
        return self.all_of + self.any_of

    def met_by(self, scopes: Scopes) -> bool:
        """Whether a caller who holds ``scopes`` may pass."""
        # The comparison of sets is enough for most requests.
        if not (self.needed <= scopes.names or all(name in scopes for name in self.all_of)):
            return False
        return not self.any_of or any(name in scopes for name in self.any_of)

    def used_of(self, scopes: Scopes) -> tuple[str, ...]:
        """For a caller who passes, return those of :attr:`names` that its ``scopes`` grant."""
        return self.all_of if not self.any_of else tuple([name for name in self.names if name in scopes])

    def __str__(self) -> str:
        parts = [" ".join(self.all_of)] if self.all_of else []
        if self.any_of:
            parts.append("any of " + " ".join(self.any_of))
        return " and ".join(parts) or "any valid token"


#: Any valid token will do, whatever its scopes.
ANY_TOKEN = Requirement()


class ScopeCatalog:
    """The scopes that a service knows, what each means and what it implies.

    ``scopes`` maps a name to its description, or to ``{"description": …, "implies": [names]}``. If it is empty or
    None, every well-formed scope is known. Raises a ConfigurationError that names the entry at fault.
    """

    def __init__(self, scopes: Mapping[str, Any] | None = None) -> None:
        self.descriptions: dict[str, str] = {}
        #: Results of :meth:`effective`: most tokens share their scopes with others.
        self._effective: dict[tuple[frozenset[str], frozenset[str]], Scopes] = {}
        #: The marks of the requirements that have passed :meth:`check`.
        self.checked: set[object] = set()
        self._implied: dict[str, Scopes] = {}
        if not isinstance(scopes, Mapping | None):
            raise ConfigurationError(
                f"a catalogue must map each scope to its description, not be a {type(scopes).__name__}"
            )
        for name, entry in (scopes or {}).items():
            self._declare(name, entry)
        for name, implied in self._implied.items():
            for unknown in self.unknown(implied):
                raise ConfigurationError(f"scope {name!r} implies {unknown!r}, which is not in the catalogue")
        # Followed to the end once, here: a request only looks up what the scopes of its token imply.
        self._implied = {name: self._follow(implied) for name, implied in self._implied.items() if implied}

    @classmethod
    def of(cls, given: ScopeCatalog | Mapping[str, Any] | None) -> ScopeCatalog:
        """Return ``given``, or a catalogue of the mapping; raises ConfigurationError for anything else."""
        return given if isinstance(given, ScopeCatalog) else cls(given)

    def _declare(self, name: str, entry: Any) -> None:
        fields = {"description": entry} if isinstance(entry, str) else entry
        if not isinstance(fields, Mapping) or not fields.keys() <= {"description", "implies"}:
            raise ConfigurationError(
                f"scope {name!r} needs a description, or a mapping with description and implies; got {entry!r}"
            )
        implies = fields.get("implies", ())
        try:
            name = check_name(name)
            if is_wildcard(name):
                raise InvalidValue(f"the wildcard {name!r} cannot be declared: declare the scopes below it")
            self._implied[name] = Scopes.of(implies)
        except (InvalidValue, TypeError) as error:
            raise ConfigurationError(f"in the scope catalogue: {error}") from None
        self.descriptions[name] = str(fields.get("description", ""))

    def __iter__(self) -> Iterator[str]:
        return iter(self.descriptions)

    def __len__(self) -> int:
        return len(self.descriptions)

    def _follow(self, scopes: Scopes) -> Scopes:
        found: set[str] = set()
        ahead = list(scopes.names)
        while ahead:
            scope = ahead.pop()
            if scope in found:
                continue
            found.add(scope)
            held = [name for name in self._implied if covers(scope, name)] if is_wildcard(scope) else [scope]
            ahead += [more for name in held for more in self._implied[name].names]
        return Scopes._checked(found)

    def unknown(self, scopes: Iterable[str]) -> list[str]:
        """Return those of ``scopes`` that are not in the catalogue; a wildcard is in it if it covers a name that is."""
        if not self.descriptions:
            return []
        known = self.descriptions  # looked up first: only wildcards cover other names
        return [scope for scope in scopes if scope not in known and not any(covers(scope, name) for name in known)]

    def check(self, requirement: Requirement) -> None:
        """Raise ConfigurationError if a resource asks for a scope not in the catalogue: nobody could ever hold it."""
        if requirement.mark in self.checked:
            return
        if unknown := self.unknown(requirement.names):
            raise ConfigurationError(
                f"required scope {unknown[0]!r} is not in the catalogue, which has {', '.join(self)}"
            )
        if len(self.checked) >= REMEMBERED:
            self.checked.clear()
        self.checked.add(requirement.mark)

    def expand(self, scopes: Scopes) -> Scopes:
        """Return ``scopes`` and everything that they imply, directly or not."""
        implied = [more for name, more in self._implied.items() if name in scopes]
        return Scopes._checked({name for held in (scopes, *implied) for name in held.names}) if implied else scopes

    def effective(self, granted: Scopes, ceiling: Scopes) -> Scopes:
        """Return what a token that was given ``granted`` may do while its client may have ``ceiling``."""
        both = granted.names, ceiling.names
        if (found := self._effective.get(both)) is None:
            if len(self._effective) >= REMEMBERED:
                self._effective.clear()
            found = self._effective[both] = self.expand(granted) & self.expand(ceiling)
        return found
