"""Which new samples are judged: each row once, thinned by camera and chance, in bounded steps."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from gateway.store.queries.models import find_production_version
from gateway.store.records import ModelVersion
from monitor.jobs.intake import (
    LATE_IDS,
    MAX_UNKNOWN_SOURCES,
    Intake,
    Memory,
    dump_memory,
    first_cursor,
    parse_memory,
    read_intake,
    unknown_sources,
)
from monitor.jobs.judging import ReferenceCache
from monitor.jobs.reference import collect_stored, store_reference
from monitor.records import DriftCursor, Passed, Reference
from monitor.settings import MonitorSettings
from monitor.windows.cameras import MAX_CAMERAS, camera_key
from monitor.windows.thinning import Chances

Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]
NOW = datetime(2030, 1, 2, tzinfo=UTC)


class Reading:
    """Takes in what is stored, again and again, as ticks do."""

    def __init__(self, engine: Engine, settings: MonitorSettings) -> None:
        self.engine = engine
        self.settings = settings
        self.model = _production(engine)
        with engine.connect() as connection:
            found = ReferenceCache()(connection, self.model)
        assert found is not None
        self.reference: Reference = found
        self.cursor: DriftCursor | None = None

    def read(self, *, known: frozenset[str] = frozenset()) -> Intake:
        """The next samples."""
        with self.engine.connect() as connection:
            if self.cursor is None:
                self.cursor = first_cursor(connection, self.model, self.reference, now=NOW)
            intake = read_intake(
                connection,
                self.cursor,
                reference=self.reference,
                known_sources=known,
                settings=self.settings,
            )
        self.cursor = intake.cursor
        return intake


@pytest.fixture
def reading(
    engine: Engine, settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> Reading:
    """Behind a reference of 120 samples."""
    promote("1")
    add_samples(120)
    collected = collect_stored(engine, _production(engine), newest=200)
    store_reference(engine, collected, now=NOW)
    return Reading(engine, settings)


def test_samples_of_the_reference_are_passed_over(
    reading: Reading, add_samples: AddSamples
) -> None:
    """Those of its time, by their time; ids need not follow it exactly."""
    add_samples(10)
    intake = reading.read()
    assert list(range(121, 131)) == _ids(intake)
    assert {Passed.COVERED: 120} == intake.passed
    assert 130 == intake.cursor.last_sample_id
    assert [] == _ids(reading.read())


def test_a_new_reference_begins_behind_what_it_covers(
    engine: Engine, settings: MonitorSettings, reading: Reading, add_samples: AddSamples
) -> None:
    """However much is stored before: only as many ids as can be late are looked at again."""
    add_samples(LATE_IDS + 300)
    store_reference(engine, collect_stored(engine, reading.model, newest=200), now=NOW)
    add_samples(5)
    again = Reading(engine, settings)
    assert 5 == len(again.read().samples)
    assert again.cursor is not None
    assert LATE_IDS >= again.cursor.passed_samples


def test_a_reference_that_holds_no_stored_sample_begins_when_it_was_made(
    reading: Reading, add_samples: AddSamples
) -> None:
    """A data set: what passed before it is no news, or a change that is meant would ring again."""
    made_at = add_samples(50)
    reading.reference = replace(reading.reference, covers_until=None, created_at=made_at)
    add_samples(7)
    assert list(range(171, 178)) == _ids(reading.read())


def test_a_sample_of_the_future_in_a_reference_blocks_no_judging(
    reading: Reading, add_samples: AddSamples
) -> None:
    """A clock was ahead: what comes after the reference was made is judged."""
    made_at = add_samples(1)
    ahead = made_at + timedelta(days=30)
    reading.reference = replace(reading.reference, covers_until=ahead, created_at=made_at)
    add_samples(7)
    assert list(range(122, 129)) == _ids(reading.read())


def test_a_backlog_is_read_in_steps_and_told(
    settings: MonitorSettings, reading: Reading, add_samples: AddSamples
) -> None:
    """Nothing is left out, nothing is read twice."""
    reading.read()
    reading.settings = settings.model_copy(update={"max_tick_samples": 40})
    add_samples(100)
    found = [reading.read() for _ in range(4)]
    assert [40, 40, 20, 0] == [len(each.samples) for each in found]
    assert [60, 20, 0, 0] == [each.lag for each in found]
    assert list(range(121, 221)) == [n for each in found for n in _ids(each)]


def test_samples_of_one_camera_are_thinned_by_time(
    reading: Reading, add_samples: AddSamples
) -> None:
    """A second apart, of two cameras: one each in ten seconds, also from one tick to the next."""
    reading.read()
    add_samples(12, source="a")
    first = reading.read()
    add_samples(12, source="a")
    add_samples(1, source="b")
    second = reading.read()
    assert ([121, 131], [141, 145]) == (_ids(first), _ids(second))
    assert {Passed.TOO_SOON: 10} == first.passed


def test_samples_without_a_camera_are_not_thinned(
    reading: Reading, add_samples: AddSamples
) -> None:
    """Nobody knows which of them show one scene."""
    add_samples(12)
    assert 12 == len(reading.read().samples)


def test_what_was_likelier_to_be_kept_is_as_frequent_as_in_the_traffic(
    reading: Reading, add_samples: AddSamples
) -> None:
    """Of samples that a rule kept all of, beside others at a tenth, about a tenth is judged."""
    add_samples(100, kept_probability=0.1)
    add_samples(400, kept_probability=1.0)
    intake = reading.read()
    certain = [s for s in intake.samples if s.sample.kept_probability == 1.0]
    assert 100 == len(intake.samples) - len(certain)
    assert 20 <= len(certain) <= 65
    assert 400 - len(certain) == intake.passed[Passed.OVER_KEPT]


def test_forced_samples_that_come_first_are_thinned_too(
    reading: Reading, add_samples: AddSamples
) -> None:
    """The whole batch is looked at before the first of it is judged."""
    reading.read()
    add_samples(300, kept_probability=1.0, image_probability=1.0)
    add_samples(1, kept_probability=0.01)
    assert 10 > len(reading.read().samples)


def test_the_first_tick_knows_the_chances_of_what_is_stored(
    reading: Reading, add_samples: AddSamples
) -> None:
    """Also where all of its own were forced."""
    reading.settings = reading.settings.model_copy(update={"max_tick_samples": 320})
    add_samples(400, kept_probability=1.0, image_probability=1.0)
    add_samples(1, kept_probability=0.01)
    intake = reading.read()
    assert {Passed.COVERED: 120} == {k: v for k, v in intake.passed.items() if k is Passed.COVERED}
    assert 10 > len(intake.samples)


def test_no_number_of_forced_samples_makes_them_usual(
    reading: Reading, add_samples: AddSamples
) -> None:
    """Three thousand in a row, over many ticks."""
    reading.read()
    add_samples(1, kept_probability=0.01)
    reading.read()
    judged = 0
    for _ in range(3):
        add_samples(1000, kept_probability=1.0, image_probability=1.0)
        judged += len(reading.read().samples)
    assert 10 <= judged <= 60


def test_where_no_ordinary_sample_was_seen_all_are_judged(
    reading: Reading, add_samples: AddSamples
) -> None:
    """A rate of 1 makes samples that look like forced ones."""
    add_samples(50, kept_probability=1.0, image_probability=1.0)
    assert 50 == len(reading.read().samples)


@pytest.mark.parametrize("probability", [0.0, -1.0, 1.5])
def test_a_chance_that_is_none_spoils_its_sample_alone(
    engine: Engine, reading: Reading, add_samples: AddSamples, probability: float
) -> None:
    """A row that somebody wrote must not make all others too likely."""
    reading.read()
    add_samples(10)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE samples SET kept_probability = :p WHERE id = 125"), {"p": probability}
        )
    intake = reading.read()
    assert (9, {Passed.UNREADABLE: 1}) == (len(intake.samples), intake.passed)


def test_rows_that_hold_no_sample_are_passed_over_for_good(
    engine: Engine, reading: Reading, add_samples: AddSamples
) -> None:
    """Also where they are the newest."""
    reading.read()
    add_samples(10)
    with engine.begin() as connection:
        connection.execute(text("UPDATE samples SET features = '[' WHERE id > 128"))
    intake = reading.read()
    assert (8, {Passed.UNREADABLE: 2}) == (len(intake.samples), intake.passed)
    assert 130 == intake.cursor.last_sample_id
    assert {} == reading.read().passed


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
def test_an_id_that_appears_late_is_read_once(
    engine: Engine, reading: Reading, add_samples: AddSamples
) -> None:
    """A gateway took it before another's, and its transaction ended after."""
    reading.read()
    add_samples(10)
    with engine.begin() as connection:
        connection.execute(text("UPDATE samples SET id = 100000 WHERE id = 125"))
        connection.execute(text("UPDATE samples SET id = id + 1000 WHERE id BETWEEN 121 AND 130"))
    assert [1121, 1122, 1123, 1124, 1126, 1127, 1128, 1129, 1130, 100000] == _ids(reading.read())
    with engine.begin() as connection:
        connection.execute(text("UPDATE samples SET id = 99990 WHERE id = 1124"))
        connection.execute(text("UPDATE samples SET id = 500 WHERE id = 1123"))
    assert [99990] == _ids(reading.read())
    assert [] == _ids(reading.read())


def test_sources_that_the_reference_does_not_know_are_counted(
    settings: MonitorSettings, reading: Reading, add_samples: AddSamples
) -> None:
    """By name, up to a number; further ones together."""
    reading.settings = settings.model_copy(update={"thin_seconds": 0.0})
    add_samples(3, source="known")
    add_samples(2, source="new")
    for number in range(MAX_UNKNOWN_SOURCES + 1):
        add_samples(1, source=f"n{number:03}")
    reading.read(known=frozenset({"known"}))
    assert reading.cursor is not None
    found = unknown_sources(reading.cursor)
    assert (2, 1, 2) == (found["new"], found["n000"], found[""])
    assert MAX_UNKNOWN_SOURCES + 1 == len(found)
    assert "known" not in found


def test_a_camera_of_one_client_takes_no_turn_of_anothers(
    reading: Reading, add_samples: AddSamples
) -> None:
    """Whoever says the name first."""
    reading.read()
    for _ in range(3):
        add_samples(1, source="cam3", principal="mallory")
        add_samples(1, source="cam3", principal="victim")
    assert [121, 122] == _ids(reading.read())


def test_the_memory_of_cameras_has_a_bounded_size(reading: Reading) -> None:
    """Whatever the names."""
    cameras = {
        camera_key("p" * 500, f"{number:064}"): NOW + timedelta(microseconds=123457 + number)
        for number in range(MAX_CAMERAS)
    }
    assert 13_000 > len(json.dumps(dump_memory(Memory(cameras=cameras))))


def test_a_memory_comes_back() -> None:
    """Through JSON values."""
    memory = Memory(
        floor=7,
        late=frozenset({9, 12}),
        chances=Chances(((0.25, NOW), (0.5, NOW + timedelta(hours=1)))),
        cameras={camera_key("p", "a"): NOW + timedelta(microseconds=123457)},
        unknown_sources={"b": 2, "": 1},
    )
    assert memory == parse_memory(dump_memory(memory))


KEYS = [camera_key("p", str(number)) for number in range(MAX_CAMERAS + 1)]


@pytest.mark.parametrize(
    "change",
    [
        {"cameras": {"a": "x"}},
        {"cameras": {"cam3": 1.0}},
        {"cameras": {KEYS[0]: 1e300}},
        {"cameras": dict.fromkeys(KEYS, 1.0)},
        {"cameras": 7},
        {"late": [None]},
        {"late": [-1]},
        {"late": list(range(LATE_IDS + 1))},
        {"chances": [1]},
        {"chances": [0.5, 0.25, 3]},
        {"chances": [[0.0, 1.0]]},
        {"chances": [[-0.5, 1.0]]},
        {"chances": [[1.5, 1.0]]},
        {"chances": [[float("nan"), 1.0]]},
        {"chances": [[0.5, 1.0], [0.1, 2.0]]},
        {"chances": [[n / 17, n] for n in range(1, 18)]},
        {"floor": None},
        {"floor": -1},
        {"unknown_sources": []},
        {"unknown_sources": {"a": -1}},
        {"unknown_sources": {str(n): 1 for n in range(MAX_UNKNOWN_SOURCES + 2)}},
    ],
)
def test_what_is_no_memory_begins_anew(
    reading: Reading,
    add_samples: AddSamples,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, object],
) -> None:
    """Somebody wrote into the table: nothing is judged twice, nor unthinned, and the log says it."""
    add_samples(1, kept_probability=0.01)
    reading.read()
    assert reading.cursor is not None
    reading.cursor = replace(reading.cursor, memory={**reading.cursor.memory, **change})
    assert {} == unknown_sources(reading.cursor)
    add_samples(100, kept_probability=1.0, image_probability=1.0)
    assert 5 > len(reading.read().samples)
    assert "intake_memory_begins_anew model=conveyor version=1" in caplog.text
    assert 0.01 == parse_memory(reading.cursor.memory).chances.base
    assert [] == _ids(reading.read())


def _ids(intake: Intake) -> list[int]:
    return [stored.id for stored in intake.samples]


def _production(engine: Engine) -> ModelVersion:
    with engine.connect() as connection:
        found = find_production_version(connection, "conveyor")
    assert found is not None
    return found
