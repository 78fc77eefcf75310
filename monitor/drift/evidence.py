"""Evidence against "nothing changed", sample by sample, with a promise that holds for ever. Pure numpy.

What it promises: if reference and stream are drawn independently from one distribution (that of its hour, where the
reference tells hours apart), the chance that the evidence of any sample ever reaches 1 / alpha_stream is at most
alpha_stream, plus alpha_reference for the reference; for every size of the reference, however long the stream and
however often one looks. What it does not promise: anything for samples that depend on each other, as neighbouring
frames of a camera do; thinning them by time is the caller's work.

How: a change may have come before any sample. A share w(j) of the stakes waits for the j-th sample and is laid on all
bets then; the shares of all times to come sum to 1, and no bet is expected to grow (monitor.drift.bets), so the mean
over all bets is a supermartingale that starts at 0 and was given 1 in all, and Ville's inequality bounds its largest
value. Averaging needs nothing about how features depend on each other. Shares shrink hardly faster than 1 / j, so what
a change costs after a long quiet time grows with the logarithm of that time.
Sources: J. Ville, Etude critique de la notion de collectif, 1939; J. Shin, A. Ramdas and A. Rinaldo, E-detectors,
arXiv 2203.03532 (sums over starts); G. Shafer, Testing by betting, J. Royal Statistical Society A 184, 2021.

Rules: evidence over a segment is an affine map of the evidence before it, so segments merge to what one pass gives;
what is stored is rounded down, which can only delay an alarm.
"""

from dataclasses import dataclass
from math import inf, log

import numpy as np
from numpy.typing import NDArray

from monitor.drift.bets import BETS_OF_FEATURE, Bets
from monitor.ranks import Values

Numbers = NDArray[np.float64]

# Starts up to about this have nearly the same share.
_EVEN_STARTS = 64
# Evidence beyond is told apart no further; far below the largest double, so that no product overflows.
_MAX_EVIDENCE = 1e250
_CHUNK_SAMPLES = 256
_STORED = np.dtype("<f4")
_COUNTS = np.dtype("<i8")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence of a segment of the stream, for each bet.

    start: how many samples came before it. count: its samples. log_value: float64 (C,), ln of the evidence if there
    was none before it; -inf at first. log_growth: float64 (C,), ln of what it multiplies evidence from before by.
    """

    start: int
    count: int
    log_growth: Numbers
    log_value: Numbers


@dataclass(frozen=True, slots=True)
class Observed:
    """What samples added. used: how many were taken; all unless has_crossed, when it ends with the crossing one.

    largest: of the evidence after each of them; 0 if there were none.
    """

    evidence: Evidence
    used: int
    largest: float
    has_crossed: bool = False


def no_evidence(bets: Bets, *, start: int = 0) -> Evidence:
    """The evidence before the first sample of a segment that begins after `start` others."""
    return Evidence(start, 0, np.zeros(len(bets)), np.full(len(bets), -inf))


def observe(
    bets: Bets,
    evidence: Evidence,
    values: Values,
    hours: NDArray[np.int64],
    *,
    limit: float = inf,
) -> Observed:
    """The evidence after more samples, up to the first at which it reaches `limit`.

    values: float32 (T, F), columns as in bets.features, -inf for missing; NaN, of what is not known, wins no bet.
    hours: int (T,), of the day in UTC,
    0..23; samples of an hour that the reference does not know count as used and change nothing.
    """
    strata = bets.stratum_of_hour[hours]
    stakes = np.exp(evidence.log_value)
    after, largest = evidence, 0.0
    for first in range(0, len(values), _CHUNK_SAMPLES):
        known = first + np.flatnonzero(strata[first : first + _CHUNK_SAMPLES] >= 0)
        is_beyond = _is_beyond(bets, values[known], strata[known])
        factors = _by_outcome(bets.win, bets.lose, is_beyond, strata[known])
        shares = start_shares(after.start + after.count, len(known)).tolist()
        taken, has_crossed = len(known), False
        for row, share in enumerate(shares):
            stakes += share
            stakes *= factors[row]
            total = min(float(stakes.mean()), _MAX_EVIDENCE)
            largest = max(largest, total)
            if total >= _MAX_EVIDENCE:
                np.minimum(stakes, _MAX_EVIDENCE, out=stakes)
            if total >= limit:
                taken, has_crossed = row + 1, True
                break
        # Of one sample it is what that one multiplies by: the same numbers for a fifth of the time.
        growth = (
            np.log(factors[0])
            if taken == 1
            else _growth(bets, is_beyond[:taken], strata[known[:taken]])
        )
        after = Evidence(
            start=after.start,
            count=after.count + taken,
            log_growth=after.log_growth + growth,
            log_value=_log(stakes),
        )
        if has_crossed:
            return Observed(after, int(known[taken - 1]) + 1, largest, has_crossed=True)
    return Observed(after, len(values), largest)


def log_factors(bets: Bets, values: Values, hours: NDArray[np.int64]) -> Numbers:
    """What each sample multiplies each bet by: ln, float64 (T, F, BETS_OF_FEATURE). See observe for the rest."""
    strata = bets.stratum_of_hour[hours]
    known = np.flatnonzero(strata >= 0)
    is_beyond = _is_beyond(bets, values[known], strata[known])
    factors = np.zeros((len(values), len(bets)))
    factors[known] = np.log(_by_outcome(bets.win, bets.lose, is_beyond, strata[known]))
    return factors.reshape(len(values), len(bets.features), BETS_OF_FEATURE)


def start_shares(before: int, count: int) -> Numbers:
    """The shares of the stakes that wait for the next `count` samples after `before` others; all to come sum to 1."""
    times = np.arange(before, before + count + 1, dtype=np.float64)
    waiting = 1 / (1 + np.log1p(times / _EVEN_STARTS))
    return waiting[:-1] - waiting[1:]


def merge(first: Evidence, second: Evidence) -> Evidence:
    """The evidence of two segments, of which the second begins where the first ends.

    Raises ValueError if it does not, or they are of different bets.
    """
    if first.start + first.count != second.start:
        raise ValueError(
            f"the second segment begins after {second.start} samples, the first ends after "
            f"{first.start + first.count}"
        )
    if len(first.log_value) != len(second.log_value):
        raise ValueError("the segments are of different bets")
    value = np.logaddexp(second.log_growth + first.log_value, second.log_value)
    return Evidence(
        start=first.start,
        count=first.count + second.count,
        log_growth=first.log_growth + second.log_growth,
        log_value=np.minimum(value, np.log(_MAX_EVIDENCE)),
    )


def log10_total(evidence: Evidence) -> float:
    """log10 of the evidence, which is compared with that of Level.firing; -inf before the first sample."""
    mean = float(np.logaddexp.reduce(evidence.log_value)) - log(len(evidence.log_value))
    return mean / log(10)


def log10_by_feature(bets: Bets, evidence: Evidence) -> dict[str, float]:
    """log10 of what each feature adds to the evidence."""
    by_feature = evidence.log_value.reshape(len(bets.features), BETS_OF_FEATURE)
    shares = np.logaddexp.reduce(by_feature, axis=1) - np.log(len(evidence.log_value))
    return dict(zip(bets.features, (shares / np.log(10)).tolist(), strict=True))


def dump_evidence(evidence: Evidence) -> bytes:
    """The stored form: start and count, then value as float32, rounded down; of a later segment growth before it.

    Before a segment that begins the stream there is nothing that could grow.
    """
    counts = np.array([evidence.start, evidence.count], _COUNTS).tobytes()
    growth = _rounded_down(evidence.log_growth) if evidence.start > 0 else b""
    return counts + growth + _rounded_down(evidence.log_value)


def parse_evidence(content: bytes, *, bets: Bets) -> Evidence:
    """The evidence that dump_evidence stored. Raises ValueError if it is not of these bets or not evidence at all."""
    head = 2 * _COUNTS.itemsize
    if len(content) < head:
        raise ValueError(f"{len(content)} bytes are not evidence")
    start, count = np.frombuffer(content[:head], _COUNTS).tolist()
    if start < 0 or count < 0:
        raise ValueError("the evidence of fewer samples than none")
    rows = 2 if start > 0 else 1
    if len(content) != head + rows * _STORED.itemsize * len(bets):
        raise ValueError(f"{len(content)} bytes are not the evidence of {len(bets)} bets")
    numbers = np.frombuffer(content[head:], _STORED).reshape(rows, len(bets)).astype(np.float64)
    value = numbers[-1]
    growth = numbers[0] if start > 0 else np.zeros(len(bets))
    if not np.isfinite(growth).all() or not (value <= np.log(_MAX_EVIDENCE)).all():
        raise ValueError("these bytes are not evidence")
    return Evidence(start, count, growth, value)


def _is_beyond(bets: Bets, values: Values, strata: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each value lies beyond each limit: bool (T, F, 10)."""
    limits = bets.limits[strata]
    half = limits.shape[2] // 2
    columns = values[:, :, None]
    return np.concatenate((columns > limits[..., :half], columns < limits[..., half:]), axis=2)


def _by_outcome(
    if_beyond: Numbers, otherwise: Numbers, is_beyond: NDArray[np.bool_], strata: NDArray[np.int64]
) -> Numbers:
    """One of two numbers of each bet, by its stratum and outcome: (S, F, 10, 3) twice to float64 (T, C)."""
    shape = len(is_beyond), if_beyond[0].size
    met = _met(strata)
    if len(met) == 1:
        only = met[0]
        alone: Numbers = np.where(is_beyond[..., None], if_beyond[only], otherwise[only])
        return alone.reshape(shape)
    chosen = np.empty((*is_beyond.shape, if_beyond.shape[-1]))
    for stratum in met:
        of_stratum = strata == stratum
        chosen[of_stratum] = np.where(
            is_beyond[of_stratum][..., None], if_beyond[stratum], otherwise[stratum]
        )
    return chosen.reshape(shape)


def _growth(bets: Bets, is_beyond: NDArray[np.bool_], strata: NDArray[np.int64]) -> Numbers:
    """ln of the product of what some samples multiply each bet by: float64 (C,)."""
    growth = np.zeros(bets.win.shape[1:])
    met = _met(strata)
    for stratum in met:
        of_stratum = is_beyond if len(met) == 1 else is_beyond[strata == stratum]
        beyond = of_stratum.sum(axis=0)[..., None]
        growth += beyond * np.log(bets.win[stratum])
        growth += (len(of_stratum) - beyond) * np.log(bets.lose[stratum])
    return growth.ravel()


def _met(strata: NDArray[np.int64]) -> list[int]:
    """The strata that stand among some, in order; nearly always one, and sorting costs more than the sample then."""
    found: list[int] = sorted(set(strata.tolist()))
    return found


def _log(stakes: Numbers) -> Numbers:
    with np.errstate(divide="ignore"):
        return np.log(stakes)


def _rounded_down(logs: Numbers) -> bytes:
    with np.errstate(over="ignore"):
        near = logs.astype(_STORED)
    below = np.nextafter(near, np.float32(-inf), dtype=np.float32)
    return np.where(near.astype(np.float64) > logs, below, near).astype(_STORED).tobytes()
