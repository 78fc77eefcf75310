"""Storing a reference: it is found, bound to its model, and told to whoever asked."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from gateway.store.queries.models import find_production_version
from monitor.jobs.collected import Collected
from monitor.jobs.judging import ReferenceCache
from monitor.jobs.reference import StoredReference, store_reference
from monitor.jobs.reference_printing import left_out_lines, print_reference, reference_line
from monitor.records import InputError
from monitor.summaries import Slice, SliceKind
from monitor.windows.binding import preprocessing_of, why_unfit
from monitor.windows.choosing import LeftOut, Omission
from monitor.windows.slicing import parse_bands
from monitor.windows.summarise import summarise
from tests.monitor.windows.summaries import draw_samples, draw_summary

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Promote = Callable[[str], None]
COLLECTED = Collected(
    model_name="conveyor",
    model_version="1",
    summary=replace(draw_summary(120), preprocessing=""),
    seen=240,
    source="images/train",
    notes=("left out something",),
)


def test_a_reference_is_stored_and_found(engine: Engine, promote: Promote) -> None:
    """Any window may be compared with it: it holds no stored sample. It is bound to what is registered."""
    promote("1")
    stored = store_reference(engine, COLLECTED, now=NOW)
    assert (120, 240) == (stored.sample_count, stored.seen)
    assert {"f00", "class_count_other", "class_surprise", "embedding_1"} < set(stored.features)
    with engine.connect() as connection:
        model = find_production_version(connection, "conveyor")
        assert model is not None
        found = ReferenceCache()(connection, model)
    assert found is not None
    assert (stored.id, "images/train", None) == (found.id, found.source, found.covers_until)
    assert preprocessing_of(model) == found.summary.preprocessing
    assert why_unfit(found, model) is None


def test_what_another_preprocessing_measured_is_refused(engine: Engine, promote: Promote) -> None:
    """As of a merged reference of weights that were registered anew."""
    promote("1")
    other = replace(COLLECTED, summary=replace(COLLECTED.summary, preprocessing="weights 1"))
    with pytest.raises(InputError, match=r"what conveyor@1 is now .* is not what measured"):
        store_reference(engine, other, now=NOW)


def test_a_version_that_is_not_registered_tells_nothing(engine: Engine) -> None:
    """Its reference may be made before it is brought here."""
    store_reference(engine, COLLECTED, now=NOW)


def test_slices_and_hours_are_told() -> None:
    """On one line, or as JSON; what was left out on standard error."""
    stored = _stored()
    assert (
        "reference 7 for conveyor 1: 400 samples, 3 features, 2 slices, hours 06-18 and 18-06, from x"
    ) == reference_line(stored)
    plain = replace(stored, slices=(), hours=("00-24",))
    assert "reference 7 for conveyor 1: 400 samples, 3 features, from x" == reference_line(plain)


def test_what_was_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays one JSON value."""
    print_reference(_stored(), clients={}, as_json=True)
    printed = capsys.readouterr()
    kept, note, slots, room = printed.err.splitlines()
    assert ("monitor: kept 400 of 500 samples", "monitor: left out something") == (kept, note)
    assert slots.startswith("monitor: 1 with 100 samples and more are not watched on their own, ")
    assert slots.endswith(
        "because all of MONITOR_MAX_SLICES are taken, or their client's share of them is: source=c"
    )
    assert room.endswith("has no room for them: source=d, source=e")
    value = json.loads(printed.out)
    assert (["source=a", "source=b"], ["06-18", "18-06"], 1234) == (
        value["slices"],
        value["hours"],
        value["bytes"],
    )
    assert [
        {"slice": "source=c", "why": "slots"},
        {"slice": "source=d", "why": "room"},
        {"slice": "source=e", "why": "room"},
    ] == value["left_out"]


def test_of_many_that_were_left_out_some_are_named() -> None:
    """On one line; --json has all."""
    left_out = [LeftOut(Slice(SliceKind.SOURCE, f"c{n}"), Omission.HOURS) for n in range(25)]
    (line,) = left_out_lines(left_out)
    assert line.startswith("25 with")
    assert line.endswith("source=c18, source=c19 and 5 more")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_what_is_told_is_what_was_stored(engine: Engine) -> None:
    """The slices after all samples, and the hours of each stratum."""
    samples = draw_samples(480, sources=("a", "b"), minutes=60.0)
    bands = parse_bands("06-18,18-06")
    collected = replace(COLLECTED, summary=summarise(samples, bands=bands, max_slices=4))
    stored = store_reference(engine, collected, now=NOW)
    assert (("source=a", "source=b"), ("06-18", "18-06")) == (stored.slices, stored.hours)
    assert 10_000 < stored.size_bytes < 128 * 1024


def _stored() -> StoredReference:
    return StoredReference(
        id=7,
        model_name="conveyor",
        model_version="1",
        sample_count=400,
        seen=500,
        features=("a", "b", "c"),
        source="x",
        slices=("source=a", "source=b"),
        hours=("06-18", "18-06"),
        size_bytes=1234,
        notes=("left out something",),
        left_out=(
            LeftOut(Slice(SliceKind.SOURCE, "c"), Omission.SLOTS),
            LeftOut(Slice(SliceKind.SOURCE, "d"), Omission.ROOM),
            LeftOut(Slice(SliceKind.SOURCE, "e"), Omission.ROOM),
        ),
    )
