"""Clocks that were set: times that go back against the order of a ledger, or lie ahead of the monitor's clock.

A leap forward alone looks like a quiet night; it shows against the monitor's own clock while it is read, and when the
clock is set right again.
"""

from collections.abc import Sequence

from gateway.audit.events import Action
from monitor.records import Place, Rule
from monitor.security.findings import Hit
from monitor.security.seen import SeenRecord

# These may tell afterwards, when they could not be written at once.
_LATE = frozenset(
    {Action.AUDIT_OUTAGE, Action.ALARM_CHANGE, Action.MONITOR_START, Action.MONITOR_STOP}
)


class Clocks:
    """The newest time of each ledger so far; there are as many as there are ledgers."""

    def __init__(self, *, tolerance_seconds: float) -> None:
        """tolerance_seconds: how far records that are written at the same time may be out of order."""
        self._tolerance_seconds = tolerance_seconds
        self._newest: dict[str, tuple[float, Place]] = {}

    def observe(self, record: SeenRecord, *, now_seconds: float) -> Sequence[Hit]:
        """A hit where the time of a record cannot be right. now_seconds: by the monitor's clock."""
        if record.action in _LATE:
            return ()
        origin, at = record.place.origin, record.at_seconds
        newest, where = self._newest.get(origin, (at, record.place))
        if at < newest - self._tolerance_seconds:
            # From here on the clock is taken as right: one step back is one hit.
            self._newest[origin] = (at, record.place)
            words = f"times go back by {newest - at:.0f} s at position {record.place.position}"
            return (_hit(record, at, newest, words, (where, record.place)),)
        if at >= newest:
            self._newest[origin] = (at, record.place)
        if at > now_seconds + self._tolerance_seconds:
            words = f"records are {at - now_seconds:.0f} s ahead of the monitor's clock"
            return (_hit(record, at, at, words, (record.place,)),)
        return ()


def _hit(
    record: SeenRecord, since: float, until: float, words: str, evidence: tuple[Place, ...]
) -> Hit:
    return Hit(Rule.CLOCK_JUMPED, record.place.origin, since, until, 1, words, evidence)
