"""The two encodings inside tokens and key sets, base64url and JSON, read so that one value has one form.

Rules: a lenient reader lets two programs see different values in the same signed bytes, so whatever
has a second spelling is refused: padding, unused bits, duplicate members, byte order marks, NaN.
"""

import base64
import math
import re
from json import JSONDecoder
from typing import Any, NoReturn, TypeGuard

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_MAX_INTEGER_DIGITS = 20  # A 64-bit number and its sign; longer ones only cost time.


class MalformedError(ValueError):
    """The bytes are not in the one accepted form."""


def decode_base64url(text: str) -> bytes:
    """The bytes of unpadded base64url text; the empty text is no bytes.

    Raises MalformedError for any other alphabet, padding, white space, an impossible length or
    unused bits that are not zero. Source: RFC 7515 section 2, RFC 4648 sections 3.5 and 5.
    """
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise MalformedError("not base64url")
    content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_base64url(content) != text:
        raise MalformedError("unused bits are not zero")
    return content


def encode_base64url(content: bytes) -> str:
    """Bytes as unpadded base64url text."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def parse_json_object(content: bytes) -> dict[str, Any]:
    """The one JSON object that the bytes hold, with each member once.

    Raises MalformedError unless they are UTF-8 without a byte order mark and an object, in which
    no object has a member twice, numbers are finite and integers have at most 20 characters.
    Source: RFC 8259; RFC 7515 section 4 for duplicate members.
    """
    try:
        value = _parse(content.decode("utf-8"))
    except (ValueError, RecursionError) as exc:  # ValueError covers Unicode and JSON errors.
        raise MalformedError("not strict JSON") from exc
    if not isinstance(value, dict):
        raise MalformedError("not a JSON object")
    return value


def is_bounded_text(value: object, *, max_characters: int) -> TypeGuard[str]:
    """Whether a value is text of 1 to max_characters printable characters.

    Control characters, NUL, lone surrogates and direction marks are not printable: they would
    break the database, the log or the eye of whoever reads the audit log.
    """
    return isinstance(value, str) and 0 < len(value) <= max_characters and value.isprintable()


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedError("a member occurs twice")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedError("a number is too large")
    return value


def _bounded_integer(text: str) -> int:
    if len(text) > _MAX_INTEGER_DIGITS:
        raise MalformedError("an integer is too long")
    return int(text)


_parse = JSONDecoder(
    object_pairs_hook=_members_once,
    parse_constant=_refuse_constant,
    parse_float=_finite_float,
    parse_int=_bounded_integer,
).decode
