"""All rules over all ledgers, fed one record at a time.

Rules: what the rules hold is bounded and comes from the records of the longest window, so that feeding those again
after a restart gives the same, but for two things: issuers and keys that are known, which are stored, and orders and
learnt loads of all time, which are taught first; whoever feeds says which records were fed before, and drops what they
hit.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gateway.audit.events import Action, Outcome
from monitor.records import Place, Rule
from monitor.security.bursts import Burst
from monitor.security.clocks import Clocks
from monitor.security.failures import Failures
from monitor.security.findings import Hit
from monitor.security.issuers import Issuers
from monitor.security.loads import Loads
from monitor.security.operators import OffHours, RefusedOperators
from monitor.security.readings import Readings
from monitor.security.seen import SeenRecord
from monitor.security.thresholds import Thresholds
from monitor.security.tokens import TokenPlaces

HOUR_SECONDS = 3600.0
# Two gateways' clocks, and the monitor's pages of their ledgers, are no further apart than this.
LOAD_GRACE_SECONDS = 120.0


class Rules:
    """The rules that are switched on, and what they hold."""

    def __init__(self, thresholds: Thresholds, *, known: Iterable[tuple[str, str]]) -> None:
        """known: issuers and key ids, see monitor.security.issuers."""
        self.watched = watched_rules(thresholds)
        self._bursts = _bursts(thresholds)
        self._failures = Failures(
            by_address=self._bursts.get(Rule.ADDRESS_FAILURES),
            overall=self._bursts.get(Rule.ALL_FAILURES),
            by_subject=self._bursts.get(Rule.SUBJECT_FAILURES),
        )
        self._tokens = _token_places(thresholds)
        denied = _burst(thresholds, Rule.OPERATOR_REFUSED, thresholds.operator_denials)
        unproven = _burst(thresholds, Rule.OPERATOR_REFUSED, thresholds.operator_unproven)
        records = _burst(
            thresholds, Rule.AUDIT_READ, thresholds.audit_records, "records of the ledger read"
        )
        extra = (burst for burst in (denied, unproven, records) if burst is not None)
        self._counted = (*self._bursts.values(), *extra)
        self._refused_operators = RefusedOperators(denied=denied, unproven=unproven)
        self._off_hours = _off_hours(thresholds)
        self._readings = Readings(
            views=self._bursts.get(Rule.SAMPLES_VIEWED),
            reads=self._bursts.get(Rule.AUDIT_READ),
            records=records,
            exporters=thresholds.exporters,
        )
        self._predictions = self._bursts.get(Rule.PREDICTIONS_MANY)
        self.issuers = Issuers(
            known,
            looks_at_issuers=thresholds.looks_at_new_issuers,
            looks_at_keys=thresholds.looks_at_new_keys,
        )
        self._loads = Loads(grace_seconds=LOAD_GRACE_SECONDS) if thresholds.looks_at_loads else None
        self._clocks = _clocks(thresholds)
        self._looks_at_outages = thresholds.looks_at_outages

    def observe(
        self, record: SeenRecord, *, now_seconds: float, is_learning: bool
    ) -> Sequence[Hit]:
        """What one record hits. now_seconds: by the monitor's clock. is_learning: take what is new as known."""
        hits: list[Hit] = []
        if self._clocks is not None:
            hits += self._clocks.observe(record, now_seconds=now_seconds)
        if self._tokens is not None:
            hits += self._tokens.observe(record)
        hits += self.issuers.observe(record, is_learning=is_learning)
        if record.outcome == Outcome.REFUSED:
            hits += self._failures.observe(record)
            hits += self._refused_operators.observe(record)
        if record.action != Action.PREDICT:
            hits += self._rare(record, now_seconds=now_seconds, is_learning=is_learning)
        elif record.outcome == Outcome.ANSWERED and self._predictions is not None:
            hits += self._predictions.add(record.principal or record.place.origin, record)
        return hits

    def settle(self, *, now_seconds: float) -> list[Hit]:
        """What has become suspicious by waiting, once every ledger is read to its end."""
        return [] if self._loads is None else self._loads.settle(now_seconds=now_seconds)

    def teach(self, record: SeenRecord) -> None:
        """Note an operator's change of models, or a load that was learnt, older than what observe gets."""
        if self._loads is not None:
            self._loads.teach(record)

    def forgotten(self) -> Mapping[Rule, int]:
        """How many keys each rule had to forget for lack of room while they still counted."""
        # Some rules count in several ways.
        counts = Counter[Rule]()
        for burst in self._counted:
            counts[burst.rule] += burst.forgotten
        if self._tokens is not None:
            counts[Rule.TOKEN_SHARED] = self._tokens.forgotten
        return counts

    def _rare(self, record: SeenRecord, *, now_seconds: float, is_learning: bool) -> Iterable[Hit]:
        if self._loads is not None:
            yield from self._loads.observe(record, now_seconds=now_seconds, is_learning=is_learning)
        if self._off_hours is not None:
            yield from self._off_hours.observe(record)
        yield from self._readings.observe(record)
        if record.action == Action.AUDIT_OUTAGE and self._looks_at_outages:
            yield _outage(record)


def unreadable(place: Place, why: str, *, now_seconds: float) -> Hit:
    """The hit for a place in a ledger where no readable record is."""
    words = f"position {place.position} of {place.origin}: {why}; see `gateway audit verify`"
    return Hit(Rule.RECORD_UNREADABLE, place.origin, now_seconds, now_seconds, 1, words, (place,))


def watched_rules(thresholds: Thresholds) -> frozenset[Rule]:
    """The rules that are not switched off."""
    t = thresholds
    is_on: Mapping[Rule, object] = {
        Rule.ADDRESS_FAILURES: t.address_failures,
        Rule.ALL_FAILURES: t.all_failures,
        Rule.SUBJECT_FAILURES: t.subject_failures,
        Rule.TOKEN_SHARED: t.token_addresses or t.token_certificates,
        Rule.OPERATOR_REFUSED: t.operator_denials or t.operator_unproven,
        Rule.OPERATOR_OFF_HOURS: t.working_hours,
        Rule.ISSUER_NEW: t.looks_at_new_issuers,
        Rule.KEY_NEW: t.looks_at_new_keys,
        Rule.SAMPLES_VIEWED: t.sample_views,
        Rule.AUDIT_READ: t.audit_reads or t.audit_records,
        Rule.AUDIT_EXPORTED: t.exporters,
        Rule.PREDICTIONS_MANY: t.predictions,
        Rule.LOAD_UNORDERED: t.looks_at_loads,
        Rule.CLOCK_JUMPED: t.clock_tolerance_seconds,
        Rule.AUDIT_OUTAGE: t.looks_at_outages,
        Rule.RECORD_UNREADABLE: True,
    }
    return frozenset(rule for rule, value in is_on.items() if value)


def longest_window_seconds(thresholds: Thresholds) -> float:
    """How far back what the rules hold reaches."""
    windows = [HOUR_SECONDS, thresholds.failure_window_seconds]
    if Rule.TOKEN_SHARED in watched_rules(thresholds):
        windows.append(thresholds.token_kept_seconds)
    return max(windows)


_WHAT: Mapping[Rule, str] = {
    Rule.ADDRESS_FAILURES: "calls refused before anybody was known",
    Rule.ALL_FAILURES: "calls refused before anybody was known, from all addresses",
    Rule.SUBJECT_FAILURES: "calls refused for want of a role, a second factor or a quota",
    Rule.OPERATOR_REFUSED: "operator actions refused",
    Rule.SAMPLES_VIEWED: "views of samples",
    Rule.AUDIT_READ: "readings of the ledger",
    Rule.PREDICTIONS_MANY: "answered predictions",
}
_FAILURES = frozenset({Rule.ADDRESS_FAILURES, Rule.ALL_FAILURES, Rule.SUBJECT_FAILURES})


def _bursts(thresholds: Thresholds) -> dict[Rule, Burst]:
    of_rule = {
        Rule.ADDRESS_FAILURES: thresholds.address_failures,
        Rule.ALL_FAILURES: thresholds.all_failures,
        Rule.SUBJECT_FAILURES: thresholds.subject_failures,
        Rule.SAMPLES_VIEWED: thresholds.sample_views,
        Rule.AUDIT_READ: thresholds.audit_reads,
        Rule.PREDICTIONS_MANY: thresholds.predictions,
    }
    made = {rule: _burst(thresholds, rule, count) for rule, count in of_rule.items()}
    return {rule: burst for rule, burst in made.items() if burst is not None}


def _burst(thresholds: Thresholds, rule: Rule, threshold: int, what: str = "") -> Burst | None:
    if not threshold:
        return None
    window = thresholds.failure_window_seconds if rule in _FAILURES else HOUR_SECONDS
    return Burst(
        rule,
        what=what or _WHAT[rule],
        threshold=threshold,
        window_seconds=window,
        max_keys=thresholds.max_keys,
    )


def _token_places(thresholds: Thresholds) -> TokenPlaces | None:
    if not (thresholds.token_addresses or thresholds.token_certificates):
        return None
    return TokenPlaces(
        max_addresses=thresholds.token_addresses,
        max_certificates=thresholds.token_certificates,
        kept_seconds=thresholds.token_kept_seconds,
        max_keys=thresholds.max_keys,
    )


def _off_hours(thresholds: Thresholds) -> OffHours | None:
    if thresholds.working_hours is None:
        return None
    return OffHours(thresholds.working_hours, excepted_subjects=thresholds.off_hours_excepted)


def _clocks(thresholds: Thresholds) -> Clocks | None:
    if not thresholds.clock_tolerance_seconds:
        return None
    return Clocks(tolerance_seconds=thresholds.clock_tolerance_seconds)


def _outage(record: SeenRecord) -> Hit:
    words = f"records could not be written: {record.reason or 'no reason given'}"
    at = record.at_seconds
    return Hit(Rule.AUDIT_OUTAGE, record.place.origin, at, at, 1, words, (record.place,))
