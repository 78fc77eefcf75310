"""What `monitor status` says of the ledgers: the alarms, the open findings with where to look, how far was read."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from gateway.store.queries.audit_feed import find_end
from monitor.records import (
    ABOUT_LEDGER,
    LEDGER_ALARM,
    Alarm,
    AlarmState,
    Finding,
    Place,
    Rule,
)
from monitor.tables.alarm_queries import list_alarms
from monitor.tables.security_queries import list_cursors, list_open_findings

MAX_SHOWN = 20
# Whose keys are issuer and subject, with "|" between them.
_BY_PRINCIPAL = frozenset(
    {
        Rule.SUBJECT_FAILURES,
        Rule.OPERATOR_REFUSED,
        Rule.OPERATOR_OFF_HOURS,
        Rule.SAMPLES_VIEWED,
        Rule.AUDIT_READ,
        Rule.AUDIT_EXPORTED,
        Rule.PREDICTIONS_MANY,
    }
)
# Their records carry no usable time.
_UNTIMED = frozenset({Rule.RECORD_UNREADABLE, Rule.CLOCK_JUMPED})


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """Alarms about the ledgers, open findings, and by ledger how many records are still unread."""

    alarms: Sequence[Alarm]
    findings: Sequence[Finding]
    unread: dict[str, int]


def read_ledger_status(engine: Engine) -> LedgerStatus:
    """What is stored now. Raises SQLAlchemyError."""
    with engine.connect() as connection:
        alarms = [a for a in list_alarms(connection) if a.model_name == ABOUT_LEDGER]
        unread = {}
        for cursor in list_cursors(connection).values():
            end = find_end(connection, cursor.origin)
            unread[cursor.origin] = max(0, end - cursor.next_position)
        return LedgerStatus(alarms, list_open_findings(connection), unread)


def describe_ledgers(status: LedgerStatus) -> dict[str, Any]:
    """The status as JSON values."""
    return {
        "unread_records": status.unread,
        "alarms": [
            {
                "name": alarm.name,
                "state": alarm.state.value,
                "since": alarm.since.isoformat(),
                "diagnosis": alarm.diagnosis,
            }
            for alarm in status.alarms
        ],
        "findings": [_described(finding) for finding in status.findings],
    }


def ledger_lines(status: LedgerStatus) -> list[str]:
    """The status as text for people; nothing where the ledgers were never looked at."""
    if not status.alarms:
        return []
    raised = [alarm for alarm in status.alarms if alarm.state is AlarmState.FIRING]
    unknown = sum(alarm.state is AlarmState.UNKNOWN for alarm in status.alarms)
    unsure = f", {unknown} unknown" if unknown else ""
    lines = ["ledgers", f"  {len(raised)} of {len(status.alarms)} alarms raised{unsure}"]
    lines += [f"  {count} records of {origin} are unread" for origin, count in _lagging(status)]
    for alarm in raised:
        lines.append(f"  {alarm.name} firing since {_time(alarm.since)} UTC: {alarm.diagnosis}")
        of_rule = [finding for finding in status.findings if finding.rule == alarm.name]
        for finding in of_rule[:MAX_SHOWN]:
            lines += _lines(finding)
        if len(of_rule) > MAX_SHOWN:
            lines.append(f"    {len(of_rule) - MAX_SHOWN} more: see `monitor status --json`")
        if alarm.name == LEDGER_ALARM:
            lines.append("    what it is, and how to acknowledge it: monitor witness --help")
        elif of_rule:
            lines.append(f"    once it is understood: monitor acknowledge {alarm.name}")
    return lines


def evidence_command(finding: Finding) -> str:
    """The command that shows the records of a finding, as a shell takes it."""
    if finding.rule is Rule.RECORD_UNREADABLE:
        return "gateway audit verify"
    words = ["gateway", "audit", "query", *_who(finding)]
    origins = {place.origin for place in finding.evidence}
    if len(origins) == 1:
        words += ["--origin", *origins]
    if finding.rule not in _UNTIMED:
        # Before this second's end: the command leaves the end of its span out.
        until = finding.until.replace(microsecond=0) + timedelta(seconds=1)
        words += ["--since", _stamp(finding.since), "--until", _stamp(until)]
    return shlex.join([*words, "--oldest-first", "--limit", "1000"])


def _who(finding: Finding) -> list[str]:
    if _is_about_address(finding):
        return ["--address", finding.key]
    if finding.rule is Rule.TOKEN_SHARED:
        # Issuer and token id; a token id may hold the separator, an issuer's address does not.
        return ["--token", finding.key.partition("|")[2]]
    if finding.rule in _BY_PRINCIPAL and "|" in finding.key:
        issuer, _, subject = finding.key.partition("|")
        return ["--issuer", issuer, "--subject", subject]
    return []


def _is_about_address(finding: Finding) -> bool:
    """Whether its key is one address; the command takes no network."""
    if finding.key.endswith(("/64", "*")):
        return False
    if finding.rule is Rule.OPERATOR_REFUSED:
        # Before anybody is known it counts by address, and without one by ledger.
        return "|" not in finding.key and finding.key not in {p.origin for p in finding.evidence}
    return finding.rule is Rule.ADDRESS_FAILURES


def _described(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule.value,
        "severity": finding.severity.value,
        "key": finding.key,
        "count": finding.count,
        "words": finding.words,
        "since": finding.since.isoformat(),
        "until": finding.until.isoformat(),
        "opened_at": finding.opened_at.isoformat(),
        "seen_at": finding.seen_at.isoformat(),
        "evidence": [{"origin": p.origin, "position": p.position} for p in finding.evidence],
        "command": evidence_command(finding),
    }


def _lines(finding: Finding) -> list[str]:
    when = f"{_time(finding.since)} to {_time(finding.until)} UTC"
    return [
        f"    {finding.key}: {finding.words}",
        f"      {when}, at {', '.join(map(_place, finding.evidence))}",
        f"      {evidence_command(finding)}",
    ]


def _lagging(status: LedgerStatus) -> list[tuple[str, int]]:
    return [(origin, count) for origin, count in sorted(status.unread.items()) if count]


def _place(place: Place) -> str:
    return f"{place.origin}/{place.position}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")
