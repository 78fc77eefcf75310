"""Cursors, evidence and scores come back as they were stored, from both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Engine, text

from monitor.records import DriftCursor, DriftResult, DriftState, FeatureScore, MonitorError
from monitor.tables.drift_queries import (
    find_cursor,
    forget_states,
    insert_drift_results,
    list_drift_results,
    list_states,
    prune_drift_results,
    save_cursor,
    save_states,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
CURSOR = DriftCursor(
    model_name="conveyor",
    model_version="1",
    reference_id=3,
    last_sample_id=2**40,
    judged_samples=2**40,
    passed_samples=7,
    memory={"window": [1, 2], "sources": {"größe": 1.5}},
    updated_at=NOW,
)
STATE = DriftState(
    model_name="conveyor",
    model_version="1",
    slice="source=camera-3",
    judged_samples=5,
    evidence=b"\x00\xff evidence",
    memory={"before": ["r1"]},
    updated_at=NOW,
)
RESULT = DriftResult(
    ticked_at=NOW,
    model_name="conveyor",
    model_version="1",
    reference_id=1,
    window_count=100,
    score=FeatureScore("noise", 0.1 + 0.2, 1 / 3, effect=-0.7, evidence=1.5),
    window_newest_at=NOW - timedelta(seconds=5),
)


def test_a_cursor_is_stored_in_place(engine: Engine) -> None:
    """One row a model version."""
    moved = replace(CURSOR, last_sample_id=2**41, memory={})
    with engine.begin() as connection:
        assert find_cursor(connection, "conveyor", "1") is None
        save_cursor(connection, CURSOR)
        save_cursor(connection, replace(CURSOR, model_version="2"))
        assert CURSOR == find_cursor(connection, "conveyor", "1", for_update=True)
        save_cursor(connection, moved)
        assert moved == find_cursor(connection, "conveyor", "1")


def test_the_evidence_of_a_slice_is_stored_in_place(engine: Engine) -> None:
    """What another reference left is forgotten as a whole; other versions keep theirs."""
    of_all = replace(STATE, slice="", evidence=b"")
    other = replace(STATE, model_version="2")
    more = replace(STATE, evidence=b"more", judged_samples=6)
    with engine.begin() as connection:
        save_states(connection, [STATE, of_all, other])
        assert [of_all, STATE] == list_states(connection, "conveyor", "1")
        save_states(connection, [more])
        assert [of_all, more] == list_states(connection, "conveyor", "1")
        forget_states(connection, "conveyor", "1")
        assert [] == list_states(connection, "conveyor", "1")
        assert [other] == list_states(connection, "conveyor", "2")


@pytest.mark.parametrize("broken", ["{", "[]", "[" * 100_000])
def test_a_memory_that_cannot_be_read_is_named(engine: Engine, broken: str) -> None:
    """It is the model's own trouble, and the others go on."""
    with engine.begin() as connection:
        save_cursor(connection, CURSOR)
        save_states(connection, [STATE])
        for table in ("drift_cursors", "drift_states"):
            connection.execute(text(f"UPDATE {table} SET memory = :broken"), {"broken": broken})
        with pytest.raises(MonitorError, match="conveyor 1 cannot be read"):
            find_cursor(connection, "conveyor", "1")
        assert [replace(STATE, memory={})] == list_states(connection, "conveyor", "1")


@pytest.mark.parametrize(
    "change", ["evidence = 'text'", "evidence = 3000000000", "judged_samples = 'x'"]
)
def test_evidence_of_another_type_is_none(sqlite_engine: Engine, change: str) -> None:
    """A number would become as many bytes; the reader begins anew, as it finds no bets."""
    with sqlite_engine.begin() as connection:
        save_states(connection, [STATE])
        connection.execute(text(f"UPDATE drift_states SET {change}"))
        (state,) = list_states(connection, "conveyor", "1")
    assert (0, b"", {}) == (state.judged_samples, state.evidence, dict(state.memory))


def test_what_sqlite_cannot_fetch_is_of_its_model_alone(sqlite_engine: Engine) -> None:
    """A text that is no UTF-8, a time that is none; what stands there is in no message."""
    with sqlite_engine.begin() as connection:
        save_cursor(connection, CURSOR)
        save_cursor(connection, replace(CURSOR, model_version="2"))
        save_states(connection, [STATE, replace(STATE, slice="")])
        of_first = "WHERE model_version = '1'"
        connection.execute(text(f"UPDATE drift_cursors SET updated_at = 's3cret' {of_first}"))
        undecodable = "memory = CAST(x'733363726574ff' AS TEXT)"
        connection.execute(text(f"UPDATE drift_states SET {undecodable} WHERE slice = ''"))
        with pytest.raises(MonitorError, match="conveyor 1 cannot be read") as caught:
            find_cursor(connection, "conveyor", "1")
        assert "s3cret" not in str(caught.value)
        assert find_cursor(connection, "conveyor", "2") is not None
        assert [STATE] == list_states(connection, "conveyor", "1")


def test_results_come_back_by_time_and_are_pruned_by_age(engine: Engine) -> None:
    """Scores are the same doubles; times are UTC whatever zone they came in."""
    east = timezone(timedelta(hours=9))
    results = [
        replace(RESULT, ticked_at=(NOW + timedelta(hours=hour)).astimezone(east))
        for hour in range(3)
    ]
    with engine.begin() as connection:
        insert_drift_results(connection, [])
        insert_drift_results(connection, results)
        found = list_drift_results(connection, "conveyor", after=NOW)
        assert results[1:] == found
        assert timedelta(0) == found[0].ticked_at.utcoffset()
        assert 2 == prune_drift_results(connection, before=NOW + timedelta(hours=2))
        assert results[2:] == list_drift_results(connection, "conveyor", after=NOW)


def test_scores_of_slices_stand_apart(engine: Engine) -> None:
    """The timeline of all samples is not mixed with that of one camera."""
    of_slice = replace(RESULT, slice="source=camera-3")
    before = NOW - timedelta(hours=1)
    with engine.begin() as connection:
        insert_drift_results(connection, [RESULT, of_slice])
        assert [RESULT] == list_drift_results(connection, "conveyor", after=before)
        found = list_drift_results(
            connection, "conveyor", after=before, slice_text="source=camera-3"
        )
        assert [of_slice] == found


def test_scores_of_before_there_were_effects_are_read(engine: Engine) -> None:
    """Rows that an older monitor wrote."""
    with engine.begin() as connection:
        insert_drift_results(connection, [RESULT])
        connection.execute(
            text("UPDATE drift_results SET effect = NULL, evidence = NULL, window_newest_at = NULL")
        )
        (found,) = list_drift_results(connection, "conveyor", after=NOW - timedelta(hours=1))
    assert (0.0, None, None) == (found.score.effect, found.score.evidence, found.window_newest_at)
