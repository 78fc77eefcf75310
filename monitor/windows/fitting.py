"""From samples to one column a feature: those of the gateway, and those that a reference defines. Pure.

Rules: a missing value is data and becomes -inf, below every number, so that "confidence is missing more often" shows
as drift; what a sample does not have at all, as one of an older gateway, is not missing but unknown: it is NaN, and no
bet is won by it; every other value is finite and float32; what a reference defines (which classes are counted, how
usual each is, the directions of embeddings) is fixed by samples that are not ranked by it; nothing depends on the order
of a mapping.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gateway.store.queries.samples import FEATURE_NAME
from monitor.ranks import Values
from monitor.records import InputError, Measurement
from monitor.summaries import Fit
from monitor.windows.embeddings import (
    EMBEDDING_PREFIX,
    embedding_columns,
    embedding_names,
    fit_embedding,
)

# Each watched feature costs power (the level is shared between them) and a metric's label.
MAX_FEATURES = 64
MAX_COUNTED_CLASSES = 8
# Of a model with more classes, those beyond are as unusual as classes that were never seen.
MAX_KNOWN_CLASSES = 1024
CLASS_COUNT_PREFIX = "class_count_"
OTHER_CLASSES = "class_count_other"
CLASS_SURPRISE = "class_surprise"
MISSING = -np.inf
# What is told of samples without one.
EMBEDDING = "embedding"

_LARGEST = float(np.finfo(np.float32).max)
# Half a box of a hundred million; keeps the surprise finite whatever was stored.
_SMALLEST_SHARE = 5e-9


def fit_reference(measurements: Sequence[Measurement]) -> Fit:
    """What the features of a reference are computed with, of those of its samples that are not ranked by them.

    The share of a class is its boxes over all boxes and half a box, which is left for the classes that were not seen.
    """
    boxes = Counter(found[0] for measured in measurements for found in measured.detections)
    whole = boxes.total() + 0.5
    shares = {
        class_id: boxes[class_id] / whole for class_id in _commonest(boxes, MAX_KNOWN_CLASSES)
    }
    return Fit(
        class_shares=dict(sorted(shares.items())),
        embedding=fit_embedding([measured.embedding for measured in measurements]),
    )


def in_common(measurements: Sequence[Measurement]) -> tuple[list[Measurement], tuple[str, ...]]:
    """The measurements with what all of them have, and what some lack and is left out, as after an upgrade.

    Raises InputError if that is more than half.
    """
    have = Counter(name for measured in measurements for name in _has(measured))
    lacking = frozenset(name for name, count in have.items() if count < len(measurements))
    if 2 * len(lacking) > len(have):
        raise InputError(
            f"{len(lacking)} of {len(have)} features are absent in part of the samples, as where gateways of "
            "several releases stored them: take those of one release, with --since after the upgrade"
        )
    return [_without(measured, lacking) for measured in measurements], tuple(sorted(lacking))


def lacked(names: Iterable[str], measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """Those features of a reference that some measurements do not have at all, in their order."""
    return tuple(
        name for name in names if any(_is_lacking(measured, name) for measured in measurements)
    )


def unwatched(names: Collection[str], measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """What a new reference of these measurements would watch and one with these features does not, by name."""
    if not measurements:
        return ()
    common = set.intersection(*(set(_has(measured)) for measured in measurements))
    more = (common | {CLASS_SURPRISE}) - set(names)
    if any(name.startswith(EMBEDDING_PREFIX) for name in names):
        more -= {EMBEDDING}
    return tuple(sorted(more))


def is_fitted(name: str) -> bool:
    """Whether a feature is one that references define."""
    return name == CLASS_SURPRISE or name.startswith((CLASS_COUNT_PREFIX, EMBEDDING_PREFIX))


def feature_names(measurements: Iterable[Measurement], *, fit: Fit) -> tuple[str, ...]:
    """Every feature that these samples have or the fit defines, sorted: what a reference is made of.

    Raises InputError if there are more than MAX_FEATURES, or one has a name that FEATURE_NAME refuses or that is one of
    the monitor's own.
    """
    names = {name for measured in measurements for name in measured.features}
    for name in sorted(names):
        if not FEATURE_NAME.fullmatch(name):
            raise InputError(f"feature name {name[:40]!r} is not lower_case_words of at most 64")
        if is_fitted(name):
            raise InputError(f"feature name {name!r} is one of the monitor's own: rename it")
    names |= set(fitted_names(fit))
    if len(names) > MAX_FEATURES:
        raise InputError(f"{len(names)} features, at most {MAX_FEATURES} can be watched at once")
    return tuple(sorted(names))


def fitted_names(fit: Fit) -> tuple[str, ...]:
    """The features that a fit defines: the commonest classes' counts, their surprise, the embedding's."""
    counted = sorted(_commonest(fit.class_shares, MAX_COUNTED_CLASSES))
    return (
        *(f"{CLASS_COUNT_PREFIX}{class_id}" for class_id in counted),
        OTHER_CLASSES,
        CLASS_SURPRISE,
        *(() if fit.embedding is None else embedding_names(fit.embedding)),
    )


def columns(measurements: Sequence[Measurement], *, fit: Fit, names: Sequence[str]) -> Values:
    """The values of some features: float32 (T, F), a row a measurement, a column a name, in their orders.

    names: of a reference; a feature that a measurement lacks is NaN there.
    """
    own = _own_columns(measurements, fit, names)
    table = np.full((len(measurements), len(names)), np.nan)
    for column, name in enumerate(names):
        table[:, column] = own[name] if name in own else _plain(measurements, name)
    values = to_values(table)
    for column, name in enumerate(names):
        values[[_is_lacking(measured, name) for measured in measurements], column] = np.nan
    return values


def to_values(numbers: NDArray[np.float64]) -> Values:
    """Numbers as they are compared: float32, NaN and -inf for a missing one as -inf, others within its range."""
    is_missing = np.isnan(numbers) | np.isneginf(numbers)
    values = np.clip(np.where(is_missing, 0.0, numbers), -_LARGEST, _LARGEST).astype(np.float32)
    values[is_missing] = MISSING
    return values


def _has(measured: Measurement) -> list[str]:
    return [*measured.features, *([] if measured.embedding is None else [EMBEDDING])]


def _without(measured: Measurement, lacking: frozenset[str]) -> Measurement:
    if not lacking:
        return measured
    kept = {name: value for name, value in measured.features.items() if name not in lacking}
    embedding = None if EMBEDDING in lacking else measured.embedding
    return replace(measured, features=kept, embedding=embedding)


def _is_lacking(measured: Measurement, name: str) -> bool:
    if name.startswith(EMBEDDING_PREFIX):
        return measured.embedding is None
    return not is_fitted(name) and name not in measured.features


def _plain(measurements: Sequence[Measurement], name: str) -> list[float]:
    values = (measured.features.get(name) for measured in measurements)
    return [math.nan if value is None else value for value in values]


def _own_columns(
    measurements: Sequence[Measurement], fit: Fit, names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    own: dict[str, NDArray[np.float64]] = {}
    if any(name.startswith(CLASS_COUNT_PREFIX) for name in names):
        own |= _class_counts(measurements, names)
    if CLASS_SURPRISE in names:
        own[CLASS_SURPRISE] = _class_surprise(measurements, fit.class_shares)
    if fit.embedding is not None and any(name.startswith(EMBEDDING_PREFIX) for name in names):
        own |= embedding_columns([m.embedding for m in measurements], fit.embedding)
    return own


def _class_counts(
    measurements: Sequence[Measurement], names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    # By the names alone: references from before have no fit.
    suffixes = [
        n.removeprefix(CLASS_COUNT_PREFIX) for n in names if n.startswith(CLASS_COUNT_PREFIX)
    ]
    class_ids = [int(suffix) for suffix in suffixes if suffix.isdecimal()]
    position = {class_id: column for column, class_id in enumerate(class_ids)}
    table = np.zeros((len(measurements), len(class_ids) + 1))
    for row, measured in enumerate(measurements):
        for found in measured.detections:
            table[row, position.get(found[0], len(class_ids))] += 1
    counts = {f"{CLASS_COUNT_PREFIX}{class_id}": table[:, at] for class_id, at in position.items()}
    return {**counts, OTHER_CLASSES: table[:, -1]}


def _class_surprise(
    measurements: Sequence[Measurement], shares: Mapping[int, float]
) -> NDArray[np.float64]:
    left = 1 - math.fsum(sorted(shares.values()))
    unseen = -math.log(max(left, _SMALLEST_SHARE))
    known = {class_id: -math.log(max(share, _SMALLEST_SHARE)) for class_id, share in shares.items()}
    means = np.full(len(measurements), np.nan)
    for row, measured in enumerate(measurements):
        if measured.detections:
            surprises = [known.get(found[0], unseen) for found in measured.detections]
            means[row] = math.fsum(surprises) / len(surprises)
    return means


def _commonest(weights: Mapping[int, float], count: int) -> list[int]:
    # Ties by id: the same samples give the same classes.
    return sorted(weights, key=lambda class_id: (-weights[class_id], class_id))[:count]
