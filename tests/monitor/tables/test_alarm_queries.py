"""Alarms, their history, silences and deliveries come back as they were stored, from both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from monitor.records import Alarm, AlarmState, AlarmTransition, Delivery, Harm, Silence
from monitor.tables.alarm_queries import (
    end_silence,
    find_alarm,
    find_delivery,
    find_delivery_span,
    find_entry_id,
    find_last_transition_id,
    find_transition,
    insert_delivery,
    insert_silence,
    insert_transition,
    list_alarms,
    list_delivered_ids,
    list_open_deliveries,
    list_silences,
    list_transitions,
    list_transitions_after,
    prune_deliveries,
    save_alarm,
    save_delivery,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
ALARM = Alarm(
    model_name="conveyor",
    name="drift",
    state=AlarmState.ACKNOWLEDGED,
    since=NOW,
    model_version="1",
    slice="source=cam3",
    newest_request_id="r1",
    features=("noise", "größe"),
    diagnosis="images are noisier than the reference",
    harm=Harm.HARMFUL,
    details={"pattern": "noise", "effects": {"noise": 0.5}},
    armed_samples=2**40,
    quiet_samples=7,
    acknowledged_at=NOW,
    acknowledged_by="alice",
    acknowledged_why="known",
)
TRANSITION = AlarmTransition(
    model_name="conveyor",
    name="drift",
    at=NOW,
    before=AlarmState.PENDING,
    after=AlarmState.FIRING,
    model_version="1",
    features=("noise",),
    diagnosis="noisier",
    slice="source=cam3",
    harm=Harm.HARMLESS,
    details={"examples": ["r1"]},
)
SILENCE = Silence("conveyor", None, "", NOW, "alice", "moving", NOW + timedelta(hours=2))


def test_an_alarm_is_stored_in_place(engine: Engine) -> None:
    """One row an alarm and slice, however often it is saved."""
    cleared = Alarm("conveyor", "drift", AlarmState.CLEAR, NOW, "1", slice="source=cam3")
    whole, other = replace(ALARM, slice=""), replace(ALARM, model_name="another")
    with engine.begin() as connection:
        assert find_alarm(connection, "conveyor", "drift", slice="source=cam3") is None
        save_alarm(connection, ALARM)
        found = find_alarm(connection, "conveyor", "drift", slice="source=cam3", for_update=True)
        assert ALARM == found
        assert find_alarm(connection, "conveyor", "drift") is None
        for alarm in (cleared, whole, other):
            save_alarm(connection, alarm)
        assert [other, whole, cleared] == list_alarms(connection)
        assert [whole, cleared] == list_alarms(connection, model_name="conveyor")


def test_details_that_are_no_json_are_refused(engine: Engine) -> None:
    """Whoever reads them could not."""
    with engine.begin() as connection, pytest.raises(ValueError, match="not JSON compliant"):
        save_alarm(connection, replace(ALARM, details={"effect": float("nan")}))


def test_transitions_are_kept_in_order(engine: Engine) -> None:
    """The newest of one model, alarm or slice, oldest first; each has an id."""
    later = [replace(TRANSITION, at=NOW + timedelta(minutes=minute)) for minute in range(3)]
    others = [
        replace(TRANSITION, model_name="another"),
        replace(TRANSITION, name="samples"),
        replace(TRANSITION, slice=""),
    ]
    with engine.begin() as connection:
        assert 0 == find_last_transition_id(connection)
        ids = [insert_transition(connection, each) for each in [*later, *others]]
        assert sorted(set(ids)) == ids
        assert [*later[2:], *others[1:]] == list_transitions(connection, "conveyor", newest=3)
        of_slice = list_transitions(
            connection, "conveyor", newest=2, name="drift", slice="source=cam3"
        )
        assert later[1:] == of_slice
        assert [*later, *others] == list_transitions(connection, None, newest=9)
        assert [(ids[1], later[1]), (ids[2], later[2])] == list_transitions_after(
            connection, ids[0], limit=2
        )
        assert later[1] == find_transition(connection, ids[1])
        assert find_transition(connection, ids[-1] + 1) is None
        assert ids[-1] == find_last_transition_id(connection)


def test_the_change_by_which_an_alarm_began_to_ring_is_found(engine: Engine) -> None:
    """The last one before another, of the same alarm."""
    states = AlarmState
    changes = [
        (states.CLEAR, states.FIRING),
        (states.FIRING, states.RESOLVED),
        (states.RESOLVED, states.PENDING),
        (states.PENDING, states.FIRING),
        (states.FIRING, states.ACKNOWLEDGED),
        (states.ACKNOWLEDGED, states.RESOLVED),
    ]
    with engine.begin() as connection:
        ids = [
            insert_transition(connection, replace(TRANSITION, before=before, after=after))
            for before, after in changes
        ]
        found = [find_entry_id(connection, TRANSITION, before_id=number) for number in ids]
        assert [None, *[ids[0]] * 3, *[ids[3]] * 2] == found
        other = replace(TRANSITION, slice="")
        assert find_entry_id(connection, other, before_id=ids[-1]) is None


def test_silences_go_on_until_they_end(engine: Engine) -> None:
    """By themselves, or because somebody ends them."""
    with engine.begin() as connection:
        number = insert_silence(connection, SILENCE)
        everything = replace(SILENCE, model_name=None, name="drift", slice=None)
        insert_silence(connection, replace(everything, ends_at=NOW + timedelta(hours=1)))
        assert 2 == len(list_silences(connection, now=NOW))
        later = NOW + timedelta(hours=1)
        assert [replace(SILENCE, id=number)] == list_silences(connection, now=later)
        assert end_silence(connection, number, now=later)
        assert [] == list_silences(connection, now=later)
        assert not end_silence(connection, number, now=later)
        assert not end_silence(connection, 999, now=NOW)


def test_deliveries_are_kept_by_change_and_webhook(engine: Engine) -> None:
    """Open until there is no next try."""
    made = [Delivery(number, "a", 0, NOW) for number in (7, 3, 5)]
    settled = Delivery(4, "a", 0, None, last_error="silenced")
    with engine.begin() as connection:
        assert find_delivery_span(connection, "a") is None
        for delivery in [*made, settled, Delivery(9, "b", 0, NOW)]:
            insert_delivery(connection, delivery)
        opened = list_open_deliveries(connection, "a")
        assert [3, 5, 7] == [each.transition_id for each in opened]
        assert (3, 7) == find_delivery_span(connection, "a")
        assert {5, 7} == list_delivered_ids(connection, "a", after_id=4)
        found = find_delivery(connection, 4, "a")
        assert found is not None
        assert replace(found, id=None) == settled
        assert find_delivery(connection, 4, "b") is None


def test_a_delivery_that_another_process_tried_is_not_overwritten(engine: Engine) -> None:
    """The number of tries tells."""
    with engine.begin() as connection:
        insert_delivery(connection, Delivery(1, "a", 0, NOW))
        (first,) = list_open_deliveries(connection, "a")
        tried = replace(first, attempts=1, next_at=None, delivered_at=NOW)
        assert save_delivery(connection, tried, attempts_before=0)
        assert not save_delivery(connection, replace(tried, last_error="x"), attempts_before=0)
        assert tried == find_delivery(connection, 1, "a")


def test_a_change_is_planned_once_for_a_webhook(engine: Engine) -> None:
    """Whoever comes second is told so."""
    with engine.begin() as connection:
        insert_delivery(connection, Delivery(1, "a", 0, NOW))
        with pytest.raises(IntegrityError):
            insert_delivery(connection, Delivery(1, "a", 0, NOW))


def test_settled_deliveries_are_pruned(engine: Engine) -> None:
    """Old ones of that webhook; what still waits stays."""
    with engine.begin() as connection:
        for number, target, next_at in [
            (1, "a", None),
            (2, "a", NOW),
            (3, "a", None),
            (1, "b", None),
        ]:
            insert_delivery(connection, Delivery(number, target, 0, next_at))
        assert 1 == prune_deliveries(connection, "a", before_id=3)
        assert (2, 3) == find_delivery_span(connection, "a")
        assert (1, 1) == find_delivery_span(connection, "b")


BROKEN = (
    "state = 'x'",
    "harm = 'x'",
    "details = '[]'",
    "details = '{'",
    "details = '{\"a\":NaN}'",
    "details = '{\"a\":1e400}'",
    "details = CAST(x'7bff' AS TEXT)",
    "features = '{}'",
    "features = '[1]'",
    "since = 'x'",
    "quiet_samples = 'x'",
    "armed_samples = -1",
)


@pytest.mark.parametrize("change", BROKEN)
def test_an_alarm_that_cannot_be_read_hides_no_other(sqlite_engine: Engine, change: str) -> None:
    """It is told, and none to who asks for it, so that it is judged and stored afresh."""
    bad_rows: list[object] = []
    other = replace(ALARM, model_name="zebra")
    with sqlite_engine.begin() as connection:
        save_alarm(connection, ALARM)
        save_alarm(connection, other)
        of_one = "WHERE model_name = 'conveyor'"
        connection.execute(text(f"UPDATE alarms SET {change} {of_one}".replace(":", r"\:")))
        assert [other] == list_alarms(connection, on_bad_row=bad_rows.append)
        assert 1 == len(bad_rows)
        assert find_alarm(connection, "conveyor", "drift", slice="source=cam3") is None
        save_alarm(connection, ALARM)
        assert [ALARM, other] == list_alarms(connection)


@pytest.mark.parametrize(
    "change", ["state_after = 'x'", "details = '[]'", "at = 'x'", "diagnosis = CAST(x'ff' AS TEXT)"]
)
def test_a_change_that_cannot_be_read_keeps_its_place(sqlite_engine: Engine, change: str) -> None:
    """Whoever goes through them knows that there was one."""
    with sqlite_engine.begin() as connection:
        first, second = (insert_transition(connection, TRANSITION) for _ in range(2))
        connection.execute(text(f"UPDATE alarm_transitions SET {change} WHERE id = {first}"))
        after = list_transitions_after(connection, 0, limit=9)
        assert [(first, None), (second, TRANSITION)] == after
        assert find_transition(connection, first) is None
        assert [TRANSITION] == list_transitions(connection, None, newest=9)


def test_a_silence_that_cannot_be_read_silences_nothing(sqlite_engine: Engine) -> None:
    """It is told, and the others go on."""
    bad_rows: list[object] = []
    made = Silence(None, None, None, NOW, "ops", "", NOW + timedelta(hours=1))
    with sqlite_engine.begin() as connection:
        first, second = (insert_silence(connection, made) for _ in range(2))
        change = f"UPDATE alarm_silences SET ends_at = '9999-x' WHERE id = {first}"
        connection.execute(text(change))
        found = list_silences(connection, now=NOW, on_bad_row=bad_rows.append)
    assert ([replace(made, id=second)], [first]) == (found, bad_rows)
