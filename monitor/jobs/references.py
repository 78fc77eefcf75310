"""Which references there are, and which of them are in use. Reads the database, writes nothing."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row

from gateway.store.queries.models import list_model_versions
from gateway.store.records import ModelVersion, Stage
from monitor.jobs.client_names import (
    Names,
    name_lines,
    read_names_of_versions,
    slices_in_words,
)
from monitor.records import MonitorError
from monitor.tables.queries import list_references
from monitor.texts import shown
from monitor.windows.binding import why_unfit
from monitor.windows.content import parse_reference
from monitor.windows.fitting import unwatched
from monitor.windows.slicing import describe_hours
from monitor.windows.stored import measurements, read_samples

MAX_LISTED = 100
# Of samples, to know what they have.
_NEWEST = 20


@dataclass(frozen=True, slots=True)
class KnownReference:
    """One stored reference.

    slices: by source and client, as text. hours: of each stratum, as text. is_in_use: the newest one of a version in
    production. problem: why nothing can be judged by it; None if something can. clients: who is known of the clients in
    its slices and its source.
    """

    id: int
    model_name: str
    model_version: str
    created_at: datetime
    source: str
    sample_count: int
    size_bytes: int
    slices: tuple[str, ...]
    hours: tuple[str, ...]
    is_in_use: bool
    problem: str | None
    unwatched: tuple[str, ...] = ()
    clients: Names = field(default_factory=dict)


def read_references(engine: Engine, *, model_name: str | None = None) -> list[KnownReference]:
    """The newest references, at most MAX_LISTED, newest first. model_name: of one model; None for all."""
    known: list[KnownReference] = []
    seen: set[tuple[str, str]] = set()
    with engine.connect() as connection:
        versions = {(m.name, m.version): m for m in list_model_versions(connection)}
        for row in list_references(connection, model_name=model_name, newest=MAX_LISTED):
            of = (row.model_name, row.model_version)
            one = _known(row, versions.get(of), is_newest=of not in seen)
            known.append(
                replace(one, unwatched=_unwatched(connection, row)) if one.is_in_use else one
            )
            seen.add(of)
        return _named(connection, known)


def describe_references(references: list[KnownReference]) -> list[dict[str, object]]:
    """The same as JSON values."""
    return [
        {
            "id": each.id,
            "model": each.model_name,
            "version": each.model_version,
            "in_use": each.is_in_use,
            "samples": each.sample_count,
            "slices": list(each.slices),
            "hours": list(each.hours),
            "made_at": each.created_at.isoformat(),
            "source": each.source,
            "bytes": each.size_bytes,
            "problem": each.problem,
            "unwatched_features": list(each.unwatched),
            "clients": dict(each.clients),
        }
        for each in references
    ]


def reference_lines(references: list[KnownReference]) -> list[str]:
    """The same for people: the one in use has a star."""
    lines: list[str] = []
    for each in references:
        mark = "*" if each.is_in_use else " "
        hours = "" if len(each.hours) < 2 else f", hours {' and '.join(each.hours)}"
        slices = f", {len(each.slices)} slices" if each.slices else ""
        lines.append(
            f"{mark} {each.id}  {each.model_name} {each.model_version}  {each.sample_count} samples"
            f"{slices}{hours}, made {each.created_at:%Y-%m-%d %H:%M} UTC from {each.source}, "
            f"{each.size_bytes} bytes"
        )
        if each.problem is not None:
            lines.append(f"     cannot be used: {each.problem}")
        if each.unwatched:
            lines.append(
                f"     a new one would watch {len(each.unwatched)} more features: {', '.join(each.unwatched)}"
            )
        lines += name_lines(each.clients)
    return [shown(line) for line in lines]


def _named(connection: Connection, references: list[KnownReference]) -> list[KnownReference]:
    of_clients = {each.id: [*each.slices, *slices_in_words(each.source)] for each in references}
    names = read_names_of_versions(
        connection,
        [
            (each.model_name, each.model_version, text)
            for each in references
            for text in of_clients[each.id]
        ],
    )
    return [
        replace(each, clients={t: names[t] for t in of_clients[each.id] if t in names})
        for each in references
    ]


def _unwatched(connection: Connection, row: Row[Any]) -> tuple[str, ...]:
    """What the newest samples have and a reference does not watch; nothing if it cannot be read."""
    try:
        names = parse_reference(row).summary.slices[0].strata[0].features
    except MonitorError:
        return ()
    samples = read_samples(
        connection,
        model_name=row.model_name,
        model_version=row.model_version,
        newest=_NEWEST,
        on_bad_row=lambda _id: None,
    )
    return unwatched(tuple(names), measurements(samples))


def _known(row: Row[Any], model: ModelVersion | None, *, is_newest: bool) -> KnownReference:
    slices: tuple[str, ...] = ()
    hours: tuple[str, ...] = ()
    try:
        reference = parse_reference(row)
    except MonitorError as exc:
        problem: str | None = str(exc)
    else:
        summaries = reference.summary.slices
        slices = tuple(each.slice.text for each in summaries[1:])
        hours = tuple(describe_hours(stratum.hours) for stratum in summaries[0].strata)
        problem = None if model is None else why_unfit(reference, model)
    return KnownReference(
        id=row.id,
        model_name=row.model_name,
        model_version=row.model_version,
        created_at=row.created_at,
        source=row.source,
        sample_count=row.sample_count,
        size_bytes=len(row.content.encode()),
        slices=slices,
        hours=hours,
        is_in_use=is_newest and model is not None and model.stage is Stage.PRODUCTION,
        problem=problem,
    )
