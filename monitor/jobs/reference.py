"""Storing a reference: what normal looks like for one model version from that commit on.

What it is made of comes from monitor.jobs.collecting (files), selecting (stored samples) or combining (references).
"""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine

from gateway.store.database import write_transaction
from gateway.store.queries.models import find_model_version
from monitor.jobs.collected import Collected
from monitor.jobs.selecting import collect_stored
from monitor.records import InputError
from monitor.summaries import ReferenceSummary
from monitor.tables.queries import insert_reference
from monitor.windows.binding import preprocessing_of
from monitor.windows.choosing import LeftOut
from monitor.windows.content import dump_summary
from monitor.windows.slicing import describe_hours

__all__ = ["Collected", "StoredReference", "collect_stored", "store_reference"]


@dataclass(frozen=True, slots=True)
class StoredReference:
    """What was stored, for the person who asked.

    slices: by source and client, as text. hours: of each stratum, as text. size_bytes: of its stored form. left_out:
    see Collected.
    """

    id: int
    model_name: str
    model_version: str
    sample_count: int
    seen: int
    features: tuple[str, ...]
    source: str
    slices: tuple[str, ...]
    hours: tuple[str, ...]
    size_bytes: int
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()


def store_reference(engine: Engine, collected: Collected, *, now: datetime) -> StoredReference:
    """Store a reference; from this commit on it is the one its model version is judged by.

    It is bound to the preprocessing of the version as it is registered. Raises InputError if another measured it.
    """
    with write_transaction(engine) as connection:
        summary = _bound(connection, collected)
        content = dump_summary(summary)
        reference_id = insert_reference(
            connection,
            model_name=collected.model_name,
            model_version=collected.model_version,
            created_at=now,
            source=collected.source,
            covers_until=_not_after(now, collected.covers_until),
            sample_count=summary.sample_count,
            content=content,
        )
    strata = summary.slices[0].strata
    return StoredReference(
        id=reference_id,
        model_name=collected.model_name,
        model_version=collected.model_version,
        sample_count=summary.sample_count,
        seen=collected.seen,
        features=tuple(sorted(strata[0].features)),
        source=collected.source,
        slices=tuple(each.slice.text for each in summary.slices[1:]),
        hours=tuple(describe_hours(stratum.hours) for stratum in strata),
        size_bytes=len(content.encode()),
        notes=collected.notes,
        left_out=collected.left_out,
    )


def _not_after(now: datetime, covers_until: datetime | None) -> datetime | None:
    """Of samples whose clock was ahead: those that come from now on must not wait for that time."""
    return None if covers_until is None else min(now, covers_until)


def _bound(connection: Connection, collected: Collected) -> ReferenceSummary:
    model = find_model_version(connection, collected.model_name, collected.model_version)
    # Measured elsewhere, before this database knew the version: there is nothing to compare with.
    if model is None:
        return collected.summary
    wanted = preprocessing_of(model)
    if collected.summary.preprocessing not in ("", wanted):
        raise InputError(
            f"what {model.label} is now ({wanted}) is not what measured the samples "
            f"({collected.summary.preprocessing}): measure them again"
        )
    return replace(collected.summary, preprocessing=wanted)
