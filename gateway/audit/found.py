"""Records as they are found in the database, looked at before anybody is shown them. Pure.

Rules: what is shown is the body that was hashed, never what stands beside it; a record that differs from its own hash
or its own copies is shown to nobody, for somebody changed it. Whether a ledger is whole is not for here to say.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gateway.audit.entries import is_canonical, is_origin
from gateway.audit.events import printable
from gateway.audit.merkle import hash_leaf
from gateway.audit.verify_copies import COPIES
from gateway.errors import Code, LedgerError
from gateway.store.records import AuditRecord


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record that agrees with its own hash and copies. members: of its body."""

    origin: str
    position: int
    body: str
    members: Mapping[str, Any] = field(repr=False)


def read_record(record: AuditRecord) -> FoundRecord:
    """The record, if its body is one that a gateway writes and agrees with the hash and the copies beside it.

    Raises LedgerError otherwise.
    """
    is_written = is_canonical(record.body) and is_origin(record.origin) and record.position >= 0
    if not is_written or record.leaf_hash != hash_leaf(record.body.encode("ascii")):
        raise unreadable(record.origin, record.position)
    try:
        members = json.loads(record.body)
    except ValueError as exc:  # a number of thousands of digits
        raise unreadable(record.origin, record.position) from exc
    if any(getattr(record, name) != members[name] for name in COPIES):
        raise unreadable(record.origin, record.position)
    return FoundRecord(record.origin, record.position, record.body, MappingProxyType(members))


def is_undecodable(exc: Exception) -> bool:
    """Whether a database failed because it holds what is no text, which somebody must have put there."""
    # SQLite's driver says so by its message alone.
    return "Could not decode to UTF-8" in str(getattr(exc, "orig", exc))


def unreadable(origin: str | None = None, position: int | None = None) -> LedgerError:
    """What is told of a record that was changed or cannot be read."""
    # SQLite stores any type in any column, and whoever changed one may have put an escape there.
    name = printable(str(origin), max_characters=128)
    which = "a record" if origin is None else f"record {position} of {name}"
    message = f"{which} was changed or cannot be read: `gateway audit verify` says more"
    return LedgerError(Code.LEDGER_BROKEN, message, reason="unreadable record")
