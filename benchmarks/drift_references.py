"""References and streams drawn from a pool: rows of measurements become bets, and what each row does to them.

Rules: a reference is a draw with replacement from the pool's clean rows, and made by the monitor's own hand. A stream
is a row of indices. Because all its samples are among a pool's few rows, what each multiplies the bets by is looked up;
the numbers are those of monitor.drift.evidence to the last bit, which `same_as_monitor` checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from monitor.drift.bets import Bets
from monitor.drift.evidence import no_evidence, observe, start_shares
from monitor.ranks import Values
from monitor.records import Measurement
from monitor.summaries import ReferenceSummary
from monitor.windows.fitting import columns
from monitor.windows.summarise import ReferenceSample, summarise

Picks = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DrawnReference:
    """A reference made of rows of a pool. picks: which, int64 (n,)."""

    picks: Picks
    summary: ReferenceSummary

    @property
    def names(self) -> tuple[str, ...]:
        """Its features, in the order of columns."""
        return tuple(self.summary.slices[0].strata[0].features)


def draw_reference(rows: Sequence[Measurement], picks: Picks) -> DrawnReference:
    """The reference of the picked rows, in their order."""
    samples = [ReferenceSample(rows[index]) for index in picks.tolist()]
    return DrawnReference(picks, summarise(samples))


def table_of(reference: DrawnReference, rows: Sequence[Measurement]) -> Values:
    """The rows as the reference's columns: float32 (rows, F)."""
    return columns(rows, fit=reference.summary.fit, names=reference.names)


def factors_of(bets: Bets, table: Values) -> Numbers:
    """What each row multiplies each bet by: float64 (rows, C)."""
    half = bets.limits.shape[2] // 2
    values = table[:, :, None]
    beyond = np.concatenate(
        (values > bets.limits[0, :, :half], values < bets.limits[0, :, half:]), axis=2
    )
    factors: Numbers = np.where(beyond[..., None], bets.win[0], bets.lose[0])
    return factors.reshape(len(table), len(bets))


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
