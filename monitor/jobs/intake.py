"""The new samples of one model version, along the index of ids, and which of them are judged. Writes nothing.

Rules: a tick reads a bounded number of rows, however many are stored; each row is looked at once, also where several
gateways make ids appear late; which samples are judged depends on their cameras, times and chances, never on what they
show; what is remembered between ticks is bounded.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from gateway.store.queries.samples import (
    count_samples_after,
    latest_sample_id,
    list_sample_ids_after,
    load_samples_after,
    load_samples_by_ids,
    load_window,
)
from gateway.store.records import ModelVersion, Sample, StoredSample
from monitor.jobs.id_lists import dump_ids, parse_ids
from monitor.records import DriftCursor, MonitorError, Passed, Reference
from monitor.settings import MonitorSettings
from monitor.windows.thinning import is_taken, is_too_soon

# Transactions end in another order than they took their ids: of so many ids before the newest, some may still appear.
LATE_IDS = 512
# Cameras whose last time is remembered; one that sent nothing for the longest is forgotten first.
MAX_CAMERAS = 256
MAX_UNKNOWN_SOURCES = 32
# Samples after which the smallest chance of being kept that was seen is looked for anew: the rate may have been raised.
_CHANCE_SAMPLES = 1000
# What is left unread is counted no further.
MAX_COUNTED_LAG = 1_000_000


@dataclass(frozen=True, slots=True)
class Chances:
    """The smallest chance of being kept, of the last 1000 to 2000 samples. earlier: of those before the last count."""

    earlier: float = 1.0
    smallest: float = 1.0
    count: int = 0

    def with_one(self, probability: float) -> "Chances":
        """After one more sample."""
        if self.count == _CHANCE_SAMPLES:
            return Chances(self.smallest, probability, 1)
        return Chances(self.earlier, min(self.smallest, probability), self.count + 1)

    @property
    def base(self) -> float:
        """The chance of the samples that nothing but chance kept."""
        return min(self.earlier, self.smallest)


@dataclass(slots=True)
class Memory:
    """What is remembered between ticks beside the position.

    floor: the id behind which reading began. late: ids behind the newest that were looked at. cameras: when the last
    taken sample of each was received, in the order of taking. unknown_sources: how many samples of sources that the
    reference does not tell apart were judged; those of further ones under an empty name.
    """

    floor: int = 0
    late: frozenset[int] = frozenset()
    chances: Chances = field(default_factory=Chances)
    cameras: dict[str, datetime] = field(default_factory=dict)
    unknown_sources: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Intake:
    """What one tick reads. cursor: after it, judged_samples as before. lag: rows left unread, up to a million."""

    cursor: DriftCursor
    samples: tuple[StoredSample, ...]
    passed: Mapping[Passed, int]
    lag: int


def first_cursor(
    connection: Connection,
    model: ModelVersion,
    reference: Reference,
    *,
    settings: MonitorSettings,
    now: datetime,
) -> DriftCursor:
    """Where judging by a reference begins: after the samples that it holds, or with the newest if it holds none."""
    if reference.covers_until is not None:
        start = _id_after(connection, model, reference.covers_until)
    else:
        newest = load_window(
            connection, model.name, model.version, newest=settings.max_tick_samples
        )
        start = newest[0].id - 1 if newest else 0
    return DriftCursor(
        model_name=model.name,
        model_version=model.version,
        reference_id=reference.id,
        last_sample_id=start,
        judged_samples=0,
        passed_samples=0,
        memory=dump_memory(Memory(floor=start)),
        updated_at=now,
    )


def read_intake(
    connection: Connection,
    cursor: DriftCursor,
    *,
    reference: Reference,
    known_sources: frozenset[str],
    settings: MonitorSettings,
) -> Intake:
    """The next samples behind a cursor, and those of them that are judged, in the order of their ids.

    known_sources: that the reference tells apart. Raises MonitorError if what the cursor remembers is broken.
    """
    memory = _parse(cursor)
    ids = _new_ids(connection, cursor, memory, limit=settings.max_tick_samples)
    bad_ids: list[int] = []
    loaded = load_samples_by_ids(connection, ids, on_bad_row=bad_ids.append)
    choosing = _Choosing(memory, covers_until=reference.covers_until, settings=settings)
    taken = tuple(stored for stored in loaded if choosing.takes(stored.sample))
    passed = choosing.passed
    if bad_ids:
        passed[Passed.UNREADABLE] += len(bad_ids)
    for stored in taken:
        _note_source(memory.unknown_sources, stored.sample.source, known_sources)
    last = max([cursor.last_sample_id, *ids])
    memory.late = _late(connection, memory, ids, last)
    after = replace(
        cursor,
        last_sample_id=last,
        passed_samples=cursor.passed_samples + passed.total(),
        memory=dump_memory(memory),
    )
    # Fewer than it may take: there are no more.
    lag = _count_lag(connection, after) if len(ids) == settings.max_tick_samples else 0
    return Intake(after, taken, passed, lag)


def unknown_sources(cursor: DriftCursor) -> dict[str, int]:
    """How many samples of each source were judged that the reference does not tell apart; further ones under "".

    Raises MonitorError if what the cursor remembers is broken.
    """
    return _parse(cursor).unknown_sources


def dump_memory(memory: Memory) -> dict[str, Any]:
    """As JSON values."""
    return {
        "floor": memory.floor,
        "late": dump_ids(sorted(memory.late)),
        "chances": [memory.chances.earlier, memory.chances.smallest, memory.chances.count],
        "cameras": {name: at.timestamp() for name, at in memory.cameras.items()},
        "unknown_sources": memory.unknown_sources,
    }


def parse_memory(memory: Mapping[str, Any]) -> Memory:
    """What dump_memory gave. Raises ValueError, TypeError, KeyError or OverflowError if it is something else."""
    earlier, smallest, count = memory["chances"]
    return Memory(
        floor=int(memory["floor"]),
        late=frozenset(parse_ids(memory["late"])),
        chances=Chances(float(earlier), float(smallest), int(count)),
        cameras={
            str(name): datetime.fromtimestamp(at, UTC) for name, at in memory["cameras"].items()
        },
        unknown_sources={
            str(name): int(count) for name, count in memory["unknown_sources"].items()
        },
    )


class _Choosing:
    """Goes through the samples of one tick in their order, and changes the memory as it goes."""

    def __init__(
        self, memory: Memory, *, covers_until: datetime | None, settings: MonitorSettings
    ) -> None:
        self._memory = memory
        self._covers_until = covers_until
        self._thin_seconds = settings.thin_seconds
        self.passed: Counter[Passed] = Counter()

    def takes(self, sample: Sample) -> bool:
        """Whether a sample is judged; why not is counted."""
        why = self._why_not(sample)
        if why is not None:
            self.passed[why] += 1
        elif sample.source is not None:
            self._remember(sample.source, sample.received_at)
        return why is None

    def _why_not(self, sample: Sample) -> Passed | None:
        if self._covers_until is not None and sample.received_at <= self._covers_until:
            return Passed.COVERED
        if not 0 < sample.kept_probability <= 1:
            return Passed.UNREADABLE
        self._memory.chances = self._memory.chances.with_one(sample.kept_probability)
        base = self._memory.chances.base
        if not is_taken(sample.request_id, sample.kept_probability, base):
            return Passed.OVER_KEPT
        last = None if sample.source is None else self._memory.cameras.get(sample.source)
        if is_too_soon(sample.received_at, last, thin_seconds=self._thin_seconds):
            return Passed.TOO_SOON
        return None

    def _remember(self, source: str, at: datetime) -> None:
        cameras = self._memory.cameras
        cameras.pop(source, None)
        cameras[source] = at
        if len(cameras) > MAX_CAMERAS:
            del cameras[next(iter(cameras))]


def _parse(cursor: DriftCursor) -> Memory:
    try:
        return parse_memory(cursor.memory)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as exc:
        raise MonitorError(
            f"how far {cursor.model_name} {cursor.model_version} was judged cannot be read "
            f"({exc!r}): make a new reference with `monitor reference`"
        ) from exc


def _id_after(connection: Connection, model: ModelVersion, covers_until: datetime) -> int:
    """An id behind which the samples received after a time are found; some before it may be there too."""
    # Ids grow with time but for a little, so the first later sample is found by halving. Each probe reads one row.
    before, after = 0, latest_sample_id(connection, model.name, model.version)
    while before < after:
        middle = (before + after) // 2
        found = load_samples_after(connection, model.name, model.version, after_id=middle, limit=1)
        if found and found[0].sample.received_at <= covers_until:
            before = found[0].id
        else:
            after = middle
    return max(0, before - LATE_IDS)


def _new_ids(
    connection: Connection, cursor: DriftCursor, memory: Memory, *, limit: int
) -> Sequence[int]:
    """The next ids that were not looked at, in order, at most limit."""
    start = cursor.last_sample_id
    if _may_be_late(connection):
        start = max(memory.floor, start - LATE_IDS)
    ids = list_sample_ids_after(
        connection,
        cursor.model_name,
        cursor.model_version,
        after_id=start,
        limit=limit + len(memory.late),
    )
    return [each for each in ids if each not in memory.late][:limit]


def _late(connection: Connection, memory: Memory, ids: Sequence[int], last: int) -> frozenset[int]:
    if not _may_be_late(connection):
        return frozenset()
    looked_at = memory.late.union(ids)
    return frozenset(each for each in looked_at if each > last - LATE_IDS)


def _may_be_late(connection: Connection) -> bool:
    # SQLite has one writer at a time: an id is taken and appears in one step.
    return connection.dialect.name != "sqlite"


def _count_lag(connection: Connection, cursor: DriftCursor) -> int:
    return count_samples_after(
        connection,
        cursor.model_name,
        cursor.model_version,
        after_id=cursor.last_sample_id,
        limit=MAX_COUNTED_LAG,
    )


def _note_source(
    unknown: dict[str, int], source: str | None, known_sources: frozenset[str]
) -> None:
    if source is None or source in known_sources:
        return
    name = source if source in unknown or len(unknown) < MAX_UNKNOWN_SOURCES else ""
    unknown[name] = unknown.get(name, 0) + 1
