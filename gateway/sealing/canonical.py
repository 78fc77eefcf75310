"""Canonical JSON: one value has exactly one encoding, so that what is signed and hashed can be rebuilt.

Rules: the part of RFC 8785 without floats and null. Keys are ASCII and sorted, there are no spaces, text is UTF-8,
integers lie within 2^53. Reading is strict by comparison: what does not encode back to the very same bytes is
refused, which covers duplicate keys, spaces, other escapes, `-0` and every other second spelling at once.
"""

import json
from typing import Any

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 8


class CanonicalError(ValueError):
    """The bytes or the value have no canonical form."""


def encode_canonical(value: object) -> bytes:
    """The one encoding of a value made of dict, list, str, int and bool.

    Raises CanonicalError for any other type, a key that is no ASCII text, an integer beyond 2^53 - 1, a lone
    surrogate, and nesting deeper than MAX_DEPTH. Source: RFC 8785 section 3.2.
    """
    _check(value, depth=0)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise CanonicalError("text with a lone surrogate") from exc


def parse_canonical(unverified: bytes) -> dict[str, Any]:
    """The object that these bytes are the canonical encoding of.

    Raises CanonicalError for anything else, another spelling of the same object included.
    """
    try:
        value = json.loads(unverified.decode("utf-8"))
        again = encode_canonical(value)
    except (ValueError, RecursionError) as exc:
        raise CanonicalError("not canonical JSON") from exc
    if not isinstance(value, dict) or again != unverified:
        raise CanonicalError("not canonical JSON")
    return value


def _check(value: object, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise CanonicalError("nested too deeply")
    # Exact types: a subclass could encode as something that reads back differently.
    if type(value) is dict:
        for key, member in value.items():
            if type(key) is not str or not key.isascii():
                raise CanonicalError("a key that is no ASCII text")
            _check(member, depth=depth + 1)
    elif type(value) is list:
        for item in value:
            _check(item, depth=depth + 1)
    elif type(value) is int:
        if abs(value) > MAX_INTEGER:
            raise CanonicalError("an integer beyond 2^53 - 1")
    elif type(value) is not str and type(value) is not bool:
        raise CanonicalError("a value that is neither text, integer, boolean, array nor object")
