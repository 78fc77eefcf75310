"""The monitor's own rows come back as they were stored, from both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from monitor.records import (
    Alarm,
    AlarmState,
    AlarmTransition,
    Report,
)
from monitor.tables.queries import (
    find_alarm,
    find_last_report,
    find_reference_id,
    insert_reference,
    insert_report,
    insert_transition,
    list_alarms,
    list_transitions,
    read_reference_row,
    save_alarm,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
ALARM = Alarm(
    model_name="conveyor",
    name="drift",
    state=AlarmState.FIRING,
    since=NOW,
    model_version="1",
    above_ticks=2,
    newest_request_id="r1",
    features=("noise", "größe"),
    diagnosis="images are noisier than the reference",
)
REPORT = Report(
    created_at=NOW,
    model_name="conveyor",
    model_version="1",
    reference_id=3,
    window_count=100,
    drifted_features=2,
    html_file="a.html",
    json_file="a.json",
)


def test_an_alarm_is_stored_in_place(engine: Engine) -> None:
    """One row an alarm, however often it is saved."""
    cleared = replace(ALARM, state=AlarmState.CLEAR, above_ticks=0, below_ticks=3, features=())
    with engine.begin() as connection:
        assert find_alarm(connection, "conveyor", "drift") is None
        save_alarm(connection, ALARM)
        assert find_alarm(connection, "conveyor", "drift", for_update=True) == ALARM
        save_alarm(connection, cleared)
        save_alarm(connection, replace(ALARM, model_name="another"))
        assert list_alarms(connection) == [replace(ALARM, model_name="another"), cleared]


def test_transitions_are_kept_in_order(engine: Engine) -> None:
    """The newest of one model, oldest first."""
    transitions = [
        AlarmTransition(
            model_name="conveyor",
            name="drift",
            at=NOW + timedelta(minutes=minute),
            before=AlarmState.UNKNOWN,
            after=AlarmState.FIRING,
            model_version="1",
            features=("noise",),
            diagnosis="noisier",
        )
        for minute in range(3)
    ]
    with engine.begin() as connection:
        for transition in [*transitions, replace(transitions[0], model_name="another")]:
            insert_transition(connection, transition)
        assert list_transitions(connection, "conveyor", newest=2) == transitions[1:]


def test_the_newest_reference_of_a_version_is_found(engine: Engine) -> None:
    """Older ones and other versions stay behind."""
    with engine.begin() as connection:
        assert find_reference_id(connection, "conveyor", "1") is None
        ids = [
            insert_reference(
                connection,
                model_name="conveyor",
                model_version=version,
                created_at=NOW,
                source="images/train",
                covers_until=covers_until,
                sample_count=100,
                content="{}",
            )
            for version, covers_until in (("1", None), ("1", NOW), ("2", None))
        ]
        found = find_reference_id(connection, "conveyor", "1")
        assert found == ids[1]
        row = read_reference_row(connection, ids[1])
    assert (row.source, row.covers_until, row.sample_count) == ("images/train", NOW, 100)


def test_the_last_report_is_found(engine: Engine) -> None:
    """By model."""
    later = replace(REPORT, created_at=NOW + timedelta(hours=1), html_file="b.html")
    with engine.begin() as connection:
        assert find_last_report(connection, "conveyor") is None
        for report in (REPORT, later, replace(REPORT, model_name="another")):
            insert_report(connection, report)
        assert find_last_report(connection, "conveyor") == later
