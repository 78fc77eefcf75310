"""Making a reference of several that are stored."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from monitor.jobs.collected import Collected
from monitor.jobs.combining import collect_merged
from monitor.jobs.reference import store_reference
from monitor.records import InputError, MonitorError
from monitor.settings import MonitorSettings
from tests.monitor.windows.summaries import START, draw_summary

HOUR = timedelta(hours=1)

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def test_references_become_one(engine: Engine, settings: MonitorSettings) -> None:
    """Of all their samples; what could not be merged is told, and what is covered is covered still."""
    first = _store(engine, seed=1, begin=START, end=START + HOUR)
    second = _store(engine, seed=2, begin=START + 2 * HOUR, end=START + 3 * HOUR)
    third = _store(engine, seed=3)
    collected = collect_merged(engine, [first, second, third], settings=settings)
    assert (600, f"references {first}, {second}, {third} merged") == (
        collected.summary.sample_count,
        collected.source,
    )
    assert (START, START + 3 * HOUR) == (
        collected.summary.covers_from,
        collected.covers_until,
    )
    (note,) = collected.notes
    assert note.startswith("left out, because the references do not compute them alike: ")
    assert "class_surprise, embedding_1" in note
    stored = store_reference(engine, collected, now=START)
    assert 600 == stored.sample_count


@pytest.mark.parametrize("ids", [[], [1], [1, 1]])
def test_one_reference_is_not_several(
    engine: Engine, settings: MonitorSettings, ids: list[int]
) -> None:
    """Its samples would count twice."""
    _store(engine)
    with pytest.raises(InputError, match="at least two references, each once"):
        collect_merged(engine, ids, settings=settings)


def test_a_reference_that_there_is_not(engine: Engine, settings: MonitorSettings) -> None:
    """Said with how to find those that there are."""
    _store(engine)
    with pytest.raises(
        InputError, match="there is no reference 9: `monitor references` lists them"
    ):
        collect_merged(engine, [1, 9], settings=settings)


def test_the_same_time_is_merged_only_by_force(engine: Engine, settings: MonitorSettings) -> None:
    """Two cameras of one week share no sample, but only a person knows."""
    ids = [_store(engine, seed=seed, begin=START, end=START + HOUR) for seed in (1, 2)]
    with pytest.raises(InputError, match="holds stored samples of the same time as another"):
        collect_merged(engine, ids, settings=settings)
    assert 400 == collect_merged(engine, ids, settings=settings, force=True).summary.sample_count


def test_references_of_another_model_are_refused(engine: Engine, settings: MonitorSettings) -> None:
    """Than the one that is asked for."""
    ids = [_store(engine, seed=1), _store(engine, seed=2)]
    other = settings.model_copy(update={"model_name": "belt"})
    with pytest.raises(InputError, match="reference 1 is of conveyor, not of belt"):
        collect_merged(engine, ids, settings=other)


def test_a_broken_reference_is_told(engine: Engine, settings: MonitorSettings) -> None:
    """With what to do about it."""
    ids = [_store(engine, seed=1), _store(engine, seed=2)]
    with engine.begin() as connection:
        connection.execute(text("UPDATE drift_references SET content = '{' WHERE id = 2"))
    with pytest.raises(MonitorError, match="a stored reference cannot be read"):
        collect_merged(engine, ids, settings=settings)


def _store(
    engine: Engine, *, seed: int = 1, begin: datetime | None = None, end: datetime | None = None
) -> int:
    summary = replace(draw_summary(200, seed=seed), preprocessing="", covers_from=begin)
    collected = Collected(
        model_name="conveyor",
        model_version="1",
        summary=summary,
        seen=200,
        source="x",
        covers_until=end,
    )
    return store_reference(engine, collected, now=START + 4 * HOUR).id
