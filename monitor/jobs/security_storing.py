"""What a look at the ledgers found, into the tables: findings, alarms, cursors, in one transaction.

Rules: nothing to change is nothing written; findings are read anew each time, since somebody may have acknowledged some
in the meantime.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from gateway.store.database import write_transaction
from monitor.records import (
    ABOUT_LEDGER,
    Alarm,
    AlarmState,
    AlarmTransition,
    Cursor,
    Finding,
    NotReadyError,
    Rule,
)
from monitor.security.alarms import rule_alarm, switched_off
from monitor.security.findings import Hit, Lifetimes, OpenFindings
from monitor.security.seen import moment
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import insert_transition, list_alarms, save_alarm
from monitor.tables.security_queries import (
    find_newest_until,
    insert_known_keys,
    list_open_findings,
    prune_findings,
    save_cursors,
    save_findings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look brought.

    late_hits: of records that may have been judged by an earlier process. is_current: whether every ledger was read
    to its end.
    """

    hits: Sequence[Hit] = ()
    late_hits: Sequence[Hit] = ()
    cursors: Sequence[Cursor] = ()
    learnt: Sequence[tuple[str, str]] = ()
    is_current: bool = True


@dataclass(frozen=True, slots=True)
class Kept:
    """How findings and alarms stand after a look, and what it changed of them."""

    alarms: Sequence[Alarm]
    findings: Sequence[Finding] = ()
    changed_alarms: Sequence[Alarm] = field(default=())
    transitions: Sequence[AlarmTransition] = ()


class SecurityStore:
    """Findings and alarms of the rules that are watched."""

    def __init__(self, *, settings: MonitorSettings, watched: frozenset[Rule]) -> None:
        """watched: the rules that are not switched off."""
        self._watched = watched
        self._lifetimes = Lifetimes(
            quiet=timedelta(minutes=settings.security_quiet_minutes),
            hold=timedelta(hours=settings.security_hold_hours),
        )
        self._kept = timedelta(days=settings.keep_results_days)

    def keep(self, engine: Engine, looked: Looked, *, now: datetime) -> Kept:
        """Store what a look brought. Raises SQLAlchemyError; nothing is stored then."""
        if not (looked.hits or looked.late_hits or looked.cursors or looked.learnt):
            with engine.connect() as connection:
                kept = self._next(connection, looked, now, for_update=False)
            if not (kept.findings or kept.changed_alarms):
                return kept
        # Before this commit the look never happened and the next one reads the same records; after it, cursors,
        # findings and alarms agree.
        with write_transaction(engine) as connection:
            kept = self._next(connection, looked, now, for_update=True)
            save_cursors(connection, looked.cursors)
            insert_known_keys(connection, looked.learnt, now=now)
            save_findings(connection, kept.findings)
            prune_findings(connection, closed_before=now - self._kept)
            _save_alarms(connection, kept)
        return kept

    def _next(
        self, connection: Connection, looked: Looked, now: datetime, *, for_update: bool
    ) -> Kept:
        findings = OpenFindings(list_open_findings(connection, for_update=for_update))
        for hit in (*looked.hits, *_unknown(connection, looked.late_hits)):
            findings.add(hit, now=now)
        findings.close_ended(self._lifetimes, now=now)
        changed = findings.take_changed()
        closed = {finding.rule: finding.closed_why or "" for finding in changed}
        return _with_alarms(
            Kept((), changed),
            connection,
            findings.open(),
            watched=self._watched,
            is_current=looked.is_current,
            now=now,
            why_clear=closed,
        )


def acknowledge(
    engine: Engine,
    rule: Rule,
    key: str | None,
    *,
    watched: frozenset[Rule],
    why: str,
    now: datetime,
) -> Sequence[Finding]:
    """Close the open findings of a rule, or the one of a key, and clear its alarm if none is left; gives the closed.

    watched: the rules that are not switched off. why: who says so, and why. Raises NotReadyError if there is none.
    """
    with write_transaction(engine) as connection:
        opened = list_open_findings(connection, for_update=True)
        closed = [
            replace(finding, closed_at=now, closed_why=why)
            for finding in opened
            if finding.rule is rule and key in (None, finding.key)
        ]
        if not closed:
            which = rule.value if key is None else f"{rule.value} on {key}"
            raise NotReadyError(f"no finding of {which} is open: see `monitor status`")
        save_findings(connection, closed)
        closed_ids = {finding.id for finding in closed}
        remaining = [finding for finding in opened if finding.id not in closed_ids]
        kept = _with_alarms(
            Kept((), closed),
            connection,
            remaining,
            watched=watched,
            is_current=False,
            now=now,
            why_clear={rule: why},
        )
        _save_alarms(connection, kept)
    return closed


def _unknown(connection: Connection, hits: Sequence[Hit]) -> list[Hit]:
    """Those that no finding tells of yet: a process before this one may have come as far."""
    found = []
    for hit in hits:
        known_until = find_newest_until(connection, hit.rule, hit.key)
        if known_until is None or known_until < moment(hit.until_seconds):
            found.append(hit)
    return found


def _with_alarms(
    kept: Kept,
    connection: Connection,
    findings: Sequence[Finding],
    *,
    watched: frozenset[Rule],
    is_current: bool,
    now: datetime,
    why_clear: dict[Rule, str],
) -> Kept:
    stored = {
        alarm.name: alarm for alarm in list_alarms(connection) if alarm.model_name == ABOUT_LEDGER
    }
    alarms: list[Alarm] = []
    changed: list[Alarm] = []
    transitions: list[AlarmTransition] = []
    for rule in Rule:
        last = stored.get(rule.value)
        if rule in watched:
            of_rule = [finding for finding in findings if finding.rule is rule]
            alarm, transition = rule_alarm(
                rule,
                of_rule,
                last,
                is_current=is_current,
                now=now,
                why_clear=why_clear.get(rule, ""),
            )
            alarms.append(alarm)
        elif last is not None and last.state is not AlarmState.UNKNOWN:
            alarm, transition = switched_off(last, now=now)
        else:
            continue
        if alarm != last:
            changed.append(alarm)
        if transition is not None:
            transitions.append(transition)
    return replace(kept, alarms=alarms, changed_alarms=changed, transitions=transitions)


def _save_alarms(connection: Connection, kept: Kept) -> None:
    for alarm in kept.changed_alarms:
        save_alarm(connection, alarm)
    for transition in kept.transitions:
        insert_transition(connection, transition)
