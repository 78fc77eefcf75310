"""Much that leaves: samples and the ledger itself, looked at or exported by one principal.

Rules: a page of the ledger counts as one reading and as the records it brought; what only began counts by its end, but
for an export by somebody who is not known to export, which is told when it begins: who is killed records no end. Proofs
are not counted: honest clients ask for one with every answer.
"""

from collections.abc import Iterator

from gateway.audit.events import Action, Outcome
from monitor.records import Rule
from monitor.security.bursts import Burst
from monitor.security.findings import Hit
from monitor.security.seen import SeenRecord


class Readings:
    """How much each principal has looked at lately; each part may be left out."""

    def __init__(
        self,
        *,
        views: Burst | None,
        reads: Burst | None,
        records: Burst | None,
        exporters: frozenset[str],
    ) -> None:
        """views: of samples. reads, records: of ledgers. exporters: subjects that may export, all that there are."""
        self._views = views
        self._reads = reads
        self._records = records
        self._exporters = exporters

    def observe(self, record: SeenRecord) -> Iterator[Hit]:
        """What a record of looking at something adds to."""
        if record.outcome == Outcome.REFUSED:
            return
        if record.action == Action.SAMPLES_VIEW:
            yield from _count(self._views, record, weight=1)
        elif record.action == Action.AUDIT_READ:
            yield from self._ledger(record)
        elif record.action == Action.AUDIT_EXPORT and record.subject not in self._exporters:
            if self._exporters:
                yield _exported(record)
            yield from self._ledger(record)

    def _ledger(self, record: SeenRecord) -> Iterator[Hit]:
        yield from _count(self._reads, record, weight=1)
        if record.result_count:
            yield from _count(self._records, record, weight=record.result_count)


def _count(burst: Burst | None, record: SeenRecord, *, weight: int) -> list[Hit]:
    if burst is None or record.outcome == Outcome.ADMITTED:
        return []
    return burst.add(record.principal or record.place.origin, record, weight=weight)


def _exported(record: SeenRecord) -> Hit:
    who, at = record.principal or record.place.origin, record.at_seconds
    words = f"{record.subject} exports the ledger, and is none of those who do"
    return Hit(Rule.AUDIT_EXPORTED, who, at, at, 1, words, (record.place,))
