"""How far an export has come, in each ledger, as a small JSON text. Pure.

Rules: a cursor names the last record that was exported by its position and its hash, so that an export does not go on
in a ledger that is another one, or was cut; a text that is not wholly understood is refused, never read as a beginning.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.audit.entries import is_origin
from gateway.audit.merkle import MAX_SIZE

MAX_CURSOR_BYTES = 1 << 20
FORMAT = 1

_HASH = re.compile(r"[0-9a-f]{64}")


class CursorInvalidError(ValueError):
    """A text is no cursor; the message says why."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The last record of a ledger that was exported."""

    position: int
    leaf_hash: bytes


def format_cursor(marks: Mapping[str, Mark]) -> bytes:
    """The text of a cursor, ASCII, ended by a newline. marks: by origin."""
    ledgers = {
        origin: {"position": mark.position, "leaf_hash": mark.leaf_hash.hex()}
        for origin, mark in marks.items()
    }
    text = json.dumps({"format": FORMAT, "ledgers": ledgers}, indent=1, sort_keys=True)
    return text.encode("ascii") + b"\n"


def parse_cursor(content: bytes) -> dict[str, Mark]:
    """The marks of a cursor by origin. Raises CursorInvalidError unless it says what format_cursor would write."""
    try:
        loaded = json.loads(content.decode("ascii"), object_pairs_hook=_object)
    except CursorInvalidError:
        raise
    except (ValueError, RecursionError) as exc:
        raise CursorInvalidError("it is not JSON") from exc
    ledgers = _members(loaded, {"format", "ledgers"})["ledgers"]
    if type(loaded["format"]) is not int or loaded["format"] != FORMAT:
        raise CursorInvalidError(f"its format is not {FORMAT}")
    if not isinstance(ledgers, dict) or not all(map(is_origin, ledgers)):
        raise CursorInvalidError("its ledgers are not an object by origins")
    return {origin: _mark(members) for origin, members in ledgers.items()}


def _mark(unverified: object) -> Mark:
    members = _members(unverified, {"position", "leaf_hash"})
    position, leaf_hash = members["position"], members["leaf_hash"]
    if type(position) is not int or not 0 <= position < MAX_SIZE:
        raise CursorInvalidError("a position is not a number from 0 to 2^63 - 2")
    if not isinstance(leaf_hash, str) or not _HASH.fullmatch(leaf_hash):
        raise CursorInvalidError("a leaf_hash is not 64 small hexadecimal digits")
    return Mark(position, bytes.fromhex(leaf_hash))


def _members(unverified: object, names: set[str]) -> dict[str, Any]:
    if not isinstance(unverified, dict) or unverified.keys() != names:
        raise CursorInvalidError(f"it does not have the members {', '.join(sorted(names))}")
    return unverified


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON itself lets one name stand twice, and readers differ in which they take.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise CursorInvalidError("a member stands in it twice")
    return members
