"""Making a reference of stored samples: which of them, and whether they may be taken for normal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from sqlalchemy import Connection, Engine

from gateway.store.queries.samples import (
    latest_sample_id,
    list_sample_ids_after,
    load_samples_after,
    load_samples_by_ids,
    load_window,
)
from gateway.store.records import ModelVersion, Sample, StoredSample
from monitor.alarms import DRIFT_ALARM
from monitor.jobs.collected import (
    MAX_REFERENCE_SAMPLES,
    Collected,
    Layout,
    Progress,
    lacking_notes,
)
from monitor.records import Alarm, AlarmTransition, InputError, NotReadyError
from monitor.tables.alarm_queries import list_alarms, list_transitions
from monitor.texts import shown
from monitor.windows.slicing import client_digest, digest_of_client
from monitor.windows.stored import reference_sample
from monitor.windows.summarise import MIN_REFERENCE_SAMPLES, summarise_told
from monitor.windows.thinning import Chosen, choose_samples

Item = TypeVar("Item")

# Rows that are read, so that a busy month takes no more memory than a busy hour.
MAX_LOOKED_AT = 20_000
# Transactions end in another order than they took their ids: of so many ids, some may be of another time.
_LATE_IDS = 512
_IDS_AT_ONCE = 50_000
_ROWS_AT_ONCE = 1_000
_PROBED_ROWS = 16
_SEED = 20
# How far back into the history of alarms is looked for times when it rang.
_MAX_CHANGES = 1_000


@dataclass(frozen=True, slots=True)
class Selection:
    """Which stored samples: of a period, from since up to but not including until; of one camera; of one client.

    None: of all. client: its principal or the digest of it. thin_seconds: see monitor.windows.thinning.
    """

    since: datetime | None = None
    until: datetime | None = None
    source: str | None = None
    client: str | None = None
    thin_seconds: float = 0.0

    @property
    def has_period(self) -> bool:
        """Whether a period is asked for, and not the newest."""
        return self.since is not None or self.until is not None

    def holds(self, sample: Sample) -> bool:
        """Whether a sample is one of them."""
        return (
            self.spans(sample)
            and self.source in (None, sample.source)
            and self._is_of_client(sample)
        )

    def spans(self, sample: Sample) -> bool:
        """Whether a sample is of the period, whoever sent it."""
        return (self.since is None or sample.received_at >= self.since) and (
            self.until is None or sample.received_at < self.until
        )

    def _is_of_client(self, sample: Sample) -> bool:
        return self.client is None or (
            client_digest(sample.principal) == digest_of_client(self.client)
        )


ANY = Selection()
WHOLE = Layout()


def collect_stored(
    engine: Engine,
    model: ModelVersion,
    *,
    newest: int = MAX_LOOKED_AT,
    force: bool = False,
    selection: Selection = ANY,
    now: datetime | None = None,
    layout: Layout = WHOLE,
    on_progress: Progress = lambda _count: None,
) -> Collected:
    """Stored samples of a model version: the newest, or those of a period; thinned as a tick thins them.

    newest: rows to look at, MIN_REFERENCE_SAMPLES to MAX_LOOKED_AT; of a period as many as that are drawn. force: even
    while the drift alarm of this version is raised. now: what was received later, by a clock that was ahead, is left
    out; None: nothing is. on_progress: called with the count of samples read so far.
    Raises InputError if newest is out of range or the alarm is raised, NotReadyError if too few are left.
    """
    _require_in_range(newest)
    bad_rows: list[int] = []
    with engine.connect() as connection:
        read = _read(connection, model, newest, selection, bad_rows, on_progress)
        alarms = list_alarms(connection, model_name=model.name)
        changes = list_transitions(connection, model.name, newest=_MAX_CHANGES)
    spanned = [
        stored.sample
        for stored in read
        if selection.spans(stored.sample) and (now is None or stored.sample.received_at <= now)
    ]
    wanted = [sample for sample in spanned if selection.holds(sample)]
    chosen = choose_samples(wanted, thin_seconds=selection.thin_seconds, beside=spanned)
    kept = _drawn(chosen.samples, MAX_REFERENCE_SAMPLES)
    if len(kept) < MIN_REFERENCE_SAMPLES:
        looked_at = newest if len(read) + len(bad_rows) >= newest else None
        raise NotReadyError(
            _why_too_few(model, selection, chosen, len(wanted), len(bad_rows), looked_at)
        )
    times = [sample.received_at for sample in kept]
    period = f"from {min(times):%Y-%m-%d %H:%M:%S} to {max(times):%Y-%m-%d %H:%M:%S} UTC"
    if not force:
        _require_normal(alarms, model, f"{len(kept)} samples, {period},")
        _require_quiet(changes, model, min(times), max(times))
    told = summarise_told(
        [reference_sample(sample) for sample in kept],
        bands=layout.bands,
        max_slices=layout.max_slices,
    )
    return Collected(
        model_name=model.name,
        model_version=model.version,
        summary=told.summary,
        seen=len(wanted),
        source=f"{len(kept)} stored samples{_of(selection)}, {period}",
        # Of all that were looked at: those that were left out belong to the same time.
        covers_until=max(sample.received_at for sample in wanted),
        notes=(*_notes(chosen), *lacking_notes(told.lacking)),
        left_out=told.left_out,
    )


def _require_in_range(newest: int) -> None:
    if not MIN_REFERENCE_SAMPLES <= newest <= MAX_LOOKED_AT:
        raise InputError(
            f"--newest {newest}: a reference is made of {MIN_REFERENCE_SAMPLES} to {MAX_LOOKED_AT} samples"
        )


def _read(
    connection: Connection,
    model: ModelVersion,
    newest: int,
    selection: Selection,
    bad_rows: list[int],
    on_progress: Progress,
) -> list[StoredSample]:
    if not selection.has_period:
        read = load_window(
            connection, model.name, model.version, newest=newest, on_bad_row=bad_rows.append
        )
        on_progress(len(read))
        return list(read)
    ids = _drawn(_ids_of_period(connection, model, selection), newest)
    loaded: list[StoredSample] = []
    for first in range(0, len(ids), _ROWS_AT_ONCE):
        some = ids[first : first + _ROWS_AT_ONCE]
        loaded += load_samples_by_ids(connection, some, on_bad_row=bad_rows.append)
        on_progress(len(loaded))
    return loaded


def _ids_of_period(connection: Connection, model: ModelVersion, selection: Selection) -> list[int]:
    """The ids of a period, with some of the time around it."""
    newest = latest_sample_id(connection, model.name, model.version)
    start, last = 0, newest
    if selection.since is not None:
        start = max(0, _id_before(connection, model, selection.since, newest) - _LATE_IDS)
    if selection.until is not None:
        last = _id_before(connection, model, selection.until, newest) + _LATE_IDS
    ids: list[int] = []
    while some := list_sample_ids_after(
        connection, model.name, model.version, after_id=start, limit=_IDS_AT_ONCE
    ):
        ids += [each for each in some if each <= last]
        start = some[-1]
        if start > last:
            break
    return ids


def _id_before(connection: Connection, model: ModelVersion, time: datetime, newest: int) -> int:
    """About the largest id of a sample received before a time, found by halving: ids grow with time, nearly."""
    before, after = 0, newest
    while before < after:
        middle = (before + after) // 2
        # Some more than one: a few rows may hold no sample.
        found = load_samples_after(
            connection, model.name, model.version, after_id=middle, limit=_PROBED_ROWS
        )
        if found and found[0].sample.received_at < time:
            before = found[0].id
        else:
            after = middle
    return before


def _drawn(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many, in their order. Drawn and not every n-th: cameras may take turns."""
    if len(items) <= most:
        return list(items)
    chosen = np.random.default_rng(_SEED).choice(len(items), size=most, replace=False)
    return [items[index] for index in np.sort(chosen).tolist()]


def _require_normal(alarms: Sequence[Alarm], model: ModelVersion, what: str) -> None:
    for alarm in alarms:
        is_about = alarm.name == DRIFT_ALARM and alarm.model_version == model.version
        if is_about and alarm.state.is_active:
            of = f" ({alarm.slice})" if alarm.slice else ""
            raise InputError(
                f"the drift alarm of {model.name}{of} is {alarm.state.value} since "
                f"{alarm.since:%Y-%m-%d %H:%M:%S} UTC ({shown(alarm.diagnosis)}): {what} would make that "
                "normal; if it is, say --force"
            )


def _require_quiet(
    changes: Sequence[AlarmTransition], model: ModelVersion, first: datetime, last: datetime
) -> None:
    """Raises InputError if the samples reach into a time when the drift alarm rang, as far back as is looked."""
    began: dict[str, datetime] = {}
    for change in changes:
        if change.name != DRIFT_ALARM or change.model_version != model.version:
            continue
        if change.after.is_active:
            began.setdefault(change.slice, change.at)
            continue
        since = began.pop(change.slice, None)
        if since is not None and since <= last and first <= change.at:
            of = f" ({change.slice})" if change.slice else ""
            raise InputError(
                f"the drift alarm of {model.name}{shown(of)} rang from {since:%Y-%m-%d %H:%M:%S} to "
                f"{change.at:%Y-%m-%d %H:%M:%S} UTC, and samples of that time would make that normal: "
                "take another period with --since and --until, or say --force"
            )


def _why_too_few(
    model: ModelVersion,
    selection: Selection,
    chosen: Chosen,
    wanted: int,
    bad: int,
    looked_at: int | None,
) -> str:
    broken = f" ({bad} more cannot be read)" if bad else ""
    is_cut = looked_at is not None and not selection.has_period and bool(_of(selection))
    if wanted < MIN_REFERENCE_SAMPLES and is_cut:
        return (
            f"only {wanted} samples of {model.name} {model.version}{_of(selection)} are among the "
            f"newest {looked_at}{broken}, a reference needs {MIN_REFERENCE_SAMPLES}: look at more "
            f"with --newest (at most {MAX_LOOKED_AT}), or name a period with --since"
        )
    if wanted < MIN_REFERENCE_SAMPLES:
        period = " in this period" if selection.has_period else ""
        return (
            f"only {wanted} samples of {model.name} {model.version}{_of(selection)} are stored"
            f"{period}{broken}, a reference needs {MIN_REFERENCE_SAMPLES}: send more traffic that "
            "you know to be normal"
        )
    return (
        f"of {wanted} samples of {model.name} {model.version}{_of(selection)} only "
        f"{len(chosen.samples)} are left{broken}, a reference needs {MIN_REFERENCE_SAMPLES}: "
        f"{'; '.join(_notes(chosen))}: take more with --newest or --since"
    )


def _notes(chosen: Chosen) -> tuple[str, ...]:
    notes = []
    if chosen.too_soon:
        notes.append(
            f"left out {chosen.too_soon} samples that follow another of their camera too soon "
            "(MONITOR_THIN_SECONDS)"
        )
    if chosen.over_kept:
        notes.append(
            f"left out {chosen.over_kept} samples that were likelier to be stored than others "
            "(GATEWAY_SAMPLE_KEEP_BELOW_CONFIDENCE)"
        )
    return tuple(notes)


def _of(selection: Selection) -> str:
    source = "" if selection.source is None else f" of source {selection.source}"
    # It is stored with the reference and recorded: a principal's name is neither.
    client = "" if selection.client is None else f" of client {digest_of_client(selection.client)}"
    return shown(source + client)


def utc_time(text: str, *, option: str) -> datetime:
    """A time with its zone. option: its name, for the message. Raises InputError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InputError(f"{option} {text[:40]!r} is no time: write 2030-01-31T06:00Z") from exc
    if time.tzinfo is None:
        raise InputError(f"{option} {text[:40]!r} has no zone: write 2030-01-31T06:00Z")
    return time.astimezone(UTC)
