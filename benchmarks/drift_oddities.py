"""Inputs that must have a defined result: what the monitor does with each, as a table of whether it did.

Rules: a check that raises anything but the monitor's own errors fails, and its name says what was tried.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from monitor.drift.bets import Bets
from monitor.drift.evidence import Observed, no_evidence, observe
from monitor.drift.levels import Level, level_of_all
from monitor.drift.scores import score_window
from monitor.ranks import Values
from monitor.records import FeatureScore, Measurement, NotReadyError, Window
from monitor.windows.summarise import ReferenceSample, summarise

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.drift_pool import CLEAN, Pool
    from benchmarks.drift_references import DrawnReference, draw_reference, table_of
    from benchmarks.drift_streams import ALPHA, Order, bets_of, reference_of
else:
    from drift_pool import CLEAN, Pool
    from drift_references import DrawnReference, draw_reference, table_of
    from drift_streams import ALPHA, Order, bets_of, reference_of

_NOON = 12
_WINDOW = 50


@dataclass(frozen=True, slots=True)
class World:
    """A monitor that watches, the clean rows, and how many samples come at once."""

    reference: DrawnReference
    bets: Bets
    level: Level
    rows: tuple[Measurement, ...]
    many: int

    def observe(self, rows: list[Measurement]) -> Observed:
        """What the evidence makes of some samples."""
        return self.observe_values(table_of(self.reference, rows))

    def observe_values(self, values: Values) -> Observed:
        """The same of a table."""
        hours = np.full(len(values), _NOON)
        limit = self.level.firing
        observed = observe(self.bets, no_evidence(self.bets), values, hours, limit=limit)
        evidence = observed.evidence
        if not np.isfinite(evidence.log_growth).all() or np.isnan(evidence.log_value).any():
            raise ArithmeticError("evidence that is no number")
        return observed

    def score(self, rows: list[Measurement]) -> tuple[FeatureScore, ...]:
        """The windowed scores of some samples."""
        values = table_of(self.reference, rows).astype(np.float64)
        window = Window(
            features=dict(zip(self.reference.names, values.T, strict=True)),
            sample_count=len(values),
        )
        ranked = self.reference.summary.slices[0].strata[0].features
        scores = score_window(ranked, window, features=self.reference.names, alpha=ALPHA)
        if not all(0 <= score.score <= 1 for score in scores):
            raise ArithmeticError("a score outside 0..1")
        return scores


def try_oddities(pool: Pool, *, many: int) -> dict[str, bool]:
    """Whether each odd input has the result it should have. many: the samples that come at once."""
    reference = reference_of(pool, Order(1000, 0))
    level = level_of_all(ALPHA, has_slices=False)
    world = World(reference, bets_of(reference, level), level, pool.rows[CLEAN], many)
    return {name: _holds(name, check, world) for name, check in CHECKS.items()}


def _holds(name: str, check: Callable[[World], bool], world: World) -> bool:
    try:
        return check(world)
    except Exception as exc:  # noqa: BLE001  (whatever it is, it is a crash, and the others are still tried)
        sys.stderr.write(f"{name}: {type(exc).__name__}: {exc}\n")
        return False


def _unseen_class(world: World) -> bool:
    """One box of a class that nobody saw is no drift; every box of it is."""
    row = world.rows[0]
    strange = replace(row, detections=((9999, 0.5, 0.0, 0.0, 10.0, 10.0), *row.detections))
    some = [strange, *world.rows[1:20]]
    all_strange = [
        replace(each, detections=tuple((9999, *found[1:]) for found in each.detections))
        for each in world.rows
    ]
    world.score(all_strange)
    return not world.observe(some).has_crossed and world.observe(all_strange * 4).has_crossed


def _all_empty(world: World) -> bool:
    """A window in which nothing is found is drift, by missing values."""
    empty = [_without_boxes(row) for row in (world.rows * _WINDOW)[:_WINDOW]]
    scores = {score.feature: score for score in world.score(empty)}
    return world.observe(empty).has_crossed and scores["max_confidence"].is_drifted


def _without_boxes(row: Measurement) -> Measurement:
    lost = {name for name in row.features if "confidence" in name or "box" in name}
    lost |= {"mean_overlap"} & row.features.keys()
    found: dict[str, float | None] = {"detection_count": 0.0, "class_variety": 0.0}
    return replace(
        row, detections=(), features={**row.features, **found, **dict.fromkeys(lost, None)}
    )


def _no_number(world: World) -> bool:
    """NaN and infinity count as missing or as the largest number; what is compared has neither."""
    broken = [
        replace(row, features={**row.features, "noise": value})
        for row, value in zip(world.rows, (np.nan, np.inf, -np.inf, 1e300), strict=False)
    ]
    values = table_of(world.reference, broken)
    world.score(broken)
    world.observe(broken)
    return not np.isnan(values).any() and not np.isposinf(values).any()


def _one_sample(world: World) -> bool:
    """One sample is watched and scored, and too few for a reference, which says so."""
    rows = [world.rows[0]]
    world.score(rows)
    try:
        summarise([ReferenceSample(rows[0])])
    except NotReadyError as exc:
        return "100" in str(exc) and world.observe(rows).used == 1
    return False


def _no_sample(world: World) -> bool:
    """Nothing is nothing."""
    observed = world.observe_values(np.zeros((0, len(world.reference.names)), np.float32))
    return (observed.used, observed.largest, observed.has_crossed) == (0, 0.0, False)


def _constant_feature(world: World) -> bool:
    """A number that is always the same rings only when it changes."""
    rows = tuple(replace(row, features={"width": 640.0}) for row in world.rows)
    picks = np.arange(1000) % len(rows)
    reference = draw_reference(rows, picks)
    constant = replace(world, reference=reference, bets=bets_of(reference, world.level), rows=rows)
    clean = constant.observe([rows[index] for index in picks.tolist()])
    wider = [replace(row, features={"width": 641.0}) for row in rows]
    return not clean.has_crossed and constant.observe(wider).has_crossed


def _no_embedding(world: World) -> bool:
    """Without an embedding a sample is not known there; with one of another length its numbers are missing."""
    lengths: list[np.ndarray[tuple[int], np.dtype[np.float32]] | None] = [
        None,
        np.zeros(0, np.float32),
        np.ones(7, np.float32),
    ]
    rows = [replace(world.rows[0], embedding=each) for each in lengths]
    column = world.reference.names.index("embedding_residual")
    world.score(rows)
    world.observe(rows)
    without, *others = table_of(world.reference, rows)[:, column].tolist()
    return bool(np.isnan(without) and np.isneginf(others).all())


def _at_once(world: World) -> bool:
    """A great many clean samples in one call are all watched, and ring no alarm."""
    values = table_of(world.reference, world.rows)
    picks = np.random.default_rng(1).integers(len(values), size=world.many)
    return world.observe_values(values[picks]).used == world.many


CHECKS: Mapping[str, Callable[[World], bool]] = {
    "unseen_class": _unseen_class,
    "all_empty_window": _all_empty,
    "nan": _no_number,
    "one_sample": _one_sample,
    "no_sample": _no_sample,
    "constant_feature": _constant_feature,
    "no_embedding": _no_embedding,
    "a_million_at_once": _at_once,
}
