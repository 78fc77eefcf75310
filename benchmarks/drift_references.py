"""References and streams drawn from a pool: rows of measurements become bets, and what each row does to them.

Rules: a reference is a draw with replacement from the pool's clean rows, and made as the monitor makes one:
what it defines itself is fitted on its even samples and ranked on its odd ones. A stream is a row of indices. Because
all its samples are among a pool's few rows, what a row multiplies the bets by is looked up; the numbers are those of
monitor.drift.evidence to the last bit, which `same_as_monitor` checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from monitor.drift.bets import Bets
from monitor.drift.evidence import no_evidence, observe, start_shares
from monitor.ranks import RankedValues, Values, rank_values
from monitor.records import Measurement
from monitor.summaries import ALL_SAMPLES, HOURS_OF_DAY, Fit, SliceSummary, Stratum
from monitor.windows.fitting import columns, feature_names, fit_reference, is_fitted

RANK_LIMIT = 256
Picks = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DrawnReference:
    """A reference made of rows of a pool. picks: which, int64 (n,)."""

    picks: Picks
    fit: Fit
    names: tuple[str, ...]
    summary: SliceSummary


def draw_reference(rows: Sequence[Measurement], picks: Picks) -> DrawnReference:
    """The reference of the picked rows, in their order."""
    fit = fit_reference([rows[index] for index in picks[::2].tolist()])
    names = feature_names([rows[index] for index in np.unique(picks).tolist()], fit=fit)
    table = columns(rows, fit=fit, names=names)
    ranked = {
        name: _ranked(table[:, column], picks[1::2] if is_fitted(name) else picks)
        for column, name in enumerate(names)
    }
    stratum = Stratum(HOURS_OF_DAY, ranked)
    return DrawnReference(picks, fit, names, SliceSummary(ALL_SAMPLES, (stratum,)))


def _ranked(values: Values, picks: Picks) -> RankedValues:
    return rank_values(values[picks], limit=RANK_LIMIT)


def table_of(reference: DrawnReference, rows: Sequence[Measurement]) -> Values:
    """The rows as the reference's columns: float32 (rows, F)."""
    return columns(rows, fit=reference.fit, names=reference.names)


def factors_of(bets: Bets, table: Values) -> Numbers:
    """What each row multiplies each bet by: float64 (rows, C)."""
    half = bets.limits.shape[2] // 2
    values = table[:, :, None]
    beyond = np.concatenate(
        (values > bets.limits[0, :, :half], values < bets.limits[0, :, half:]), axis=2
    )
    return np.where(beyond[..., None], bets.win[0], bets.lose[0]).reshape(len(table), len(bets))


def walk(
    stakes: Numbers, factors: Numbers, picks: Picks, *, before: int, limit: float = inf
) -> list[float]:
    """The evidence after each picked sample, up to the first that reaches the limit; changes the stakes in place.

    stakes: float64 (C,), each bet's evidence so far. before: how many samples came before.
    """
    totals: list[float] = []
    shares = start_shares(before, len(picks)).tolist()
    for row, share in zip(picks.tolist(), shares, strict=True):
        stakes += share
        stakes *= factors[row]
        total = float(stakes.mean())
        totals.append(total)
        if total >= limit:
            break
    return totals


def same_as_monitor(bets: Bets, table: Values, picks: Picks) -> bool:
    """Whether a walk gives exactly the largest evidence and the final one that the monitor's own pass gives."""
    stakes = np.zeros(len(bets))
    totals = walk(stakes, factors_of(bets, table), picks, before=0)
    noon = np.full(len(picks), 12)
    observed = observe(bets, no_evidence(bets), table[picks], noon)
    with np.errstate(divide="ignore"):
        ends_alike = np.array_equal(np.log(stakes), observed.evidence.log_value)
    return ends_alike and max(totals) == observed.largest
