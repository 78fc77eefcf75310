"""What the rules find, and how hits on the same thing become one finding that ends. Pure.

Rules: a rule has at most one open finding for each key, and at most MAX_OPEN of them; a burst ends after a quiet time,
anything else when somebody acknowledges it or it was held long enough. All of that is by the monitor's clock: a ledger
whose clock was changed can neither end a finding nor keep one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from monitor.records import Finding, Place, Rule, Severity
from monitor.security.seen import moment

MAX_OPEN = 200
MAX_EVIDENCE = 10
# Stands for the keys that found no room, of rules that count by key and of findings.
OTHER_KEYS = "*"


@dataclass(frozen=True, slots=True)
class Traits:
    """is_burst: it is over when it stops; a count is the most in one window, else of all records."""

    severity: Severity
    is_burst: bool


_BURST = Traits(Severity.TICKET, is_burst=True)
_PAGE = Traits(Severity.PAGE, is_burst=False)
_TICKET = Traits(Severity.TICKET, is_burst=False)

TRAITS: Mapping[Rule, Traits] = MappingProxyType(
    {
        Rule.ADDRESS_FAILURES: _BURST,
        Rule.ALL_FAILURES: Traits(Severity.PAGE, is_burst=True),
        Rule.SUBJECT_FAILURES: _BURST,
        Rule.TOKEN_SHARED: _PAGE,
        Rule.OPERATOR_REFUSED: _PAGE,
        Rule.OPERATOR_OFF_HOURS: _TICKET,
        Rule.ISSUER_NEW: _PAGE,
        Rule.KEY_NEW: _TICKET,
        Rule.SAMPLES_VIEWED: Traits(Severity.PAGE, is_burst=True),
        Rule.AUDIT_READ: _BURST,
        Rule.AUDIT_EXPORTED: _TICKET,
        Rule.PREDICTIONS_MANY: _BURST,
        Rule.LOAD_UNORDERED: _PAGE,
        Rule.CLOCK_JUMPED: _TICKET,
        Rule.AUDIT_OUTAGE: _TICKET,
        Rule.RECORD_UNREADABLE: _PAGE,
    }
)


@dataclass(frozen=True, slots=True)
class Hit:
    """What one rule saw at one record.

    key: the address, principal, token, issuer, model or ledger that it is about. since_seconds, until_seconds: of the
    records, by their clocks. count: records, in the window where the rule has one. evidence: where to look, in order.
    """

    rule: Rule
    key: str
    since_seconds: float
    until_seconds: float
    count: int
    words: str
    evidence: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long findings stay open without another hit."""

    quiet: timedelta
    hold: timedelta


class OpenFindings:
    """The open findings, and what of them was changed by hits since they were last taken."""

    def __init__(self, stored: Iterable[Finding]) -> None:
        """stored: all that are open."""
        self._open = {(finding.rule, finding.key): finding for finding in stored}
        self._counts = Counter(rule for rule, _ in self._open)
        self._changed: set[tuple[Rule, str]] = set()

    def add(self, hit: Hit, *, now: datetime) -> None:
        """Put a hit to the finding that it belongs to, or open one. Hits beyond MAX_OPEN keys share one finding."""
        key = (hit.rule, hit.key)
        if key not in self._open and self._counts[hit.rule] >= MAX_OPEN:
            key = (hit.rule, OTHER_KEYS)
            hit = replace(hit, key=OTHER_KEYS, words=f"more keys than are told apart: {hit.words}")
        if key not in self._open:
            self._counts[hit.rule] += 1
        self._open[key] = merged(self._open.get(key), hit, now=now)
        self._changed.add(key)

    def close_ended(self, lifetimes: Lifetimes, *, now: datetime) -> None:
        """Close those that are over or were held long enough."""
        for key, finding in self._open.items():
            if finding.closed_at is None and now >= ends_at(finding, lifetimes):
                self._open[key] = replace(finding, closed_at=now, closed_why=_why_over(finding))
                self._changed.add(key)

    def take_changed(self) -> list[Finding]:
        """Those that differ from what is stored; the closed ones are forgotten with it."""
        changed = [self._open[key] for key in sorted(self._changed)]
        self._changed.clear()
        for finding in changed:
            if finding.closed_at is not None:
                del self._open[finding.rule, finding.key]
                self._counts[finding.rule] -= 1
        return changed

    def open(self) -> tuple[Finding, ...]:
        """Those that are open now, by rule and key."""
        return tuple(f for _, f in sorted(self._open.items()) if f.closed_at is None)


def merged(finding: Finding | None, hit: Hit, *, now: datetime) -> Finding:
    """The finding with one more hit; None opens one. now: by the monitor's clock."""
    traits = TRAITS[hit.rule]
    since, until = moment(hit.since_seconds), moment(hit.until_seconds)
    if finding is None:
        return Finding(
            rule=hit.rule,
            key=hit.key,
            severity=traits.severity,
            opened_at=now,
            seen_at=now,
            since=since,
            until=until,
            count=hit.count,
            words=hit.words,
            evidence=bounded_evidence(hit.evidence),
        )
    is_larger = hit.count >= finding.count or not traits.is_burst
    return replace(
        finding,
        seen_at=now,
        since=min(since, finding.since),
        until=max(until, finding.until),
        count=max(hit.count, finding.count) if traits.is_burst else finding.count + hit.count,
        # What is said of a burst is said of its worst window.
        words=hit.words if is_larger else finding.words,
        evidence=bounded_evidence((*finding.evidence, *hit.evidence)),
    )


def bounded_evidence(places: Sequence[Place]) -> tuple[Place, ...]:
    """The first half and the newest half of what fits, each place once."""
    distinct = tuple(dict.fromkeys(places))
    if len(distinct) <= MAX_EVIDENCE:
        return distinct
    half = MAX_EVIDENCE // 2
    return distinct[:half] + distinct[-half:]


def ends_at(finding: Finding, lifetimes: Lifetimes) -> datetime:
    """When it closes by itself if nothing more is found."""
    is_burst = TRAITS[finding.rule].is_burst
    return finding.seen_at + (lifetimes.quiet if is_burst else lifetimes.hold)


def _why_over(finding: Finding) -> str:
    return "it stopped" if TRAITS[finding.rule].is_burst else "held long enough"
