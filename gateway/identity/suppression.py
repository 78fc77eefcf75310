"""Which calls that were refused before anybody knew who calls are written into the ledger.

Rules: a flood of them grows the ledger by a bounded number of records a minute, from however many addresses it comes;
none is lost to the count: those that are not recorded are told by the next record.
"""

from collections import OrderedDict
from dataclasses import dataclass

from gateway.store.addresses import address_key

SPAN_SECONDS = 60.0


@dataclass(slots=True)
class _Seen:
    recorded_at_seconds: float
    unrecorded: int = 0


class Suppression:
    """One record a minute for each address, and not more than max_records_per_minute of all; event loop only."""

    def __init__(self, *, max_addresses: int = 10_000, max_records_per_minute: int = 1_000) -> None:
        """max_addresses: remembered at the same time, those recorded longest ago leave first; IPv6 by /64."""
        self._max_addresses = max_addresses
        self._max_records = max_records_per_minute
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._unrecorded_of_others = 0
        self._span_began_at_seconds = 0.0
        self._records_in_span = 0

    def should_record(self, address: str, now_seconds: float) -> tuple[bool, int]:
        """Whether to record a refusal, and how many before it were not recorded; that number is 0 where it is not.

        The number counts those of the same address, and those of addresses that found no room for a record or are no
        longer remembered. now_seconds: of any clock, the same at each call.
        """
        key = address_key(address)
        seen = self._seen.get(key)
        is_recent = seen is not None and _is_within_span(seen.recorded_at_seconds, now_seconds)
        if is_recent or not self._has_room(now_seconds):
            self._count(seen)
            return False, 0
        unrecorded = self._unrecorded_of_others + (seen.unrecorded if seen else 0)
        self._unrecorded_of_others = 0
        self._records_in_span += 1
        self._remember(key, now_seconds)
        return True, unrecorded

    def _has_room(self, now_seconds: float) -> bool:
        if not _is_within_span(self._span_began_at_seconds, now_seconds):
            self._span_began_at_seconds = now_seconds
            self._records_in_span = 0
        return self._records_in_span < self._max_records

    def _count(self, seen: _Seen | None) -> None:
        if seen is None:
            self._unrecorded_of_others += 1
        else:
            seen.unrecorded += 1

    def _remember(self, key: str, now_seconds: float) -> None:
        self._seen[key] = _Seen(now_seconds)
        self._seen.move_to_end(key)
        if len(self._seen) > self._max_addresses:
            _, forgotten = self._seen.popitem(last=False)
            self._unrecorded_of_others += forgotten.unrecorded


def _is_within_span(began_at_seconds: float, now_seconds: float) -> bool:
    # A clock that was set back begins another span: it must not silence the ledger until it has caught up.
    return 0 <= now_seconds - began_at_seconds < SPAN_SECONDS
