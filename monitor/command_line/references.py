"""`monitor reference` and `monitor references`: making references, and which there are."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer
from sqlalchemy import Engine

from monitor.command_line.shared import (
    AsJson,
    ModelName,
    own_ledger,
    settings_of_process,
    utc_now,
)
from monitor.jobs.client_names import read_client_names, slices_in_words
from monitor.jobs.collected import Collected, Layout
from monitor.jobs.collecting import collect_dataset
from monitor.jobs.combining import collect_merged
from monitor.jobs.database import opened_database
from monitor.jobs.judging import find_watched_model
from monitor.jobs.printing import print_json, progress
from monitor.jobs.recording import record_reference
from monitor.jobs.reference_printing import print_reference
from monitor.jobs.references import describe_references, read_references, reference_lines
from monitor.jobs.selecting import MAX_LOOKED_AT, Selection, collect_stored, utc_time
from monitor.records import InputError, NotReadyError
from monitor.settings import MonitorSettings
from monitor.windows.slicing import WHOLE_DAY, parse_bands

_NEWEST = 1000


class Origin(StrEnum):
    """What a reference is made of."""

    DATASET = "dataset"
    SAMPLES = "samples"
    REFERENCES = "references"


Path = Annotated[
    str | None,
    typer.Argument(help="A folder of images, a file that `gateway features` wrote, or -."),
]
From = Annotated[Origin, typer.Option("--from", help="What to make it of.")]
Newest = Annotated[
    int | None,
    typer.Option("--newest", help="With samples: how many to look at; 1000, of a period 20000."),
]
Since = Annotated[
    str | None, typer.Option("--since", help="With samples: received from this time on.")
]
Until = Annotated[
    str | None, typer.Option("--until", help="With samples: received before this time.")
]
Source = Annotated[str | None, typer.Option("--source", help="With samples: of this camera only.")]
Client = Annotated[
    str | None,
    typer.Option("--client", help="With samples: of this client only, by its principal or digest."),
]
Hours = Annotated[
    str | None,
    typer.Option("--hours", help="With samples: bands of hours in UTC, each normal by itself."),
]
Merge = Annotated[list[int] | None, typer.Option("--merge", help="With references: the id of one.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="With samples: even while the drift alarm is raised. "
        "With references: even if their times overlap.",
    ),
]


def reference(
    path: Path = None,
    *,
    origin: From,
    newest: Newest = None,
    since: Since = None,
    until: Until = None,
    source: Source = None,
    client: Client = None,
    hours: Hours = None,
    merge: Merge = None,
    force: Force = False,
    model: ModelName = None,
    as_json: AsJson = False,
) -> None:
    """Make the reference that a model version is judged by: what normal looks like.

    Needs 100 images or samples, and as many in each band of `--hours`. Images lie in the folder or below it; labels are
    ignored. Samples taken while the alarm is raised would make the drift normal. The newest one of a version is in use.

    Examples:

    `monitor reference --from dataset images/train`

    `gateway features images/train > train.jsonl; monitor reference --from dataset train.jsonl`

    `monitor reference --from samples --newest 2000`

    `monitor reference --from samples --since 2030-01-07T00:00Z --until 2030-01-14T00:00Z --hours 06-18,18-06`

    `monitor reference --from references --merge 3 --merge 4`
    """
    settings = settings_of_process(model)
    of_samples: dict[str, object] = {"newest": newest, "since": since, "until": until}
    of_samples |= {"source": source, "client": client, "hours": hours}
    _require_origin(origin, path, of_samples, merge)
    selection = Selection(
        since=None if since is None else utc_time(since, option="--since"),
        until=None if until is None else utc_time(until, option="--until"),
        source=source,
        client=client,
        thin_seconds=settings.thin_seconds,
    )
    layout = Layout(WHOLE_DAY if hours is None else parse_bands(hours), settings.max_slices)
    ledger = own_ledger(settings)
    with opened_database(settings.database_url) as engine:
        # Before minutes go into measuring a folder.
        ledger.check(engine)
        if path is not None:
            collected = collect_dataset(path, settings)
        elif merge:
            collected = collect_merged(engine, merge, settings=settings, force=force)
        else:
            collected = _collect_samples(engine, settings, newest, selection, layout, force=force)
        clients = _names(engine, collected)
        stored = record_reference(ledger, engine, collected, now=utc_now())
    print_reference(stored, clients=clients, as_json=as_json)


def references(*, model: ModelName = None, as_json: AsJson = False) -> None:
    """List the references, newest first; a star marks those that something is judged by.

    Example: `monitor references --json | jq '.references[] | select(.in_use)'`
    """
    settings = settings_of_process(model)
    with opened_database(settings.database_url) as engine:
        known = read_references(engine, model_name=settings.model_name or None)
    if as_json:
        print_json({"references": describe_references(known)})
    elif known:
        print("\n".join(reference_lines(known)))
    else:
        raise NotReadyError(
            "there is no reference: make one with `monitor reference --from dataset FOLDER` or "
            "`monitor reference --from samples`"
        )


def _collect_samples(
    engine: Engine,
    settings: MonitorSettings,
    newest: int | None,
    selection: Selection,
    layout: Layout,
    *,
    force: bool,
) -> Collected:
    model = find_watched_model(engine, settings)
    if newest is None:
        newest = MAX_LOOKED_AT if selection.has_period else _NEWEST
    with progress("samples read") as advance:
        return collect_stored(
            engine,
            model,
            newest=newest,
            force=force,
            selection=selection,
            now=utc_now(),
            layout=layout,
            on_progress=advance,
        )


def _names(engine: Engine, collected: Collected) -> dict[str, str]:
    slices = [each.slice.text for each in collected.summary.slices]
    slices += slices_in_words(collected.source)
    with engine.connect() as connection:
        return read_client_names(connection, collected.model_name, collected.model_version, slices)


def _require_origin(
    origin: Origin, path: str | None, of_samples: Mapping[str, object], merge: list[int] | None
) -> None:
    if (path is None) is (origin is Origin.DATASET):
        raise InputError(
            "`--from dataset` takes a PATH, `--from samples` takes none, nor does `--from references`"
        )
    if (not merge) is (origin is Origin.REFERENCES):
        raise InputError("`--from references` takes --merge ID at least twice, the others never")
    given = [f"--{name}" for name, value in of_samples.items() if value is not None]
    if given and origin is not Origin.SAMPLES:
        raise InputError(f"{', '.join(given)}: only with `--from samples`")
