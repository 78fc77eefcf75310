"""The new samples of one model version, along the index of ids, and which of them are judged. Writes nothing.

Rules: a tick reads a bounded number of rows, however many are stored; each row is looked at once, also where several
gateways make ids appear late; which samples are judged depends on their cameras, times and chances, never on what they
show; what is remembered between ticks is bounded.
"""

import logging
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
from monitor.records import DriftCursor, Passed, Reference
from monitor.settings import MonitorSettings
from monitor.windows.cameras import CAMERA_KEY, MAX_CAMERAS, CameraTimes, camera_key
from monitor.windows.thinning import MAX_CHANCES, Chances, has_chance, is_taken

logger = logging.getLogger(__name__)

# Transactions end in another order than they took their ids: of so many ids before the newest, some may still appear.
LATE_IDS = 512
MAX_UNKNOWN_SOURCES = 32
# Of which the chances are looked at before the first is judged.
_CHANCE_SAMPLES = 1000
# What is left unread is counted no further.
MAX_COUNTED_LAG = 1_000_000


@dataclass(slots=True)
class Memory:
    """What is remembered between ticks beside the position.

    floor: the id behind which reading began. late: ids behind the newest that were looked at. chances: of
    ordinary samples. cameras: when the last taken sample of each was received, by its key, in the order of taking; at
    most MAX_CAMERAS. unknown_sources: how many samples of sources that the
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
    connection: Connection, model: ModelVersion, reference: Reference, *, now: datetime
) -> DriftCursor:
    """Where judging by a reference begins: after the samples that it holds, or after it was made if it holds none."""
    start = _id_after(connection, model, reference.judges_after)
    return DriftCursor(
        model_name=model.name,
        model_version=model.version,
        reference_id=reference.id,
        last_sample_id=start,
        judged_samples=0,
        passed_samples=0,
        memory=dump_memory(_new_memory(connection, model.name, model.version, floor=start)),
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

    known_sources: that the reference tells apart. If what the cursor remembers is broken, remembering begins anew.
    """
    memory = _parse(cursor) or _new_memory(
        connection, cursor.model_name, cursor.model_version, floor=cursor.last_sample_id
    )
    ids = _new_ids(connection, cursor, memory, limit=settings.max_tick_samples)
    bad_ids: list[int] = []
    loaded = load_samples_by_ids(connection, ids, on_bad_row=bad_ids.append)
    # All of them before the first is judged: forced samples may come before the ordinary ones.
    memory.chances = memory.chances.with_samples(each.sample for each in loaded)
    choosing = _Choosing(memory, judges_after=reference.judges_after, settings=settings)
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

    Empty if what the cursor remembers is broken.
    """
    memory = _parse(cursor)
    return {} if memory is None else memory.unknown_sources


def dump_memory(memory: Memory) -> dict[str, Any]:
    """As JSON values."""
    return {
        "floor": memory.floor,
        "late": dump_ids(sorted(memory.late)),
        "chances": [[chance, at.timestamp()] for chance, at in memory.chances.seen],
        "cameras": {name: at.timestamp() for name, at in memory.cameras.items()},
        "unknown_sources": memory.unknown_sources,
    }


def parse_memory(memory: Mapping[str, Any]) -> Memory:
    """What dump_memory gave. Raises ValueError, TypeError, KeyError or OverflowError if it is something else."""
    parsed = Memory(
        floor=int(memory["floor"]),
        late=frozenset(parse_ids(memory["late"])),
        chances=Chances(tuple((float(chance), _time(at)) for chance, at in memory["chances"])),
        cameras={str(key): _time(at) for key, at in memory["cameras"].items()},
        unknown_sources={
            str(name): int(count) for name, count in memory["unknown_sources"].items()
        },
    )
    _require_bounded(parsed)
    return parsed


def _require_bounded(memory: Memory) -> None:
    """Raises ValueError for what reading never makes, and would change what is judged."""
    chances = [chance for chance, _ in memory.chances.seen]
    if len(chances) > MAX_CHANCES or not all(0 < chance <= 1 for chance in chances):
        raise ValueError("chances outside (0, 1], or too many")
    if chances != sorted(chances):
        raise ValueError("chances that do not ascend")
    if len(memory.cameras) > MAX_CAMERAS or not all(map(CAMERA_KEY.fullmatch, memory.cameras)):
        raise ValueError("cameras that are none, or too many")
    # One more: further ones together.
    counts = memory.unknown_sources.values()
    if len(counts) > MAX_UNKNOWN_SOURCES + 1 or any(count < 0 for count in counts):
        raise ValueError("counts of sources below 0, or too many")
    if memory.floor < 0 or len(memory.late) > LATE_IDS or any(each < 0 for each in memory.late):
        raise ValueError("ids below 0, or too many")


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _new_memory(connection: Connection, name: str, version: str, *, floor: int) -> Memory:
    newest = load_window(connection, name, version, newest=_CHANCE_SAMPLES)
    return Memory(floor=floor, chances=Chances().with_samples(each.sample for each in newest))


class _Choosing:
    """Goes through the samples of one tick in their order, and changes the memory as it goes."""

    def __init__(
        self, memory: Memory, *, judges_after: datetime, settings: MonitorSettings
    ) -> None:
        self._base = memory.chances.base
        self._cameras = CameraTimes(memory.cameras)
        self._judges_after = judges_after
        self._thin_seconds = settings.thin_seconds
        self.passed: Counter[Passed] = Counter()

    def takes(self, sample: Sample) -> bool:
        """Whether a sample is judged; why not is counted."""
        why = self._why_not(sample)
        if why is not None:
            self.passed[why] += 1
        return why is None

    def _why_not(self, sample: Sample) -> Passed | None:
        if sample.received_at <= self._judges_after:
            return Passed.COVERED
        if not has_chance(sample):
            return Passed.UNREADABLE
        if not is_taken(sample.request_id, sample.kept_probability, self._base):
            return Passed.OVER_KEPT
        if sample.source is not None:
            key = camera_key(sample.principal, sample.source)
            if not self._cameras.takes(key, sample.received_at, thin_seconds=self._thin_seconds):
                return Passed.TOO_SOON
        return None


def _parse(cursor: DriftCursor) -> Memory | None:
    """None, and a line in the log, if it is broken: somebody wrote into the table, or another release did."""
    try:
        return parse_memory(cursor.memory)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError) as exc:
        logger.warning(
            "intake_memory_begins_anew model=%s version=%s: %r",
            cursor.model_name,
            cursor.model_version,
            exc,
        )
        return None


def _id_after(connection: Connection, model: ModelVersion, time: datetime) -> int:
    """An id behind which the samples received after a time are found; some before it may be there too."""
    # Ids grow with time but for a little, so the first later sample is found by halving. Each probe reads one row.
    before, after = 0, latest_sample_id(connection, model.name, model.version)
    while before < after:
        middle = (before + after) // 2
        found = load_samples_after(connection, model.name, model.version, after_id=middle, limit=1)
        if found and found[0].sample.received_at <= time:
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
