"""One kind of record, many times in a window: the shape that most rules have."""

from monitor.records import Rule
from monitor.security.counting import WindowCounts
from monitor.security.findings import OTHER_KEYS, Hit
from monitor.security.seen import SeenRecord


class Burst:
    """Hits while the records of a key in a window come to a threshold."""

    def __init__(
        self, rule: Rule, *, what: str, threshold: int, window_seconds: float, max_keys: int
    ) -> None:
        """what: stands behind the count in the words. threshold >= 1."""
        self._rule = rule
        self._what = what
        self._threshold = threshold
        self._window_seconds = window_seconds
        self._max_keys = max_keys
        self._counts = WindowCounts(window_seconds=window_seconds, max_keys=max_keys)

    @property
    def rule(self) -> Rule:
        """What it looks for."""
        return self._rule

    @property
    def forgotten(self) -> int:
        """Keys that were still counted and had to leave for lack of room."""
        return self._counts.forgotten

    def add(self, key: str, record: SeenRecord, *, weight: int = 1) -> list[Hit]:
        """Count a record; at most two hits.

        Room that runs out is a hit as well, so that nobody hides by filling it. weight: records that this one stands
        for, itself among them.
        """
        forgotten = self._counts.forgotten
        counted = self._counts.add(
            key, at_seconds=record.at_seconds, weight=weight, place=record.place
        )
        hits = []
        if counted.count >= self._threshold:
            hits.append(
                Hit(
                    self._rule,
                    key,
                    min(counted.since_seconds, record.at_seconds),
                    record.at_seconds,
                    counted.count,
                    f"{counted.count} {self._what} within {_span(self._window_seconds)}",
                    (counted.first, record.place),
                )
            )
        if self._counts.forgotten > forgotten:
            hits.append(self._full(record))
        return hits

    def _full(self, record: SeenRecord) -> Hit:
        words = f"more than {self._max_keys} keys at a time: counts of the oldest were forgotten"
        at = record.at_seconds
        return Hit(self._rule, OTHER_KEYS, at, at, self._max_keys, words, (record.place,))


def _span(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds < 7200 else f"{seconds / 3600:g} hours"
