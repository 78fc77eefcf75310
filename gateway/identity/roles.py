"""Roles as text: how an issuer's claims become ours, and what a role's text says.

Rules:
- An issuer's words are only ever narrowed: mapped by exact name, then cut to what that issuer may give. What is left
  over gives nothing, because the policy knows no such role.
- A role's text is `role`, `role:model` or `role:model@version`; model and version may be patterns, in which `*` stands
  for any characters and `?` for one. Nothing else is special, and upper case is not lower case.
- Pure, and quadratic at worst: patterns come in tokens, so no regular expression is ever made of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gateway.identity.refusals import Refusal, refused
from gateway.identity.tokens import is_role_list


@dataclass(frozen=True, slots=True)
class ClaimMapping:
    """Where an issuer's tokens name roles, and what they are here.

    path: the claim's name, then those of the members inside it. is_space_separated: one text in place of a list, as in
    `scope` (RFC 6749 section 3.3). role_map: their name -> our role's text; None maps nothing, an empty one takes
    nothing. keep_unmapped: whether a name outside of the map stays what it is. allowed_roles: the names, without model
    and version, that this issuer may give; None is all.
    """

    path: tuple[str, ...] = ("roles",)
    is_space_separated: bool = False
    role_map: Mapping[str, str] | None = None
    keep_unmapped: bool = False
    allowed_roles: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Keep a copy that nobody can change."""
        if self.role_map is not None:
            object.__setattr__(self, "role_map", MappingProxyType(dict(self.role_map)))


@dataclass(frozen=True, slots=True)
class RoleText:
    """What one role of a principal says; None restricts nothing."""

    name: str
    model: str | None
    version: str | None


def roles_of(claims: Mapping[str, Any], mapping: ClaimMapping) -> frozenset[str]:
    """Our roles of a principal whose token carries these signed claims; none where the claim is absent.

    Raises AuthnError (AUTHN_INVALID, reason ROLES) for a claim of another form than the mapping says, or one with more
    or longer names than tokens.is_role_list allows.
    """
    ours = (_ours(name, mapping) for name in _names(claims, mapping))
    return frozenset(role for role in ours if role is not None and _may_give(mapping, role))


def read_role(role: str) -> RoleText:
    """The parts of a role's text; one that is empty fits nothing, since no model and no version is."""
    name, colon, rest = role.partition(":")
    model, at, version = rest.partition("@")
    return RoleText(name, model if colon else None, version if at else None)


def fits(pattern: str, text: str) -> bool:
    """Whether a pattern with `*` and `?` covers the whole text, in at most len(pattern) * len(text) steps."""
    head, *rest = pattern.split("*")
    if not rest:
        return len(head) == len(text) and _fits_at(head, text, 0)
    *middle, tail = rest
    end = len(text) - len(tail)
    if len(head) > end or not _fits_at(head, text, 0) or not _fits_at(tail, text, end):
        return False
    at = len(head)
    for part in middle:
        # The leftmost place leaves the most room for what follows, so none needs to be tried again.
        place = next((i for i in range(at, end - len(part) + 1) if _fits_at(part, text, i)), None)
        if place is None:
            return False
        at = place + len(part)
    return True


def _fits_at(part: str, text: str, at: int) -> bool:
    if "?" not in part:
        return text.startswith(part, at)
    found = text[at : at + len(part)]
    return all(wanted in ("?", got) for wanted, got in zip(part, found, strict=True))


def _names(claims: Mapping[str, Any], mapping: ClaimMapping) -> list[str]:
    value: Any = claims
    for member in mapping.path:
        if not isinstance(value, Mapping):
            raise refused(Refusal.ROLES)
        if member not in value:
            return []
        value = value[member]
    if mapping.is_space_separated:
        value = _split(value)
    if not is_role_list(value):
        raise refused(Refusal.ROLES)
    return value


def _split(value: object) -> list[str]:
    if not isinstance(value, str):
        raise refused(Refusal.ROLES)
    # No names at all is written as an empty text; two spaces in a row leave an empty name, which is refused.
    return value.split(" ") if value else []


def _ours(name: str, mapping: ClaimMapping) -> str | None:
    if mapping.role_map is None:
        return name
    return mapping.role_map.get(name, name if mapping.keep_unmapped else None)


def _may_give(mapping: ClaimMapping, role: str) -> bool:
    return mapping.allowed_roles is None or read_role(role).name in mapping.allowed_roles
