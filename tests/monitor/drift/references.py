"""References and streams for the tests of drift."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.ranks import Values, rank_values
from monitor.summaries import ALL_SAMPLES, HOURS_OF_DAY, SliceSummary, Stratum

NIGHT = frozenset({0, 1, 2, 3, 4, 5})


def names(count: int) -> list[str]:
    """Names of that many features."""
    return [f"f{number}" for number in range(count)]


def stratum(values: NDArray[np.floating], hours: frozenset[int] = HOURS_OF_DAY) -> Stratum:
    """A stratum of the columns of some values."""
    ranked = {
        name: rank_values(values[:, column], limit=256)
        for column, name in enumerate(names(values.shape[1]))
    }
    return Stratum(hours, ranked)


def summary(*strata: Stratum) -> SliceSummary:
    """All samples, in some strata."""
    return SliceSummary(ALL_SAMPLES, tuple(strata))


def normal(rng: np.random.Generator, count: int, features: int, *, shift: float = 0.0) -> Values:
    """Independent values around `shift`, of deviation 1."""
    return rng.normal(shift, 1.0, (count, features)).astype(np.float32)


def noons(count: int) -> NDArray[np.int64]:
    """The hour of so many samples, all at noon."""
    return np.full(count, 12)


def column(values: Sequence[float]) -> Values:
    """One feature's values as a matrix."""
    return np.array(values, np.float32)[:, None]
