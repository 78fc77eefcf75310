"""The timeline is well-formed SVG, bounded, and safe to open."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

from monitor.records import DriftResult, FeatureScore
from monitor.reports.timeline import MAX_LINES, MAX_POINTS, timeline_svg

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def test_no_results_give_an_empty_picture() -> None:
    """The limit is drawn, no line is."""
    root = ET.fromstring(timeline_svg([], title="nothing yet"))
    assert root.findall(f"{SVG}polyline") == []


def test_one_result_is_drawn() -> None:
    """A span of no time must not divide by zero."""
    root = ET.fromstring(timeline_svg([_result("noise", 0, 0.5)], title="one"))
    assert len(root.findall(f"{SVG}polyline")) == 1


def test_the_worst_features_are_drawn_first_and_few() -> None:
    """By their highest score over threshold."""
    results = [_result(f"f{i:02}", minute, i / 20) for minute in range(2) for i in range(20)]
    root = ET.fromstring(timeline_svg(results, title="many"))
    names = [text.text for text in root.findall(f"{SVG}text") if (text.text or "").startswith("f")]
    assert names == [f"f{i:02}" for i in range(19, 19 - MAX_LINES, -1)]


def test_points_are_bounded() -> None:
    """A week of ticks stays a small file."""
    results = [_result("noise", minute, 0.1) for minute in range(5 * MAX_POINTS)]
    root = ET.fromstring(timeline_svg(results, title="long"))
    (line,) = root.findall(f"{SVG}polyline")
    assert len(line.attrib["points"].split()) <= MAX_POINTS


def test_names_cannot_become_markup() -> None:
    """Titles hold model names, which come from outside."""
    evil = "<script>alert(1)</script>"
    svg = timeline_svg([_result(evil, 0, 0.5)], title=evil)
    assert "<script" not in svg


def _result(feature: str, minute: int, score: float) -> DriftResult:
    return DriftResult(
        ticked_at=NOW + timedelta(minutes=minute),
        model_name="conveyor",
        model_version="1",
        reference_id=1,
        window_count=100,
        score=FeatureScore(feature=feature, score=score, threshold=0.25),
    )
