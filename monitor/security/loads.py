"""Models that a gateway loaded though no operator asked for it.

The registry is not signed: whoever can write the database chooses which of the signed versions serves, an older one
too. What operators have asked for stands in the ledgers, so what should serve is known without the registry: the
version that was promoted or rolled back to last, and those that were given traffic.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.audit.details import parse_detail
from gateway.audit.events import Action, Outcome
from monitor.records import Rule
from monitor.security.findings import Hit
from monitor.security.seen import SeenRecord

ORDERS = frozenset(
    {Action.MODELS_PROMOTE, Action.MODELS_ROLLBACK, Action.MODELS_TRAFFIC, Action.MODELS_RETIRE}
)
# A change under way, or just made: gateways may still load what was there before, or already what will be.
_CHANGING_SECONDS = 3600.0
_MAX_WAITING = 1000


@dataclass(slots=True)
class _Ordered:
    """What should serve under one name.

    learnt: what was loaded before anybody looked and no order explains, until the next order says what serves.
    lately: versions of changes that began or ended, by the time of it.
    """

    production: str | None = None
    shared: set[str] = field(default_factory=set)
    learnt: set[str] = field(default_factory=set)
    lately: dict[str | None, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: SeenRecord
    until_seconds: float


class Loads:
    """What operators ordered, and loads that wait for the record of their order, which another ledger may have.

    As many names are held as operators gave to models, and as were loaded before anybody looked.
    """

    def __init__(self, *, grace_seconds: float) -> None:
        """grace_seconds: by which the record of an order may be read after that of the load."""
        self._grace_seconds = grace_seconds
        self._names: dict[str, _Ordered] = {}
        self._waiting: deque[_Waiting] = deque()

    def observe(
        self, record: SeenRecord, *, now_seconds: float, is_learning: bool
    ) -> Sequence[Hit]:
        """Note orders and loads; hits come from settle, and here if too many loads wait.

        is_learning: take what is loaded and not ordered as that, until the next order.
        """
        if is_learning or record.action in ORDERS:
            self.teach(record)
        elif _is_load(record) and not self._is_ordered(record):
            self._waiting.append(_Waiting(record, now_seconds + self._grace_seconds))
            if len(self._waiting) > _MAX_WAITING:
                return (_hit(self._waiting.popleft().record),)
        return ()

    def settle(self, *, now_seconds: float) -> list[Hit]:
        """Hits for the loads that waited long enough. now_seconds: by the monitor's clock."""
        hits = []
        while self._waiting and self._waiting[0].until_seconds <= now_seconds:
            record = self._waiting.popleft().record
            if not self._is_ordered(record):
                hits.append(_hit(record))
        return hits

    def teach(self, record: SeenRecord) -> None:
        """Note an operator's record, or take a load as ordered until the next order."""
        if record.action in ORDERS:
            self._note(record)
        elif _is_load(record):
            self._learn(record)

    def _note(self, record: SeenRecord) -> None:
        if record.outcome == Outcome.REFUSED or record.model_name is None:
            return
        ordered = self._of(record.model_name)
        # Also where it has only begun or failed: it may have been made all the same. A rollback names no version yet.
        ordered.lately[record.model_version] = record.at_seconds
        ordered.lately = {
            version: at
            for version, at in ordered.lately.items()
            if record.at_seconds - at <= _CHANGING_SECONDS
        }
        if record.outcome == Outcome.ANSWERED and record.model_version is not None:
            _change(ordered, record, record.model_version)

    def _learn(self, record: SeenRecord) -> None:
        # What is ordered needs no more, or it would still pass when it is no longer.
        if record.model_name and record.model_version and not self._is_ordered(record):
            self._of(record.model_name).learnt.add(record.model_version)

    def _of(self, name: str) -> _Ordered:
        return self._names.setdefault(name, _Ordered())

    def _is_ordered(self, record: SeenRecord) -> bool:
        ordered = self._names.get(record.model_name or "")
        version = record.model_version
        if ordered is None or version is None:
            return False
        if version in {ordered.production, *ordered.shared, *ordered.learnt}:
            return True
        return any(
            abs(record.at_seconds - ordered.lately[key]) <= _CHANGING_SECONDS
            for key in (version, None)
            if key in ordered.lately
        )


def _is_load(record: SeenRecord) -> bool:
    return record.action == Action.MODELS_LOAD and record.outcome == Outcome.ANSWERED


def _change(ordered: _Ordered, record: SeenRecord, version: str) -> None:
    if record.action in (Action.MODELS_PROMOTE, Action.MODELS_ROLLBACK):
        if ordered.production is not None:
            ordered.lately[ordered.production] = record.at_seconds
        # Those too were replaced now, if they served at all.
        ordered.lately |= dict.fromkeys(ordered.learnt, record.at_seconds)
        ordered.production = version
        ordered.shared.discard(version)
        ordered.learnt.clear()
    elif record.action == Action.MODELS_RETIRE or _is_taken_away(record):
        ordered.shared.discard(version)
        ordered.learnt.discard(version)
    else:
        ordered.shared.add(version)


def _is_taken_away(record: SeenRecord) -> bool:
    said = parse_detail(record.detail) or parse_detail(record.reason)
    return said.get("traffic") == ("none",)


def _hit(record: SeenRecord) -> Hit:
    label = f"{record.model_name}@{record.model_version}"
    words = f"{record.place.origin} loaded {label}, and no operator's record asks for it"
    at = record.at_seconds
    return Hit(Rule.LOAD_UNORDERED, label, at, at, 1, words, (record.place,))
