"""All SQL over alarms, their history, silences and what is delivered of them: rows in and out as records.

Rules: the caller owns the transaction; nothing here commits. A row that cannot be read hides no other: it is passed by
and told to the caller.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, update

from monitor.records import Alarm, AlarmState, AlarmTransition, Delivery, Silence
from monitor.tables import alarm_deliveries, alarm_silences, alarm_transitions, alarms
from monitor.tables.alarm_rows import (
    OnBadRow,
    ignore,
    read_alarm,
    read_delivery,
    read_rows,
    read_silence,
    read_transition,
)

_INACTIVE = tuple(state.value for state in AlarmState if not state.is_active)
_ACTIVE = tuple(state.value for state in AlarmState if state.is_active)


def find_alarm(
    connection: Connection,
    model_name: str,
    name: str,
    *,
    slice: str = "",  # noqa: A002  (the column's name)
    for_update: bool = False,
) -> Alarm | None:
    """The stored state of one alarm, if it was ever judged and can be read.

    for_update: hold the row until the transaction ends (SQLite holds the whole database already).
    """
    query = select(alarms).where(*_is_alarm(alarms, model_name, name, slice))
    if for_update:
        query = query.with_for_update()
    return next(iter(read_rows(connection, query, read_alarm)), None)


def list_alarms(
    connection: Connection, *, model_name: str | None = None, on_bad_row: OnBadRow = ignore
) -> list[Alarm]:
    """Every alarm of every model, or of one, by model, name and slice.

    on_bad_row: called with what stands for each row that cannot be read.
    """
    query = select(alarms).order_by(alarms.c.model_name, alarms.c.name, alarms.c.slice)
    if model_name is not None:
        query = query.where(alarms.c.model_name == model_name)
    return read_rows(connection, query, read_alarm, on_bad_row=on_bad_row)


def save_alarm(connection: Connection, alarm: Alarm) -> None:
    """Store the state of one alarm in place of what was there."""
    values = _alarm_values(alarm)
    key = _is_alarm(alarms, alarm.model_name, alarm.name, alarm.slice)
    if connection.execute(update(alarms).where(*key).values(values)).rowcount == 0:
        connection.execute(insert(alarms).values(values))


def insert_transition(connection: Connection, transition: AlarmTransition) -> int:
    """Add one line to the history of an alarm, and give its id."""
    result = connection.execute(
        insert(alarm_transitions).values(
            model_name=transition.model_name,
            name=transition.name,
            at=transition.at,
            state_before=transition.before.value,
            state_after=transition.after.value,
            model_version=transition.model_version,
            features=_dump_names(transition.features),
            diagnosis=transition.diagnosis,
            slice=transition.slice,
            harm=transition.harm.value,
            details=_dump_details(transition.details),
        )
    )
    return _new_id(result.inserted_primary_key, "a transition")


def list_transitions(
    connection: Connection,
    model_name: str | None,
    *,
    newest: int,
    name: str | None = None,
    slice: str | None = None,  # noqa: A002
) -> list[AlarmTransition]:
    """The newest changes of a model's alarms, or of some of them, oldest first. None stands for all."""
    table = alarm_transitions
    query = select(table)
    if model_name is not None:
        query = query.where(table.c.model_name == model_name)
    if name is not None:
        query = query.where(table.c.name == name)
    if slice is not None:
        query = query.where(table.c.slice == slice)
    query = query.order_by(table.c.id.desc()).limit(newest)
    return read_rows(connection, query, read_transition)[::-1]


def list_transitions_after(
    connection: Connection, after_id: int, *, limit: int
) -> list[tuple[int, AlarmTransition | None]]:
    """Changes of all alarms behind an id, with their ids, in the order in which they were stored; at most limit.

    None for one that cannot be read.
    """
    table = alarm_transitions
    query = select(table).where(table.c.id > after_id).order_by(table.c.id).limit(limit)
    found: dict[int, AlarmTransition | None] = {}
    bad_rows: list[object] = []
    found.update(
        read_rows(
            connection,
            query,
            lambda row: (row.id, read_transition(row)),
            on_bad_row=bad_rows.append,
        )
    )
    found.update((row, None) for row in bad_rows if isinstance(row, int))
    return sorted(found.items(), key=itemgetter(0))


def find_transition(connection: Connection, transition_id: int) -> AlarmTransition | None:
    """One change by its id, if it is there and can be read."""
    table = alarm_transitions
    query = select(table).where(table.c.id == transition_id)
    return next(iter(read_rows(connection, query, read_transition)), None)


def find_last_transition_id(connection: Connection) -> int:
    """The id of the newest change of any alarm; 0 if there is none."""
    return int(connection.execute(select(func.max(alarm_transitions.c.id))).scalar() or 0)


def find_entry_id(
    connection: Connection, transition: AlarmTransition, *, before_id: int
) -> int | None:
    """The id of the change by which the same alarm last began to ring, of those before an id."""
    table = alarm_transitions
    query = select(func.max(table.c.id)).where(
        *_is_alarm(table, transition.model_name, transition.name, transition.slice),
        table.c.id < before_id,
        table.c.state_before.in_(_INACTIVE),
        table.c.state_after.in_(_ACTIVE),
    )
    return connection.execute(query).scalar_one_or_none()


def list_ring_ids(
    connection: Connection,
    transition: AlarmTransition,
    *,
    after_id: int,
    before_id: int | None = None,
) -> list[int]:
    """The ids of the changes by which the same alarm rang, for the first time or anew, between two; in order."""
    table = alarm_transitions
    query = select(table.c.id).where(
        *_is_alarm(table, transition.model_name, transition.name, transition.slice),
        table.c.id > after_id,
        table.c.state_after == AlarmState.FIRING.value,
    )
    if before_id is not None:
        query = query.where(table.c.id < before_id)
    return list(connection.execute(query.order_by(table.c.id)).scalars())


def insert_silence(connection: Connection, silence: Silence) -> int:
    """Store a silence and give its id."""
    result = connection.execute(
        insert(alarm_silences).values(
            model_name=silence.model_name,
            name=silence.name,
            slice=silence.slice,
            created_at=silence.created_at,
            created_by=silence.created_by,
            why=silence.why,
            ends_at=silence.ends_at,
        )
    )
    return _new_id(result.inserted_primary_key, "a silence")


def list_silences(
    connection: Connection, *, now: datetime, on_bad_row: OnBadRow = ignore
) -> list[Silence]:
    """Those that have not ended, oldest first; what cannot be read silences nothing. on_bad_row: as for list_alarms."""
    table = alarm_silences
    query = select(table).where(table.c.ends_at > now).order_by(table.c.id)
    return read_rows(connection, query, read_silence, on_bad_row=on_bad_row)


def end_silence(connection: Connection, silence_id: int, *, now: datetime) -> bool:
    """Let a silence end now; whether there was such a one that had not ended."""
    table = alarm_silences
    ended = update(table).where(table.c.id == silence_id, table.c.ends_at > now)
    return connection.execute(ended.values(ends_at=now)).rowcount == 1


def insert_delivery(connection: Connection, delivery: Delivery) -> None:
    """Have one change of an alarm told to one webhook, or keep that it is not."""
    connection.execute(
        insert(alarm_deliveries).values(
            transition_id=delivery.transition_id,
            target=delivery.target,
            attempts=delivery.attempts,
            next_at=delivery.next_at,
            delivered_at=delivery.delivered_at,
            last_error=delivery.last_error,
        )
    )


def find_delivery(connection: Connection, transition_id: int, target: str) -> Delivery | None:
    """What became of one change at one webhook, if it can be read."""
    table = alarm_deliveries
    query = select(table).where(table.c.transition_id == transition_id, table.c.target == target)
    return next(iter(read_rows(connection, query, read_delivery)), None)


def list_open_deliveries(
    connection: Connection, target: str, *, on_bad_row: OnBadRow = ignore
) -> list[Delivery]:
    """What is still to be told to one webhook, in the order of the changes. on_bad_row: as for list_alarms."""
    table = alarm_deliveries
    query = select(table).where(table.c.target == target, table.c.next_at.is_not(None))
    query = query.order_by(table.c.transition_id)
    return read_rows(connection, query, read_delivery, on_bad_row=on_bad_row)


def find_delivery_span(connection: Connection, target: str) -> tuple[int, int] | None:
    """The smallest and the largest transition id that one webhook has a row of; None if it has none."""
    table = alarm_deliveries
    query = select(func.min(table.c.transition_id), func.max(table.c.transition_id))
    first, last = connection.execute(query.where(table.c.target == target)).one()
    return None if first is None else (int(first), int(last))


def list_delivered_ids(connection: Connection, target: str, *, after_id: int) -> set[int]:
    """The ids of changes behind one that a webhook has a row of."""
    table = alarm_deliveries
    query = select(table.c.transition_id).where(
        table.c.target == target, table.c.transition_id > after_id
    )
    return set(connection.execute(query).scalars())


def save_delivery(connection: Connection, delivery: Delivery, *, attempts_before: int) -> bool:
    """Store how a delivery stands; False, and nothing stored, if another process tried it meanwhile."""
    table = alarm_deliveries
    same = update(table).where(table.c.id == delivery.id, table.c.attempts == attempts_before)
    changed = connection.execute(
        same.values(
            attempts=delivery.attempts,
            next_at=delivery.next_at,
            delivered_at=delivery.delivered_at,
            last_error=delivery.last_error,
        )
    )
    return changed.rowcount == 1


def prune_deliveries(connection: Connection, target: str, *, before_id: int) -> int:
    """Forget what is settled of changes before an id; gives how many rows went."""
    table = alarm_deliveries
    old = delete(table).where(
        table.c.target == target, table.c.transition_id < before_id, table.c.next_at.is_(None)
    )
    return connection.execute(old).rowcount


def _is_alarm(table: Table, model_name: str, name: str, slice_text: str) -> tuple[Any, ...]:
    return (
        table.c.model_name == model_name,
        table.c.name == name,
        table.c.slice == slice_text,
    )


def _new_id(key: Row[Any] | None, what: str) -> int:
    if key is None:
        raise RuntimeError(f"internal: the database gave no id for {what}")
    return int(key[0])


def _dump_names(names: Iterable[str]) -> str:
    return json.dumps(list(names), ensure_ascii=False)


def _dump_details(details: Mapping[str, Any]) -> str:
    # NaN is no JSON: whoever reads the table or a webhook could not parse it.
    return json.dumps(dict(details), ensure_ascii=False, allow_nan=False)


def _alarm_values(alarm: Alarm) -> dict[str, object]:
    return {
        "model_name": alarm.model_name,
        "name": alarm.name,
        "slice": alarm.slice,
        "state": alarm.state.value,
        "since": alarm.since,
        "model_version": alarm.model_version,
        "newest_request_id": alarm.newest_request_id,
        "features": _dump_names(alarm.features),
        "diagnosis": alarm.diagnosis,
        "harm": alarm.harm.value,
        "details": _dump_details(alarm.details),
        "armed_samples": alarm.armed_samples,
        "quiet_samples": alarm.quiet_samples,
        "acknowledged_at": alarm.acknowledged_at,
        "acknowledged_by": alarm.acknowledged_by,
        "acknowledged_why": alarm.acknowledged_why,
    }
