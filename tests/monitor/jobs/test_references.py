"""Which references there are, and which are in use."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from monitor.jobs.collected import Collected
from monitor.jobs.reference import store_reference
from monitor.jobs.references import describe_references, read_references, reference_lines
from monitor.summaries import ReferenceSummary
from monitor.windows.slicing import parse_bands
from monitor.windows.summarise import summarise
from tests.monitor.windows.summaries import START, draw_samples, draw_summary

Promote = Callable[[str], None]

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def test_the_newest_of_the_version_in_production_is_in_use(
    engine: Engine, promote: Promote
) -> None:
    """Newest first; those of other versions wait."""
    promote("1")
    for version in ("1", "1", "2"):
        _store(engine, draw_summary(100), version=version)
    found = read_references(engine)
    assert [(3, "2", False), (2, "1", True), (1, "1", False)] == [
        (each.id, each.model_version, each.is_in_use) for each in found
    ]
    assert [] == read_references(engine, model_name="belt")


def test_what_a_reference_tells_apart_is_shown(engine: Engine, promote: Promote) -> None:
    """On one line for people, and as JSON."""
    promote("1")
    samples = draw_samples(480, sources=("a", "b"), minutes=60.0)
    bands = parse_bands("06-18,18-06")
    _store(engine, summarise(samples, bands=bands, max_slices=2))
    (found,) = read_references(engine)
    (line,) = reference_lines([found])
    assert line.startswith(
        "* 1  conveyor 1  480 samples, 2 slices, hours 06-18 and 18-06, made 2030-01-01 00:00 UTC "
        "from images/train, "
    )
    (value,) = describe_references([found])
    assert (["source=a", "source=b"], ["06-18", "18-06"], True, None) == (
        value["slices"],
        value["hours"],
        value["in_use"],
        value["problem"],
    )
    assert found.size_bytes > 10_000
    assert found.size_bytes == value["bytes"]


def test_a_reference_that_cannot_be_used_is_told(engine: Engine, promote: Promote) -> None:
    """Because it is broken, or its model was registered anew."""
    _store(engine, replace(draw_summary(100), preprocessing="weights 9"))
    _store(engine, draw_summary(100))
    promote("1")
    with engine.begin() as connection:
        connection.execute(text("UPDATE drift_references SET content = '{' WHERE id = 2"))
    broken, other = read_references(engine)
    assert "a stored reference cannot be read" in (broken.problem or "")
    assert "made by another model or preprocessing" in (other.problem or "")
    assert ["* 2", "    ", "  1", "    "] == [
        line[:3] if "conveyor 1  " in line else line[:4]
        for line in reference_lines([broken, other])
    ]


def _store(engine: Engine, summary: ReferenceSummary, *, version: str = "1") -> None:
    collected = Collected(
        model_name="conveyor",
        model_version=version,
        summary=summary if summary.preprocessing != "p" else replace(summary, preprocessing=""),
        seen=100,
        source="images/train",
    )
    store_reference(engine, collected, now=START)
