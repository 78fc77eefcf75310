"""Counting by key in a sliding window, in bounded memory.

Rules: a window is told in tenths, so that what a count covers is at least the window and at most a tenth more; the key
that was counted longest ago leaves first when there is no room. Whoever wants one key forgotten has to bring as many
others within one window as there is room for: a key that leaves while it still counts is told to the caller.
"""

from collections import OrderedDict
from dataclasses import dataclass

from monitor.records import Place

_PARTS = 10
_MAX_EXPIRED_AT_A_TIME = 2


@dataclass(frozen=True, slots=True)
class Counted:
    """What stands in the window of one key: the sum of the weights, and the oldest record of it."""

    count: int
    since_seconds: float
    first: Place


@dataclass(slots=True)
class _Part:
    number: int
    weight: int
    since_seconds: float
    first: Place


class WindowCounts:
    """Sums of weights by key; half a kilobyte a key that was counted once, 2 at most."""

    def __init__(self, *, window_seconds: float, max_keys: int) -> None:
        """window_seconds > 0, max_keys >= 1."""
        self._part_seconds = window_seconds / _PARTS
        self._max_keys = max_keys
        self._parts: OrderedDict[str, list[_Part]] = OrderedDict()
        self.forgotten = 0

    def add(self, key: str, *, at_seconds: float, weight: int, place: Place) -> Counted:
        """Count a record of a key; what its window then holds.

        Records of several ledgers may come a little out of order and count as if they came in order. A clock that was
        set back by more than the window begins the key's count anew: it must not keep it for ever.
        """
        number = int(at_seconds // self._part_seconds)
        parts = self._take(key, number)
        if parts and number <= parts[-1].number:
            parts[-1].weight += weight
        else:
            parts.append(_Part(number, weight, at_seconds, place))
        self._parts[key] = parts
        self._make_room(number)
        oldest = parts[0]
        return Counted(sum(part.weight for part in parts), oldest.since_seconds, oldest.first)

    def __len__(self) -> int:
        """How many keys are held."""
        return len(self._parts)

    def _take(self, key: str, number: int) -> list[_Part]:
        parts = self._parts.pop(key, None)
        if parts is None or number < parts[-1].number - _PARTS:
            return []
        while parts and parts[0].number < number - _PARTS:
            del parts[0]
        return parts

    def _make_room(self, number: int) -> None:
        # Two for each that is added: what is over is gone before room gets scarce, and no record pays for many.
        for _ in range(_MAX_EXPIRED_AT_A_TIME):
            key = next(iter(self._parts))
            if self._parts[key][-1].number >= number - _PARTS:
                break
            del self._parts[key]
        if len(self._parts) > self._max_keys:
            self._parts.popitem(last=False)
            self.forgotten += 1
