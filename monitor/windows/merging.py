"""One reference of several: their order statistics merged, without any sample. Pure.

Rules: what is merged was measured alike; a feature that the parts computed differently is left out, since its numbers
would not compare; a merged rank is an interval that surely holds it, so that bounds on it stay true.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np

from monitor.ranks import merge_ranked
from monitor.records import InputError, Reference
from monitor.summaries import (
    ALL_SAMPLES,
    EmbeddingFit,
    Fit,
    ReferenceSummary,
    Slice,
    SliceKind,
    SliceSummary,
    Stratum,
)
from monitor.windows.choosing import in_turn
from monitor.windows.embeddings import EMBEDDING_PREFIX
from monitor.windows.fitting import (
    CLASS_COUNT_PREFIX,
    CLASS_SURPRISE,
    MAX_KNOWN_CLASSES,
    OTHER_CLASSES,
)
from monitor.windows.limits import Sizes, choose_limits
from monitor.windows.slicing import describe_hours
from monitor.windows.summarise import MAX_EXAMPLES, room_for_ranks

Hours: TypeAlias = frozenset[int]
# Of each slice, by hours, what the parts know.
Gathered: TypeAlias = dict[Slice, dict[Hours, list[Stratum]]]

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Merged:
    """One reference of several. dropped: features that some of them had and it has not."""

    summary: ReferenceSummary
    dropped: tuple[str, ...]


def merge_references(parts: Sequence[Reference], *, max_slices: int) -> Merged:
    """The reference of all samples of several.

    parts: at least two. Shares of classes are weighted by samples; what embeddings are projected on stays if all
    project alike, class_surprise if all know the same shares, the count of other classes if all count the same.
    max_slices: at most so many, as summarise takes them.
    Raises InputError if one is of another model version, preprocessing or hours than the first.
    """
    _require_alike(parts)
    summaries = [part.summary for part in parts]
    names = _common_names(summaries)
    bare = ReferenceSummary(
        sample_count=sum(each.sample_count for each in summaries),
        fit=_merged_fit(summaries),
        slices=(),
        preprocessing=summaries[0].preprocessing,
        examples=_examples(summaries),
        covers_from=_earliest(parts),
    )
    slices = _merged_slices(
        _gather(summaries), names, room_for_ranks(bare, names), max_slices=max_slices
    )
    had = {name for each in summaries for name in _names(each)}
    return Merged(replace(bare, slices=slices), tuple(sorted(had - set(names))))


def why_overlapping(parts: Sequence[Reference]) -> str | None:
    """Why two references may hold the same samples, by the times of their stored samples; None if they cannot.

    A sample that counts twice makes a reference seem surer than it is. Of references of files it is only known when
    two are equal.
    """
    for number, part in enumerate(parts):
        for other in parts[:number]:
            if _are_equal(part.summary.slices[0], other.summary.slices[0]):
                return f"references {other.id} and {part.id} hold the same samples"
    stored = [part for part in parts if part.covers_until is not None]
    ends: datetime | None = None
    for part in sorted(stored, key=_begin):
        if ends is not None and _begin(part) <= ends:
            return f"reference {part.id} holds stored samples of the same time as another"
        ends = max(ends or _LONG_AGO, part.covers_until or _LONG_AGO)
    return None


def same_embedding(first: EmbeddingFit | None, second: EmbeddingFit | None) -> bool:
    """Whether two references project embeddings alike, to the last bit."""
    if first is None or second is None:
        return first is second
    return (
        np.array_equal(first.mean, second.mean)
        and np.array_equal(first.directions, second.directions)
        and np.array_equal(first.scales, second.scales)
        and first.residual_scale == second.residual_scale
    )


def _are_equal(first: SliceSummary, second: SliceSummary) -> bool:
    if len(first.strata) != len(second.strata):
        return False
    return all(
        one.hours == two.hours
        and one.features.keys() == two.features.keys()
        and all(
            np.array_equal(ranked.ranks, two.features[name].ranks)
            and np.array_equal(ranked.lowest, two.features[name].lowest)
            and np.array_equal(ranked.highest, two.features[name].highest)
            for name, ranked in one.features.items()
        )
        for one, two in zip(first.strata, second.strata, strict=True)
    )


def _begin(part: Reference) -> datetime:
    # Where no beginning is known, it may reach back to any time.
    return part.summary.covers_from or _LONG_AGO


def _earliest(parts: Sequence[Reference]) -> datetime | None:
    begins = [part.summary.covers_from for part in parts if part.covers_until is not None]
    return None if None in begins else min((each for each in begins if each), default=None)


def _require_alike(parts: Sequence[Reference]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if (part.model_name, part.model_version) != (first.model_name, first.model_version):
            raise InputError(
                f"reference {first.id} is of {first.model_name} {first.model_version}, {part.id} of "
                f"{part.model_name} {part.model_version}: merge those of one model version"
            )
        if part.summary.preprocessing != first.summary.preprocessing:
            raise InputError(
                f"references {first.id} and {part.id} were measured with different weights or "
                "preprocessing: make one of them again"
            )
        if _bands(part.summary) != _bands(first.summary):
            raise InputError(
                f"reference {first.id} has the hours {_describe(first.summary)}, {part.id} has "
                f"{_describe(part.summary)}: merge those made with the same --hours"
            )


def _bands(summary: ReferenceSummary) -> set[Hours]:
    return {stratum.hours for stratum in summary.slices[0].strata}


def _describe(summary: ReferenceSummary) -> str:
    return " and ".join(describe_hours(stratum.hours) for stratum in summary.slices[0].strata)


def _names(summary: ReferenceSummary) -> set[str]:
    return set(summary.slices[0].strata[0].features)


def _common_names(summaries: Sequence[ReferenceSummary]) -> tuple[str, ...]:
    names = set.intersection(*(_names(each) for each in summaries))
    first = summaries[0].fit
    if not all(same_embedding(first.embedding, each.fit.embedding) for each in summaries):
        names = {name for name in names if not name.startswith(EMBEDDING_PREFIX)}
    if any(each.fit.class_shares != first.class_shares for each in summaries):
        names -= {CLASS_SURPRISE}
    if any(_counted(each) != _counted(summaries[0]) for each in summaries):
        names -= {OTHER_CLASSES}
    if not names:
        raise InputError("these references have no feature in common")
    return tuple(sorted(names))


def _counted(summary: ReferenceSummary) -> set[str]:
    return {name for name in _names(summary) if name.startswith(CLASS_COUNT_PREFIX)}


def _merged_fit(summaries: Sequence[ReferenceSummary]) -> Fit:
    first = summaries[0].fit
    fits = [each.fit for each in summaries]
    is_projected_alike = all(same_embedding(first.embedding, fit.embedding) for fit in fits)
    is_known_alike = all(fit.class_shares == first.class_shares for fit in fits)
    return Fit(
        class_shares=first.class_shares if is_known_alike else _weighted_shares(summaries),
        embedding=first.embedding if is_projected_alike else None,
    )


def _weighted_shares(summaries: Sequence[ReferenceSummary]) -> Mapping[int, float]:
    total = sum(each.sample_count for each in summaries)
    shares: dict[int, float] = {}
    for each in summaries:
        for class_id, share in each.fit.class_shares.items():
            shares[class_id] = shares.get(class_id, 0.0) + share * each.sample_count / total
    commonest = sorted(shares, key=lambda class_id: (-shares[class_id], class_id))
    return {class_id: shares[class_id] for class_id in sorted(commonest[:MAX_KNOWN_CLASSES])}


def _gather(summaries: Iterable[ReferenceSummary]) -> Gathered:
    gathered: Gathered = {}
    for summary in summaries:
        for each in summary.slices:
            by_hours = gathered.setdefault(each.slice, {})
            for stratum in each.strata:
                by_hours.setdefault(stratum.hours, []).append(stratum)
    return gathered


def _merged_slices(
    gathered: Gathered, names: Sequence[str], room_bytes: int, *, max_slices: int
) -> tuple[SliceSummary, ...]:
    common = sorted(
        (of for of in gathered if of != ALL_SAMPLES),
        key=lambda of: (-_sample_count(gathered[of]), of.value),
    )
    clients = [of for of in common if of.kind is SliceKind.CLIENT]
    others = in_turn(clients, [of for of in common if of not in clients])[:max_slices]
    limits = choose_limits(
        Sizes(room_bytes=room_bytes, features=len(names), arrays=2),
        strata=len(gathered[ALL_SAMPLES]),
        slices=[(of.text, len(gathered[of])) for of in others],
    )
    return (
        _merged_slice(ALL_SAMPLES, gathered[ALL_SAMPLES], names, limit=limits.ranks),
        *(
            _merged_slice(of, gathered[of], names, limit=limits.slice_ranks)
            for of in others[: limits.slices_kept]
        ),
    )


def _merged_slice(
    of: Slice, by_hours: Mapping[Hours, Sequence[Stratum]], names: Sequence[str], *, limit: int
) -> SliceSummary:
    return SliceSummary(
        of,
        tuple(
            Stratum(
                hours,
                {
                    name: merge_ranked([stratum.features[name] for stratum in strata], limit=limit)
                    for name in names
                },
            )
            for hours, strata in by_hours.items()
        ),
    )


def _sample_count(by_hours: Mapping[Hours, Sequence[Stratum]]) -> int:
    return sum(
        max(ranked.sample_count for ranked in stratum.features.values())
        for strata in by_hours.values()
        for stratum in strata
    )


def _examples(summaries: Sequence[ReferenceSummary]) -> tuple[str, ...]:
    share = max(1, MAX_EXAMPLES // len(summaries))
    examples = [example for each in summaries for example in each.examples[:share]]
    return tuple(examples[:MAX_EXAMPLES])
