"""Rows of alarms, changes, silences and deliveries to records.

Rules: a row that holds none of ours raises ValueError, TypeError, OverflowError or RecursionError, whose words nobody
shows; it hides no other row.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select

from gateway.store.rows import fetch_rows
from monitor.records import Alarm, AlarmState, AlarmTransition, Delivery, Harm, Silence
from monitor.texts import shown

OnBadRow = Callable[[object], None]
Record = TypeVar("Record")


def ignore(_row: object) -> None:
    """For callers who tell nobody."""


def read_rows(
    connection: Connection,
    query: Select[Any],
    read: Callable[[Row[Any]], Record],
    *,
    on_bad_row: OnBadRow = ignore,
) -> list[Record]:
    """What the rows of a query over one table hold. on_bad_row: called with what stands for each that is unreadable."""
    found: list[Record] = []
    for row in fetch_rows(connection, query, on_bad_row=on_bad_row):
        try:
            found.append(read(row))
        except (ValueError, TypeError, OverflowError, RecursionError):
            on_bad_row(_name(row))
    return found


def _name(row: Row[Any]) -> object:
    number = getattr(row, "id", None)
    return shown(f"{row.model_name}, {row.name}, {row.slice}") if number is None else number


def read_alarm(row: Row[Any]) -> Alarm:
    """One alarm."""
    return Alarm(
        model_name=_text(row.model_name),
        name=_text(row.name),
        slice=_text(row.slice),
        state=AlarmState(row.state),
        since=_time(row.since),
        model_version=_text(row.model_version),
        newest_request_id=row.newest_request_id,
        features=_names(row.features),
        diagnosis=_text(row.diagnosis),
        harm=Harm(row.harm),
        details=_details(row.details),
        armed_samples=_count(row.armed_samples),
        quiet_samples=_count(row.quiet_samples),
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        acknowledged_why=row.acknowledged_why,
    )


def read_transition(row: Row[Any]) -> AlarmTransition:
    """One change of an alarm."""
    return AlarmTransition(
        model_name=_text(row.model_name),
        name=_text(row.name),
        slice=_text(row.slice),
        at=_time(row.at),
        before=AlarmState(row.state_before),
        after=AlarmState(row.state_after),
        model_version=_text(row.model_version),
        features=_names(row.features),
        diagnosis=_text(row.diagnosis),
        harm=Harm(row.harm),
        details=_details(row.details),
    )


def read_silence(row: Row[Any]) -> Silence:
    """One silence."""
    return Silence(
        model_name=row.model_name,
        name=row.name,
        slice=row.slice,
        created_at=_time(row.created_at),
        created_by=row.created_by,
        why=row.why,
        ends_at=_time(row.ends_at),
        id=row.id,
    )


def read_delivery(row: Row[Any]) -> Delivery:
    """What became of one change at one webhook."""
    return Delivery(
        transition_id=row.transition_id,
        target=row.target,
        attempts=_count(row.attempts),
        next_at=row.next_at,
        delivered_at=row.delivered_at,
        last_error=row.last_error,
        id=row.id,
    )


def _names(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("not a list of names")
    return tuple(names)


def _details(text: str) -> dict[str, Any]:
    details = json.loads(text)
    if not isinstance(details, dict):
        raise ValueError("not an object")  # noqa: TRY004  (one family for whatever is wrong with a row)
    # NaN and infinity are no JSON: neither a webhook nor this table takes them.
    json.dumps(details, allow_nan=False)
    return details


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004  (the same)
    return value


def _time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise ValueError("not a time")  # noqa: TRY004  (the same)
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a count")
    return value
