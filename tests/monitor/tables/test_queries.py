"""The monitor's own rows come back as they were stored, from both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from monitor.records import (
    Report,
)
from monitor.tables.queries import (
    find_last_report,
    find_reference_id,
    insert_reference,
    insert_report,
    list_references,
    read_reference_row,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
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


def test_references_are_listed_newest_first(engine: Engine) -> None:
    """Of all models or of one, as many as are asked for."""
    with engine.begin() as connection:
        for name in ("belt", "conveyor", "conveyor"):
            insert_reference(
                connection,
                model_name=name,
                model_version="1",
                created_at=NOW,
                source="images/train",
                covers_until=None,
                sample_count=100,
                content="{}",
            )
        listed = [row.id for row in list_references(connection, newest=2)]
        of_one = [row.id for row in list_references(connection, model_name="belt", newest=2)]
    assert ([3, 2], [1]) == (listed, of_one)


def test_the_last_report_is_found(engine: Engine) -> None:
    """By model."""
    later = replace(REPORT, created_at=NOW + timedelta(hours=1), html_file="b.html")
    with engine.begin() as connection:
        assert find_last_report(connection, "conveyor") is None
        for report in (REPORT, later, replace(REPORT, model_name="another")):
            insert_report(connection, report)
        assert find_last_report(connection, "conveyor") == later
