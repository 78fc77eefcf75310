"""Texts that leave the monitor: for terminals and logs, and as JSON. Pure.

Rules: whatever a table held, one line stays one line without escapes of terminals, and JSON stays JSON.
"""

import json
import math
from collections.abc import Mapping, Sequence

from gateway.audit.events import printable

MAX_LINE_CHARACTERS = 4000
# What is stored for people is flat; whoever wrote deeper values wrote them by hand.
_MAX_DEPTH = 32


def shown(text: str, *, max_characters: int = MAX_LINE_CHARACTERS) -> str:
    """A text as people may see it: everything unprintable escaped, cut to max_characters; nothing is escaped twice."""
    if text.isprintable() and len(text) <= max_characters:
        return text
    return printable(text, max_characters=max_characters)


def json_line(value: object) -> str:
    """JSON on one line that terminals can show: NaN, infinity and values too deep are null, control codes escapes."""
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False)
    # Only texts inside hold such characters: "\\u" escapes leave the value as it was.
    return text if text.isprintable() else "".join(map(_escaped, text))


def finite(value: object, *, max_depth: int = _MAX_DEPTH) -> object:
    """A value of objects, lists and scalars with null for what JSON has no number for, and for what lies deeper."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return _finite_object(value, max_depth - 1) if max_depth else None
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        below = max_depth - 1
        return [finite(each, max_depth=below) for each in value] if max_depth else None
    return value


def _finite_object(value: Mapping[object, object], below: int) -> dict[object, object]:
    return {name: finite(each, max_depth=below) for name, each in value.items()}


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
