"""From samples to one array a feature. Pure.

Rules: a missing value is data and becomes -inf, below every number, so that "confidence is missing more often" shows
as drift; the counts of the reference's commonest classes are features too, bounded in number, with one for all others.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np

from gateway.store.queries.samples import FEATURE_NAME
from monitor.records import FeatureArray, InputError, Measurement, Window

# Each watched feature costs power (the level is shared between them) and a metric's label.
MAX_FEATURES = 64
MAX_COUNTED_CLASSES = 8
CLASS_COUNT_PREFIX = "class_count_"
OTHER_CLASSES = "class_count_other"
MISSING = -np.inf


def feature_names(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """Every feature these samples have, and counts of their commonest classes; the names a reference is made of.

    Raises InputError if there are more than MAX_FEATURES, or one has another name than FEATURE_NAME allows.
    """
    names = {name for measurement in measurements for name in measurement.features}
    for name in names:
        if not FEATURE_NAME.fullmatch(name):
            raise InputError(f"feature name {name[:40]!r} is not lower_case_words of at most 64")
    class_ids = Counter(
        detection[0] for measurement in measurements for detection in measurement.detections
    )
    # Ties by id: the same samples give the same names.
    commonest = sorted(class_ids, key=lambda class_id: (-class_ids[class_id], class_id))
    counted = {f"{CLASS_COUNT_PREFIX}{class_id}" for class_id in commonest[:MAX_COUNTED_CLASSES]}
    names |= counted | {OTHER_CLASSES}
    if len(names) > MAX_FEATURES:
        raise InputError(f"{len(names)} features, at most {MAX_FEATURES} can be watched at once")
    return tuple(sorted(names))


def build_window(
    measurements: Sequence[Measurement],
    *,
    names: Iterable[str],
    newest_request_id: str | None = None,
    newest_received_at: datetime | None = None,
) -> Window:
    """One float64 array for each name, one entry for each measurement, in their order; no NaN.

    names: of a reference; a feature that a measurement lacks is missing there.
    """
    wanted = tuple(names)
    class_ids = _class_ids(wanted)
    rows = [{**_class_counts(m, class_ids), **m.features} for m in measurements]
    return Window(
        features={name: _column(rows, name) for name in wanted},
        sample_count=len(rows),
        newest_request_id=newest_request_id,
        newest_received_at=newest_received_at,
    )


def _column(rows: Sequence[dict[str, float | None]], name: str) -> FeatureArray:
    values = (row.get(name) for row in rows)
    return np.array([MISSING if value is None else value for value in values], dtype=np.float64)


def _class_counts(measurement: Measurement, class_ids: frozenset[int]) -> dict[str, float | None]:
    counts: dict[str, float | None] = {f"{CLASS_COUNT_PREFIX}{i}": 0.0 for i in class_ids}
    found = Counter(detection[0] for detection in measurement.detections)
    others = 0
    for class_id, count in found.items():
        if class_id in class_ids:
            counts[f"{CLASS_COUNT_PREFIX}{class_id}"] = float(count)
        else:
            others += count
    counts[OTHER_CLASSES] = float(others)
    return counts


def _class_ids(names: Iterable[str]) -> frozenset[int]:
    suffixes = (
        name.removeprefix(CLASS_COUNT_PREFIX)
        for name in names
        if name.startswith(CLASS_COUNT_PREFIX)
    )
    return frozenset(int(suffix) for suffix in suffixes if suffix.isdecimal())
