"""From samples to a reference: its fit, its slices, its hours, its order statistics. Pure.

Rules: of each two neighbours one fits what the reference defines and the other is ranked by it, so that nothing is
compared with itself; which of the two is drawn, so that no rhythm of cameras sends all of one's to one side; features
of the gateway are ranked on all samples.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from monitor.ranks import RankedValues, Values, rank_values
from monitor.records import Measurement, NotReadyError
from monitor.summaries import (
    ALL_SAMPLES,
    ReferenceSummary,
    Slice,
    SliceSummary,
    Stratum,
)
from monitor.windows.choosing import LeftOut, Omission, in_turn, order_clients, order_sources
from monitor.windows.content import MAX_CONTENT_BYTES, dump_summary
from monitor.windows.fitting import (
    columns,
    feature_names,
    fit_reference,
    in_common,
    is_fitted,
)
from monitor.windows.limits import Sizes, choose_limits
from monitor.windows.slicing import (
    WHOLE_DAY,
    Bands,
    client_slice,
    describe_hours,
    source_slice,
)

# Fewer cannot tell a rare scene from a new one.
MIN_REFERENCE_SAMPLES = 100
MIN_SLICE_SAMPLES = 100
# Of a slice's samples, those that are ranked by the reference's own features; about half are.
_MIN_RANKED_SAMPLES = MIN_SLICE_SAMPLES // 4
MAX_EXAMPLES = 8
_SEED = 20

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ReferenceSample:
    """One sample of a reference. Of samples that are not stored, all but the measurement is unknown."""

    measurement: Measurement
    received_at: datetime | None = None
    client: str | None = None
    source: str | None = None
    request_id: str | None = None


def summarise(
    samples: Sequence[ReferenceSample],
    *,
    bands: Bands = WHOLE_DAY,
    max_slices: int = 0,
    preprocessing: str = "",
) -> ReferenceSummary:
    """The reference of summarise_told alone."""
    return summarise_told(
        samples, bands=bands, max_slices=max_slices, preprocessing=preprocessing
    ).summary


@dataclass(frozen=True, slots=True)
class Summarised:
    """A reference, and the cameras and clients that have samples enough and no slice in it.

    lacking: features that only some of the samples have, which are not in it.
    """

    summary: ReferenceSummary
    left_out: tuple[LeftOut, ...]
    lacking: tuple[str, ...] = ()


def summarise_told(
    samples: Sequence[ReferenceSample],
    *,
    bands: Bands = WHOLE_DAY,
    max_slices: int = 0,
    preprocessing: str = "",
) -> Summarised:
    """The reference that these samples make, with a stratum for each band of hours and slices by source and client.

    bands: samples of other hours are left out; with more than one, each sample has a time. max_slices: at most so many,
    clients and sources in turn (see monitor.windows.choosing); none that is the only one of its kind, or has fewer than
    MIN_SLICE_SAMPLES in every band. preprocessing: see ReferenceSummary.
    Raises NotReadyError if a band has fewer than MIN_REFERENCE_SAMPLES, InputError as feature_names and in_common do.
    """
    kept = _within(samples, bands)
    in_bands = tuple(_in_band(kept, band) for band in bands)
    _require_enough(in_bands, bands)
    is_ranked = _drawn_halves(len(kept))
    measurements, lacking = in_common([sample.measurement for sample in kept])
    fit = fit_reference(
        [m for m, ranked in zip(measurements, is_ranked, strict=True) if not ranked]
    )
    names = feature_names(measurements, fit=fit)
    bare = ReferenceSummary(
        sample_count=len(kept),
        fit=fit,
        slices=(),
        preprocessing=preprocessing,
        examples=_examples(kept),
        covers_from=min((s.received_at for s in kept if s.received_at is not None), default=None),
    )
    table = _Table(
        values=columns(measurements, fit=fit, names=names),
        names=names,
        is_ranked=is_ranked,
        bands=bands,
        in_bands=in_bands,
    )
    chosen = _choose_slices(table, kept, max_slices=max_slices)
    slices = _slices(table, chosen.members, room_for_ranks(bare, names))
    without_room = [LeftOut(of, Omission.ROOM) for of, _ in chosen.members[len(slices) - 1 :]]
    left_out = (*without_room, *chosen.left_out)
    return Summarised(replace(bare, slices=slices), left_out, lacking)


def room_for_ranks(bare: ReferenceSummary, names: Sequence[str]) -> int:
    """Bytes that are left for the slices of a reference that has none yet."""
    fixed = len(dump_summary(bare).encode()) + sum(len(name) + 3 for name in names)
    return MAX_CONTENT_BYTES - fixed


@dataclass(frozen=True, slots=True)
class _Table:
    """All values of all samples: float32 (T, F); and of each sample whether it is ranked, and in which bands it is."""

    values: Values
    names: tuple[str, ...]
    is_ranked: Flags
    bands: Bands
    in_bands: tuple[Flags, ...]

    def large_bands(self, members: Flags) -> list[tuple[frozenset[int], Flags]]:
        """The bands in which some samples are enough, and which samples these are."""
        found = [
            (band, members & flags) for band, flags in zip(self.bands, self.in_bands, strict=True)
        ]
        return [
            (band, rows)
            for band, rows in found
            if rows.sum() >= MIN_SLICE_SAMPLES
            and (rows & self.is_ranked).sum() >= _MIN_RANKED_SAMPLES
        ]

    def summary(self, of: Slice, members: Flags, *, limit: int) -> SliceSummary:
        """The order statistics of some samples by band."""
        return SliceSummary(
            of,
            tuple(
                Stratum(band, self._features(rows, limit))
                for band, rows in self.large_bands(members)
            ),
        )

    def _features(self, rows: Flags, limit: int) -> dict[str, RankedValues]:
        fair = rows & self.is_ranked
        return {
            name: rank_values(self.values[fair if is_fitted(name) else rows, column], limit=limit)
            for column, name in enumerate(self.names)
        }


@dataclass(frozen=True, slots=True)
class _ChosenSlices:
    """Slices in the order in which room is given to them, with the rows of each."""

    members: list[tuple[Slice, Flags]]
    left_out: list[LeftOut]


def _slices(
    table: _Table, chosen: Sequence[tuple[Slice, Flags]], room_bytes: int
) -> tuple[SliceSummary, ...]:
    everything = np.ones(len(table.values), np.bool_)
    limits = choose_limits(
        Sizes(room_bytes=room_bytes, features=len(table.names)),
        strata=len(table.bands),
        slices=[(of.text, len(table.large_bands(members))) for of, members in chosen],
    )
    return (
        table.summary(ALL_SAMPLES, everything, limit=limits.ranks),
        *(
            table.summary(of, members, limit=limits.slice_ranks)
            for of, members in chosen[: limits.slices_kept]
        ),
    )


def _choose_slices(
    table: _Table, samples: Sequence[ReferenceSample], *, max_slices: int
) -> _ChosenSlices:
    clients = _members([sample.client for sample in samples])
    sources = _members([sample.source for sample in samples])
    large_clients = {name for name, rows in clients.items() if table.large_bands(rows)}
    large_sources = {name for name, rows in sources.items() if table.large_bands(rows)}
    ordered_clients = order_clients([sample.client for sample in samples], large=large_clients)
    ordered_sources = order_sources(
        [(sample.client, sample.source) for sample in samples],
        large=large_sources,
        max_slices=max_slices,
        min_samples=MIN_SLICE_SAMPLES,
    )
    ordered = in_turn(
        [(client_slice(name), clients[name]) for name in ordered_clients],
        [(source_slice(name), sources[name]) for name in ordered_sources],
    )
    members = ordered[:max_slices]
    slots = {of for of, _ in members}
    everybody = [(client_slice(name), name in large_clients) for name in clients]
    everybody += [(source_slice(name), name in large_sources) for name in sources]
    left_out = [
        LeftOut(of, Omission.SLOTS if is_large else Omission.HOURS)
        for of, is_large in everybody
        if of not in slots
    ]
    return _ChosenSlices(members, left_out)


def _members(values: Sequence[str | None]) -> dict[str, Flags]:
    """The rows of each name that has samples enough, the commonest first; of none if all have one name."""
    counts = Counter(values)
    if len(counts) < 2:
        return {}
    common = [v for v, n in counts.items() if v is not None and n >= MIN_SLICE_SAMPLES]
    return {
        value: np.array([each == value for each in values], np.bool_)
        for value in sorted(common, key=lambda value: (-counts[value], value))
    }


def _within(samples: Sequence[ReferenceSample], bands: Bands) -> list[ReferenceSample]:
    if bands == WHOLE_DAY:
        return list(samples)
    hours = frozenset[int]().union(*bands)
    return [sample for sample in samples if _hour(sample) in hours]


def _in_band(samples: Sequence[ReferenceSample], band: frozenset[int]) -> Flags:
    if len(band) == 24:
        return np.ones(len(samples), np.bool_)
    return np.array([_hour(sample) in band for sample in samples], np.bool_)


def _hour(sample: ReferenceSample) -> int:
    if sample.received_at is None:
        raise ValueError("samples without a time have no hours")
    return sample.received_at.astimezone(UTC).hour


def _require_enough(in_bands: Sequence[Flags], bands: Bands) -> None:
    counts = [int(flags.sum()) for flags in in_bands]
    if min(counts) >= MIN_REFERENCE_SAMPLES:
        return
    if bands == WHOLE_DAY:
        raise NotReadyError(
            f"only {counts[0]} samples, a reference needs at least {MIN_REFERENCE_SAMPLES}"
        )
    found = ", ".join(
        f"{count} at {describe_hours(band)} UTC" for count, band in zip(counts, bands, strict=True)
    )
    raise NotReadyError(
        f"only {found}: a reference needs at least {MIN_REFERENCE_SAMPLES} in each band of --hours"
    )


def _drawn_halves(count: int) -> Flags:
    """Of each two neighbours one is True, which of them is drawn."""
    is_second = np.random.default_rng(_SEED).integers(0, 2, size=-(-count // 2)).astype(np.bool_)
    return np.stack([~is_second, is_second], axis=1).ravel()[:count]


def _examples(samples: Sequence[ReferenceSample]) -> tuple[str, ...]:
    ids = [sample.request_id for sample in samples if sample.request_id is not None]
    step = max(1, -(-len(ids) // MAX_EXAMPLES))
    return tuple(ids[::step])
