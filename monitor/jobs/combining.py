"""Making a reference of several that are stored."""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import NoResultFound

from monitor.jobs.collected import Collected
from monitor.records import InputError, Reference
from monitor.settings import MonitorSettings
from monitor.tables.queries import read_reference_row
from monitor.windows.content import parse_reference
from monitor.windows.merging import merge_references, why_overlapping


def collect_merged(
    engine: Engine, ids: Sequence[int], *, settings: MonitorSettings, force: bool = False
) -> Collected:
    """The reference of all samples of several, of the model that the settings name or of any one.

    force: even if their times overlap. Raises InputError if they cannot be merged, MonitorError if one is broken.
    """
    if len(ids) < 2 or len(set(ids)) != len(ids):
        raise InputError("name at least two references, each once: --merge ID --merge ID")
    with engine.connect() as connection:
        parts = [_read(connection, reference_id) for reference_id in ids]
    if settings.model_name not in ("", parts[0].model_name):
        raise InputError(
            f"reference {parts[0].id} is of {parts[0].model_name}, not of {settings.model_name}"
        )
    merged = merge_references(parts, max_slices=settings.max_slices)
    why = why_overlapping(parts)
    if why is not None and not force:
        raise InputError(
            f"{why}, and what counts twice makes the reference seem surer than it is: merge others, "
            "or say --force if they share no sample (of different cameras, for example)"
        )
    return Collected(
        model_name=parts[0].model_name,
        model_version=parts[0].model_version,
        summary=merged.summary,
        seen=merged.summary.sample_count,
        source=f"references {', '.join(map(str, ids))} merged",
        covers_until=max((p.covers_until for p in parts if p.covers_until), default=None),
        notes=_notes(merged.dropped),
    )


def _read(connection: Connection, reference_id: int) -> Reference:
    try:
        return parse_reference(read_reference_row(connection, reference_id))
    except NoResultFound as exc:
        raise InputError(
            f"there is no reference {reference_id}: `monitor references` lists them"
        ) from exc


def _notes(dropped: Sequence[str]) -> tuple[str, ...]:
    if not dropped:
        return ()
    return (f"left out, because the references do not compute them alike: {', '.join(dropped)}",)
