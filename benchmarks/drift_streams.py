"""Streams against the monitor's evidence: how often it rings though nothing changed, and how soon if something did.

Rules: every trial draws a reference and streams of its own, from seeds that name the trial; nothing is tuned on them.
False alarms are counted at the level of a monitor without slices, detections at that of one with slices, which is half:
each at the harder of the two.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from monitor.drift.bets import Bets, plan_bets
from monitor.drift.levels import Level, level_of_all

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.drift_pool import CLEAN, Condition, Pool
    from benchmarks.drift_references import (
        DrawnReference,
        Numbers,
        Picks,
        draw_reference,
        factors_of,
        same_as_monitor,
        table_of,
        walk,
    )
else:
    from drift_pool import CLEAN, Condition, Pool
    from drift_references import (
        DrawnReference,
        Numbers,
        Picks,
        draw_reference,
        factors_of,
        same_as_monitor,
        table_of,
        walk,
    )

ALPHA = 0.01  # the default of MONITOR_DRIFT_ALPHA
CADENCES = (1, 10, 100)
# Clean samples before the change: a monitor that has watched a while has laid part of its stakes.
QUIET_SAMPLES = (0, 1000)
MIXED_SHARE = 0.2
SEED = 20_261_128
_SAME_CHECK_SAMPLES = 1000
Tried = TypeVar("Tried")


@dataclass(frozen=True, slots=True)
class Order:
    """One trial: how many samples its reference has, its number, and what is tried.

    clean_samples: of the clean stream; 0: none. changed: conditions of which a stream of at most `horizon` samples
    follows. mixed: those of which every fifth sample or so is, among clean ones, for at most `mixed_horizon` samples.
    is_checked: the shortcut is compared with the monitor's own pass.
    """

    reference_count: int
    number: int
    clean_samples: int = 0
    changed: tuple[Condition, ...] = ()
    horizon: int = 200
    mixed: tuple[Condition, ...] = ()
    mixed_horizon: int = 1000
    is_checked: bool = False
    alpha: float = ALPHA
    quiet_samples: tuple[int, ...] = QUIET_SAMPLES


Delays = Mapping[tuple[Condition, int], int | None]


@dataclass(frozen=True, slots=True)
class Trial:
    """How an order went.

    rang: whether the clean stream rang, by cadence. changed, mixed: samples until it rang, by condition and quiet
    samples before; None: not within the horizon. is_same: whether the check held; None if there was none.
    """

    order: Order
    rang: Mapping[int, bool]
    changed: Delays
    mixed: Delays
    is_same: bool | None = None


class Workers:
    """A process a core, each with the pool and one thread for the libraries."""

    def __init__(self, pool: Pool) -> None:
        # Read when they start: more threads would only be in each other's way.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        self._executor = ProcessPoolExecutor(
            len(os.sched_getaffinity(0)),
            # The detector's threads are running: forked, its locks could be held for ever.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_remember,
            initargs=(pool,),
        )

    def __enter__(self) -> Self:
        """Use them."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """End them."""
        self._executor.shutdown(cancel_futures=True)

    def try_all(
        self, trying: Callable[[Pool, Order], Tried], orders: Sequence[Order]
    ) -> Iterator[Tried]:
        """What `trying`, a function of a module, makes of each order, in their order."""
        return self._executor.map(partial(_try_remembered, trying), orders)

    def call(self, work: Callable[..., Tried], *arguments: Any, **options: Any) -> Tried:
        """The result of a function of a module, with nothing else going on."""
        return self._executor.submit(work, *arguments, **options).result()


_POOLS: list[Pool] = []  # the one of a worker process, sent once


def _remember(pool: Pool) -> None:
    _POOLS[:] = [pool]


def _try_remembered(trying: Callable[[Pool, Order], Tried], order: Order) -> Tried:
    return trying(_POOLS[0], order)


def reference_of(pool: Pool, order: Order) -> DrawnReference:
    """The reference that an order's streams are compared with."""
    rows = pool.rows[CLEAN]
    picks = _rng(order, "reference").integers(len(rows), size=order.reference_count)
    return draw_reference(rows, picks)


def clean_picks(pool: Pool, order: Order, count: int) -> Picks:
    """The clean stream of an order."""
    return _rng(order, "clean").integers(len(pool.rows[CLEAN]), size=count)


def changed_picks(
    pool: Pool, order: Order, condition: Condition, quiet: int, *, count: int, share: float
) -> Picks:
    """What follows `quiet` clean samples: clean rows and, after them, the condition's, for a share of the samples."""
    rng = _rng(order, f"{condition.text} {quiet} {share}")
    rows = len(pool.rows[CLEAN])
    is_changed = rng.random(count) < share
    return rng.integers(rows, size=count) + rows * is_changed


def _rng(order: Order, purpose: str) -> np.random.Generator:
    name = f"{SEED} {order.reference_count} {order.number} {purpose}"
    return np.random.default_rng(list(name.encode()))


def try_order(pool: Pool, order: Order) -> Trial:
    """Draw the reference and the streams, and watch them."""
    reference = reference_of(pool, order)
    rang, is_same = _watch_clean(pool, reference, order)
    changed: dict[tuple[Condition, int], int | None] = {}
    mixed: dict[tuple[Condition, int], int | None] = {}
    if order.changed or order.mixed:
        watch = _Watch(pool, order, reference, level_of_all(order.alpha, has_slices=True))
        for quiet in order.quiet_samples:
            watch.pass_quietly(quiet)
            for condition in order.changed:
                changed[condition, quiet] = watch.delay(condition, order.horizon)
            for condition in order.mixed:
                mixed[condition, quiet] = watch.delay(
                    condition, order.mixed_horizon, share=MIXED_SHARE
                )
    return Trial(order, rang, changed, mixed, is_same)


def _watch_clean(
    pool: Pool, reference: DrawnReference, order: Order
) -> tuple[dict[int, bool], bool | None]:
    if not order.clean_samples:
        return {}, None
    level = level_of_all(order.alpha, has_slices=False)
    bets = bets_of(reference, level)
    table = table_of(reference, pool.rows[CLEAN])
    picks = clean_picks(pool, order, order.clean_samples)
    totals = np.array(walk(np.zeros(len(bets)), factors_of(bets, table), picks, before=0))
    rang = {
        cadence: bool((totals[cadence - 1 :: cadence] >= level.firing).any())
        for cadence in CADENCES
    }
    is_same = (
        same_as_monitor(bets, table, picks[:_SAME_CHECK_SAMPLES]) if order.is_checked else None
    )
    return rang, is_same


def bets_of(reference: DrawnReference, level: Level) -> Bets:
    """The bets that the monitor makes against the reference."""
    of_all = reference.summary.slices[0]
    return plan_bets(of_all, features=reference.names, alpha_reference=level.alpha_reference)


class _Watch:
    """The evidence after some clean samples, from which every change is tried anew."""

    def __init__(self, pool: Pool, order: Order, reference: DrawnReference, level: Level) -> None:
        self._pool = pool
        self._order = order
        self._reference = reference
        self._limit = level.firing
        self._bets = bets_of(reference, level)
        self._clean = self._factors(CLEAN)
        self._known: dict[Condition, Numbers] = {}
        self._quiet = 0
        self._stakes = np.zeros(len(self._bets))

    def pass_quietly(self, samples: int) -> None:
        """Begin again, with so many samples of the clean stream."""
        self._quiet = samples
        self._stakes = np.zeros(len(self._bets))
        walk(self._stakes, self._clean, clean_picks(self._pool, self._order, samples), before=0)

    def delay(self, condition: Condition, horizon: int, *, share: float = 1.0) -> int | None:
        """Samples after the change until the alarm rings; share: of them that are of the condition."""
        if condition not in self._known:
            self._known[condition] = self._factors(condition)
        factors = np.concatenate((self._clean, self._known[condition]))
        picks = changed_picks(
            self._pool, self._order, condition, self._quiet, count=horizon, share=share
        )
        totals = walk(self._stakes.copy(), factors, picks, before=self._quiet, limit=self._limit)
        return len(totals) if totals[-1] >= self._limit else None

    def _factors(self, condition: Condition) -> Numbers:
        return factors_of(self._bets, table_of(self._reference, self._pool.rows[condition]))
