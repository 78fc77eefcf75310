"""Comparing the columns beside a body, which searches look at, with the body's own members. Pure.

Rules: the short way parses nothing and only ever says yes; whatever it does not say yes to is parsed. A comma, a
member's name in its quotes and a colon cannot stand inside a member, where quotes are escaped; so whoever finds that
text found the member, and what follows it in one piece are the members after it.
"""

import json
from collections.abc import Sequence
from typing import Any

from gateway.audit.verify_faults import Fault, FaultKind, fault_at

# The columns, in the order in which a reader gives them.
COPIES = ("recorded_at", "action", "outcome", "request_id", "subject", "model_name")

# A body's members are sorted. From here to here is one text for all calls of one client of one version.
_MIDDLE_STARTS = ',"model_name":'
_MIDDLE_ENDS = ',"recorded_at":"'
_MAX_SHAPES = 4096

# How a body begins; the members from the model over the outcome to the time, and where they stood; the subject, and how
# far from the end it stood.
_Shape = tuple[str, str, int, str, int]


def explain_copies(body: str, copies: tuple[Any, ...], position: int) -> Fault | None:
    """Which column is not what the body says; None if all are. copies: of any types, in the order of COPIES."""
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        return fault_at(position, FaultKind.UNREADABLE, "its body is no JSON object")
    for column, value in zip(COPIES, copies, strict=True):
        # A body without the member is none that was ever written; None would then equal it.
        is_same = column in members and type(members[column]) is type(value)
        if not is_same or members[column] != value:
            why = f"the {column} beside its body, which searches look at, is not the body's"
            return fault_at(position, FaultKind.INDEX_DIFFERS, why)
    return None


class CopyComparison:
    """Says which of many records has another column than its body; remembers how bodies look.

    Records of one client and one model differ in few members, so most are checked by comparing text where it stood in
    the one before.
    """

    def __init__(self) -> None:
        """Nothing is remembered yet."""
        self._shapes: dict[tuple[Any, ...], _Shape] = {}

    def first_bad(self, bodies: Sequence[str], copies: tuple[Sequence[Any], ...]) -> int | None:
        """The number of the first record with a column that is not its body's; None if all are.

        copies: in the order of COPIES; times must be text, request ids text or None.
        """
        times, actions, outcomes, requests, subjects, models = copies
        # Such a value could read as several members, or as another value than it is.
        joined = "".join((*times, *filter(None, requests)))
        shapes = {} if '"' in joined or "\\" in joined else self._shapes
        keys = zip(actions, outcomes, subjects, models, strict=True)
        rows = zip(bodies, times, requests, keys, strict=True)
        for number, (body, time, request, key) in enumerate(rows):
            shape = shapes.get(key)
            if shape is not None:
                head, middle, at, tail, back = shape
                id_text = "null" if request is None else f'"{request}"'
                middle = f'{middle}{time}","request_id":{id_text},'
                # Where they stood first, which costs a fraction of looking for them.
                if (
                    (body.startswith(middle, at) or middle in body)
                    and (body.startswith(tail, len(body) - back) or tail in body)
                    and body.startswith(head)
                ):
                    continue
            action, outcome, subject, model = key
            if explain_copies(body, (time, action, outcome, request, subject, model), 0):
                return number
            self._remember(key, body)
        return None

    def _remember(self, key: tuple[Any, ...], body: str) -> None:
        shape = _shape_of(key, body)
        if shape is None:
            return
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        self._shapes[key] = shape


def _shape_of(key: tuple[Any, ...], body: str) -> _Shape | None:
    # The columns are known to be the body's, and so how JSON writes them is how the body does if it is canonical.
    action, _, subject, _ = key
    head = f'{{"action":{json.dumps(action)},'
    tail = f',"subject":{json.dumps(subject)},'
    start, end = body.find(_MIDDLE_STARTS), body.find(_MIDDLE_ENDS)
    tail_at = body.find(tail)
    if not body.startswith(head) or not 0 <= start < end or tail_at < 0:
        return None
    return head, body[start : end + len(_MIDDLE_ENDS)], start, tail, len(body) - tail_at
