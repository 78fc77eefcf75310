"""All SQL over what drift is judged by between ticks, and over the scores that ticks store: rows as records.

Rules: the caller owns the transaction; nothing here commits; what a cursor or a state remembers is JSON. What cannot be
read is of one model alone: its cursor raises, its evidence begins anew.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, insert, select, update

from gateway.store.rows import fetch_rows
from monitor.records import DriftCursor, DriftResult, DriftState, FeatureScore, MonitorError
from monitor.tables import drift_cursors, drift_results, drift_states

logger = logging.getLogger(__name__)


def find_cursor(
    connection: Connection, model_name: str, model_version: str, *, for_update: bool = False
) -> DriftCursor | None:
    """How far a model version was judged, if it ever was.

    for_update: hold the row until the transaction ends (SQLite holds the whole database already). Raises MonitorError
    if what it remembers cannot be read.
    """
    query = select(drift_cursors).where(*_is_of(drift_cursors, model_name, model_version))
    if for_update:
        query = query.with_for_update()
    bad_rows: list[int] = []
    rows = fetch_rows(connection, query, on_bad_row=bad_rows.append)
    if bad_rows:
        raise MonitorError(
            f"what is remembered of {model_name} {model_version} cannot be read: delete its row in drift_cursors, and "
            "its samples are judged anew"
        )
    return _cursor(rows[0]) if rows else None


def save_cursor(connection: Connection, cursor: DriftCursor) -> None:
    """Store how far a model version was judged in place of what was there."""
    values = {
        "model_name": cursor.model_name,
        "model_version": cursor.model_version,
        "reference_id": cursor.reference_id,
        "last_sample_id": cursor.last_sample_id,
        "judged_samples": cursor.judged_samples,
        "passed_samples": cursor.passed_samples,
        "memory": _dump(cursor.memory),
        "updated_at": cursor.updated_at,
    }
    is_it = _is_of(drift_cursors, cursor.model_name, cursor.model_version)
    if connection.execute(update(drift_cursors).where(*is_it).values(values)).rowcount == 0:
        connection.execute(insert(drift_cursors).values(values))


def list_states(connection: Connection, model_name: str, model_version: str) -> list[DriftState]:
    """The evidence of each slice of a model version, by slice.

    Of what cannot be read nothing is left: evidence that is none, or no state where not even its slice is known.
    """
    table = drift_states
    query = select(table).where(*_is_of(table, model_name, model_version)).order_by(table.c.slice)
    rows = fetch_rows(connection, query, on_bad_row=_begin_anew)
    return [_state(row) for row in rows]


def save_states(connection: Connection, states: Iterable[DriftState]) -> None:
    """Store the evidence of slices, each in place of what was there."""
    for state in states:
        is_it = (
            *_is_of(drift_states, state.model_name, state.model_version),
            drift_states.c.slice == state.slice,
        )
        values = {
            "model_name": state.model_name,
            "model_version": state.model_version,
            "slice": state.slice,
            "judged_samples": state.judged_samples,
            "evidence": state.evidence,
            "memory": _dump(state.memory),
            "updated_at": state.updated_at,
        }
        if connection.execute(update(drift_states).where(*is_it).values(values)).rowcount == 0:
            connection.execute(insert(drift_states).values(values))


def forget_states(connection: Connection, model_name: str, model_version: str) -> None:
    """Remove the evidence of every slice of a model version."""
    connection.execute(delete(drift_states).where(*_is_of(drift_states, model_name, model_version)))


def stored_bytes(cursor: DriftCursor, states: Iterable[DriftState]) -> int:
    """The size of what is stored of these between ticks, names and times left out."""
    memories = len(_dump(cursor.memory))
    return memories + sum(len(state.evidence) + len(_dump(state.memory)) for state in states)


def insert_drift_results(connection: Connection, results: Sequence[DriftResult]) -> None:
    """Store the scores of one tick."""
    if results:
        connection.execute(insert(drift_results), [_result_values(result) for result in results])


def prune_drift_results(connection: Connection, *, before: datetime) -> int:
    """Forget scores older than a time; gives how many rows went."""
    return connection.execute(
        delete(drift_results).where(drift_results.c.ticked_at < before)
    ).rowcount


def list_drift_results(
    connection: Connection, model_name: str, *, after: datetime, slice_text: str = ""
) -> list[DriftResult]:
    """The scores of a model, or of one slice of it, since a time, oldest first."""
    table = drift_results
    query = (
        select(table)
        .where(
            table.c.model_name == model_name,
            table.c.ticked_at > after,
            table.c.slice == slice_text,
        )
        .order_by(table.c.ticked_at, table.c.id)
    )
    # A score that is missing in a drawing is no reason to draw none.
    return [_result(row) for row in fetch_rows(connection, query, on_bad_row=lambda _row: None)]


def _is_of(table: Table, model_name: str, model_version: str) -> tuple[Any, ...]:
    return table.c.model_name == model_name, table.c.model_version == model_version


def _dump(memory: Mapping[str, Any]) -> str:
    # NaN is no JSON, and what is written must be read back.
    return json.dumps(dict(memory), separators=(",", ":"), allow_nan=False)


def _load(memory: str, what: str) -> dict[str, Any]:
    try:
        loaded = json.loads(memory)
    except (ValueError, TypeError, RecursionError) as exc:
        raise MonitorError(
            f"what is remembered of {what} cannot be read: {type(exc).__name__}"
        ) from exc
    if not isinstance(loaded, dict):
        raise MonitorError(f"what is remembered of {what} cannot be read: it is no object")
    return loaded


def _cursor(row: Row[Any]) -> DriftCursor:
    return DriftCursor(
        model_name=row.model_name,
        model_version=row.model_version,
        reference_id=row.reference_id,
        last_sample_id=row.last_sample_id,
        judged_samples=row.judged_samples,
        passed_samples=row.passed_samples,
        memory=_load(row.memory, f"{row.model_name} {row.model_version}"),
        updated_at=row.updated_at,
    )


def _begin_anew(row_id: int) -> None:
    logger.warning("evidence_begins_anew row=%s: it cannot be read", row_id)


def _state(row: Row[Any]) -> DriftState:
    is_evidence = isinstance(row.evidence, bytes | memoryview) and type(row.judged_samples) is int
    try:
        memory = _load(row.memory, "") if is_evidence else {}
    except (MonitorError, TypeError):
        memory = {}
    # A state without memory is of no bets: whoever reads it begins anew.
    return DriftState(
        model_name=row.model_name,
        model_version=row.model_version,
        slice=row.slice,
        judged_samples=row.judged_samples if is_evidence else 0,
        evidence=bytes(row.evidence) if is_evidence else b"",
        memory=memory,
        updated_at=row.updated_at,
    )


def _result_values(result: DriftResult) -> dict[str, object]:
    return {
        "ticked_at": result.ticked_at,
        "model_name": result.model_name,
        "model_version": result.model_version,
        "reference_id": result.reference_id,
        "feature": result.score.feature,
        "score": result.score.score,
        "threshold": result.score.threshold,
        "effect": result.score.effect,
        "evidence": result.score.evidence,
        "window_count": result.window_count,
        "window_newest_at": result.window_newest_at,
        "slice": result.slice,
    }


def _result(row: Row[Any]) -> DriftResult:
    # Rows of before there were effects have none.
    effect = 0.0 if row.effect is None else row.effect
    return DriftResult(
        ticked_at=row.ticked_at,
        model_name=row.model_name,
        model_version=row.model_version,
        reference_id=row.reference_id,
        window_count=row.window_count,
        score=FeatureScore(
            feature=row.feature,
            score=row.score,
            threshold=row.threshold,
            effect=effect,
            evidence=row.evidence,
        ),
        slice=row.slice,
        window_newest_at=row.window_newest_at,
    )
