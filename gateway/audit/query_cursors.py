"""The place where a page of a query ends, as one opaque word that the next request sends back. Pure.

Rules: one form, nothing lax; a cursor is good for the filters that it was made with, so that a page of one query is
never taken for one of another. It is not signed: it holds nothing that its holder could not ask for.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from json import dumps

from gateway.audit.checkpoints import parse_decimal
from gateway.audit.entries import format_time, is_origin
from gateway.audit.merkle import LogInvalidError
from gateway.store.queries.audit_search import RecordKey

MAX_CURSOR_CHARACTERS = 400

_VERSION = "1"
_FORM = re.compile(r"[A-Za-z0-9_-]+")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


class QueryInvalidError(ValueError):
    """What is asked of the ledger cannot be; the text names the parameter and what it takes."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where to go on. filters: their digest. asked_at: when the first page was, which relative times go by."""

    filters: str
    asked_at: datetime
    key: RecordKey


def digest_of(filters: Mapping[str, str]) -> str:
    """What tells the filters of one query from those of another: 32 hexadecimal digits."""
    return sha256(dumps(sorted(filters.items())).encode("ascii")).hexdigest()[:32]


def format_cursor(cursor: Cursor) -> str:
    """The cursor as one word of URL-safe characters."""
    key = cursor.key
    asked_at = format_time(cursor.asked_at)
    parts = [_VERSION, cursor.filters, asked_at, key.recorded_at, str(key.position), key.origin]
    return base64.urlsafe_b64encode("\n".join(parts).encode("ascii")).decode("ascii").rstrip("=")


def parse_cursor(text: str) -> Cursor:
    """The cursor of a word. Raises QueryInvalidError for what format_cursor does not write."""
    if len(text) > MAX_CURSOR_CHARACTERS or not _FORM.fullmatch(text):
        raise _invalid()
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        version, filters, asked_at, recorded_at, position, origin = content.split("\n")
        cursor = Cursor(
            filters, _moment(asked_at), RecordKey(recorded_at, origin, parse_decimal(position))
        )
    except (ValueError, LogInvalidError) as exc:
        raise _invalid() from exc
    is_sound = version == _VERSION and _DIGEST.fullmatch(filters) and is_sound_key(cursor.key)
    # Base64 has several words for the same bytes; one cursor has one.
    if not is_sound or format_cursor(cursor) != text:
        raise _invalid()
    return cursor


def is_sound_key(key: RecordKey) -> bool:
    """Whether a cursor can hold a key as it was read: SQLite stores any type in any column."""
    is_typed = (type(key.recorded_at), type(key.position)) == (str, int)
    return (
        is_typed
        and is_origin(key.origin)
        and key.position >= 0
        and _TIME.fullmatch(key.recorded_at) is not None
    )


def _moment(text: str) -> datetime:
    if not _TIME.fullmatch(text):
        raise _invalid()
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)


def _invalid() -> QueryInvalidError:
    return QueryInvalidError("cursor: give it as the page before gave it, or none")
