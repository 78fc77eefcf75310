"""The two sides of a comparison for people: current samples, and values that stand for a reference. Pure."""

from collections.abc import Collection, Sequence

import numpy as np

from monitor.ranks import equally_likely, merge_ranked
from monitor.records import FeatureArray, Measurement, Window
from monitor.summaries import Fit, ReferenceSummary, Slice, Stratum
from monitor.windows.fitting import columns

# Of the strata of a slice together: plenty for a picture.
_RANKS = 400


def window_of(measurements: Sequence[Measurement], *, fit: Fit, names: Sequence[str]) -> Window:
    """Measurements as a window: one float64 array a name, in their order; a missing value is -inf."""
    table = columns(measurements, fit=fit, names=names).astype(np.float64)
    return Window(
        features={name: table[:, column] for column, name in enumerate(names)},
        sample_count=len(measurements),
    )


def reference_window(
    summary: ReferenceSummary, of: Slice, *, count: int, hours: Collection[int] | None = None
) -> Window:
    """Values that stand for one slice of a reference, at most `count` of each feature.

    hours: UTC hours of what it is shown beside; strata of none of them are left out, unless all are. Arrays are as long
    as there were samples to rank, at most count, and hold no samples: values at one place belong to different ones.
    sample_count: of these strata. Raises KeyError if the reference does not tell the slice apart.
    """
    strata = {each.slice: each.strata for each in summary.slices}[of]
    if hours is not None:
        strata = tuple(s for s in strata if not s.hours.isdisjoint(hours)) or strata
    return Window(
        features={name: _likely(strata, name, count) for name in strata[0].features},
        sample_count=sum(_stratum_count(stratum) for stratum in strata),
    )


def _likely(strata: Sequence[Stratum], name: str, count: int) -> FeatureArray:
    parts = [stratum.features[name] for stratum in strata]
    ranked = parts[0] if len(parts) == 1 else merge_ranked(parts, limit=_RANKS)
    return equally_likely(ranked, count=count)


def _stratum_count(stratum: Stratum) -> int:
    return max(ranked.sample_count for ranked in stratum.features.values())
