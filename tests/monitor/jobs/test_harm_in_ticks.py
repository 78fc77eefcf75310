"""Harm and words of an alarm through real ticks: the worse the change, the sooner it is known, and it does not flap."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from monitor.jobs.judging import read_watched_models
from monitor.jobs.reference import collect_stored, store_reference
from monitor.jobs.tick import Watch
from monitor.records import Alarm
from monitor.settings import MonitorSettings
from tests.monitor.conftest import START, new_watch

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
AddSamples = Callable[..., datetime]
Add = Callable[[int, float, float], datetime]


@pytest.fixture
def add(add_samples: AddSamples) -> Add:
    """Stores samples whose brightness and confidence fell by so much."""
    rng = np.random.default_rng(5)

    def add_changed(count: int, darker: float, less_sure: float) -> datetime:
        now = START
        for _ in range(count):
            now = add_samples(
                1,
                features={
                    "brightness": 0.5 + 0.05 * float(rng.normal()) - darker,
                    "mean_confidence": 0.8 + 0.05 * float(rng.normal()) - less_sure,
                    "max_confidence": 0.9 + 0.03 * float(rng.normal()) - less_sure,
                },
            )
        return now

    return add_changed


@pytest.fixture
def watch(
    engine: Engine, settings: MonitorSettings, promote: Callable[[str], None], add: Add
) -> Watch:
    """Version 1 with a reference of 200 samples, and 60 judged ones."""
    settings = settings.model_copy(update={"window_samples": 100})
    promote("1")
    now = add(200, 0.0, 0.0)
    with engine.connect() as connection:
        (model,) = read_watched_models(connection, settings)
    store_reference(engine, collect_stored(engine, model, newest=200, force=True), now=now)
    made = new_watch(settings)
    made.tick(add(60, 0.0, 0.0))
    return made


def alarms(watch: Watch, add: Add, counts: list[int], change: tuple[float, float]) -> list[Alarm]:
    """The alarm after each tick of so many changed samples."""
    found = []
    for count in counts:
        (ticked,) = watch.tick(add(count, *change))
        assert ticked.alarm is not None
        found.append(ticked.alarm)
    return found


@pytest.mark.parametrize("less_sure", [0.06, 0.2, 0.4])
def test_what_is_harmful_is_called_so_in_the_first_tick_and_stays_so(
    watch: Watch, add: Add, less_sure: float
) -> None:
    """Also a change that rings within fewer samples than a verdict takes."""
    found = alarms(watch, add, [60, 60, 60], (less_sure * 1.5, less_sure))
    assert ["firing"] * 3 == [a.state.value for a in found]
    assert ["harmful"] * 3 == [a.harm.value for a in found]
    described, *later = [a.details["samples"] for a in found]
    # The least of them is faint enough to be dated some samples late.
    assert 45 <= described <= 60
    assert [100, 100] == later


def test_what_is_harmless_is_called_so(watch: Watch, add: Add) -> None:
    """It is only darker."""
    found = alarms(watch, add, [60, 60, 60], (0.3, 0.0))
    assert "harmful" not in [a.harm.value for a in found]
    assert ["harmless"] * 2 == [a.harm.value for a in found[1:]]


def test_harm_becomes_known_as_samples_come(watch: Watch, add: Add) -> None:
    """Four samples ring and cannot tell; the words are about those alone, and grow with them."""
    found = alarms(watch, add, [5, 2, 3, 10], (0.3, 0.4))
    assert ["unknown", "unknown", "harmful", "harmful"] == [a.harm.value for a in found]
    assert [5, 7, 10, 20] == [a.details["samples"] for a in found]
    assert "fell from" in found[0].diagnosis
    assert found[0].diagnosis.endswith(" (of 5 samples)")
    assert " samples)" not in found[3].diagnosis


def test_the_first_words_hold_no_sample_from_before_the_change(watch: Watch, add: Add) -> None:
    """Nor do the examples, wherever in the stream it comes."""
    watch.tick(add(5, 0.0, 0.0))
    add(6, 0.0, 0.0)
    (alarm,) = alarms(watch, add, [7], (0.3, 0.0))
    change: dict[str, Any] = alarm.details["changes"][0]
    assert ("brightness", -1.0) == (change["feature"], change["effect"])
    assert 0.15 < change["after"] < 0.25
    numbers = {side: [int(x[-12:]) for x in ids] for side, ids in alarm.details["examples"].items()}
    assert [269, 270, 271] == numbers["before"]
    assert min(numbers["after"]) > 271
    assert 272 == int(alarm.details["first_sample_id"])


def test_words_stay_once_the_world_is_as_it_was(watch: Watch, add: Add) -> None:
    """Until it is resolved: the samples since then are not what it rang for."""
    (rang,) = alarms(watch, add, [40], (0.3, 0.0))
    (later,) = alarms(watch, add, [100], (0.0, 0.0))
    assert ("firing", rang.diagnosis, rang.details) == (
        later.state.value,
        later.diagnosis,
        later.details,
    )
