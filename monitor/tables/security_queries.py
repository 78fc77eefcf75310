"""All SQL over what the rules on suspicious behaviour keep: cursors, findings, known issuers and keys.

Rules: the caller owns the transaction; nothing here commits.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from monitor.records import Cursor, Finding, Place, Rule, Severity
from monitor.tables import security_cursors, security_findings, security_known_keys


def list_cursors(connection: Connection) -> dict[str, Cursor]:
    """Every cursor, by the ledger's name."""
    rows = connection.execute(select(security_cursors))
    return {row.origin: Cursor(row.origin, row.next_position, row.learn_until) for row in rows}


def save_cursors(connection: Connection, cursors: Iterable[Cursor]) -> None:
    """Store cursors in place of what was there."""
    table = security_cursors
    for cursor in cursors:
        values = {"next_position": cursor.next_position, "learn_until": cursor.learn_until}
        key = table.c.origin == cursor.origin
        if connection.execute(update(table).where(key).values(values)).rowcount == 0:
            connection.execute(insert(table).values(origin=cursor.origin, **values))


def list_known_keys(connection: Connection) -> list[tuple[str, str]]:
    """Every known issuer and key."""
    table = security_known_keys
    rows = connection.execute(select(table.c.issuer, table.c.key_id))
    return [(issuer, key_id) for issuer, key_id in rows]


def insert_known_keys(
    connection: Connection, known: Sequence[tuple[str, str]], *, now: datetime
) -> None:
    """Add issuers and keys. Raises IntegrityError if one is there already."""
    if known:
        rows = [{"issuer": i, "key_id": k, "first_seen_at": now} for i, k in known]
        connection.execute(insert(security_known_keys), rows)


def list_open_findings(connection: Connection, *, for_update: bool = False) -> list[Finding]:
    """The findings that are open, by rule, the oldest first.

    for_update: hold the rows until the transaction ends (SQLite holds the whole database already).
    """
    table = security_findings
    query = select(table).where(table.c.closed_at.is_(None)).order_by(table.c.rule, table.c.id)
    return [_finding(row) for row in connection.execute(_held(query) if for_update else query)]


def find_newest_until(connection: Connection, rule: Rule, key: str) -> datetime | None:
    """The time of the newest record in any finding of a rule on a key, open or closed."""
    table = security_findings
    query = (
        select(table.c.until)
        .where(table.c.rule == rule.value, table.c.key == key)
        .order_by(table.c.until.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def save_findings(connection: Connection, findings: Iterable[Finding]) -> None:
    """Store findings, new ones and changed ones."""
    for finding in findings:
        values = _values(finding)
        if finding.id is None:
            connection.execute(insert(security_findings).values(values))
        else:
            key = security_findings.c.id == finding.id
            connection.execute(update(security_findings).where(key).values(values))


def prune_findings(connection: Connection, *, closed_before: datetime) -> int:
    """Forget findings that were closed before a time; gives how many went."""
    table = security_findings
    return connection.execute(delete(table).where(table.c.closed_at < closed_before)).rowcount


def _held(query: Any) -> Any:
    return query.with_for_update()


def _values(finding: Finding) -> Mapping[str, object]:
    return {
        "rule": finding.rule.value,
        "key": finding.key,
        "severity": finding.severity.value,
        "opened_at": finding.opened_at,
        "seen_at": finding.seen_at,
        "since": finding.since,
        "until": finding.until,
        "record_count": finding.count,
        "words": finding.words,
        "evidence": json.dumps([[place.origin, place.position] for place in finding.evidence]),
        "closed_at": finding.closed_at,
        "closed_why": finding.closed_why,
    }


def _finding(row: Row[Any]) -> Finding:
    return Finding(
        id=row.id,
        rule=Rule(row.rule),
        key=row.key,
        severity=Severity(row.severity),
        opened_at=row.opened_at,
        seen_at=row.seen_at,
        since=row.since,
        until=row.until,
        count=row.record_count,
        words=row.words,
        evidence=tuple(Place(origin, position) for origin, position in json.loads(row.evidence)),
        closed_at=row.closed_at,
        closed_why=row.closed_why,
    )
