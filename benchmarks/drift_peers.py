"""The same streams through what others would use: Evidently's defaults, KS with Bonferroni, Alibi's online MMD.

Rules: each peer decides by its own code; it sees the same features, the same references and the same first samples as
the evidence does; those that judge windows get consecutive ones of as many samples as the target allows. What is slow
is bounded by time, and says how many windows it judged.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitor.drift.scores import score_window
from monitor.ranks import Values
from monitor.records import Window

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.drift_pool import CLEAN, ROOT, Condition, Pool
    from benchmarks.drift_references import DrawnReference, table_of
    from benchmarks.drift_streams import (
        ALPHA,
        Order,
        changed_picks,
        clean_picks,
        reference_of,
    )
else:
    from drift_pool import CLEAN, ROOT, Condition, Pool
    from drift_references import DrawnReference, table_of
    from drift_streams import ALPHA, Order, changed_picks, clean_picks, reference_of

SEV3_SAMPLES, SEV1_SAMPLES = 30, 50
ALIBI_HORIZON = 200
_HERE = Path(__file__).resolve().parent
# Of a verdict that has no time of its own: starting it, and the window in hand.
_GRACE_SECONDS = 180


@dataclass(frozen=True, slots=True)
class KsTrial:
    """Whether any score is above its threshold, in each clean window and in the one after each change."""

    order: Order
    clean: tuple[bool, ...]
    changed: dict[Condition, bool]


def try_ks(pool: Pool, order: Order) -> KsTrial:
    """The windowed scores of the monitor, which are KS with an exact threshold shared between the features."""
    reference = reference_of(pool, order)
    clean = _windows(_clean_stream(pool, reference, order), SEV3_SAMPLES)
    return KsTrial(
        order,
        tuple(_is_drifted(reference, window) for window in clean),
        {
            condition: _is_drifted(reference, _changed_window(pool, reference, order, condition))
            for condition in order.changed
        },
    )


def _is_drifted(reference: DrawnReference, values: Values) -> bool:
    window = Window(
        features={
            name: values[:, column].astype(np.float64)
            for column, name in enumerate(reference.names)
        },
        sample_count=len(values),
    )
    ranked = reference.summary.slices[0].strata[0].features
    scores = score_window(ranked, window, features=reference.names, alpha=ALPHA)
    return any(score.is_drifted for score in scores)


def ask_evidently(
    pool: Pool, orders: Sequence[Order], *, windows: int, seconds: float
) -> dict[str, Any]:
    """Evidently's shares of drifted columns, by reference size and condition: as many windows as the time allows.

    windows: clean ones of each order.
    """
    asked: list[tuple[Order, Condition]] = []
    job: dict[str, Any] = {}
    for order, condition, reference, window in _evidently_windows(pool, orders, windows):
        index = len(asked)
        asked.append((order, condition))
        job[f"window_{index}"] = _with_nan(window)
        job[f"size_{index}"] = order.reference_count
        job[f"reference_{order.reference_count}"] = _with_nan(reference)
    answer = _run(
        [sys.executable, str(_HERE / "drift_evidently.py")], job, str(seconds), limit=seconds
    )
    if isinstance(answer, str):
        return {"skipped": answer}
    judged = list(zip(asked, answer["shares"], strict=False))
    sizes = sorted({order.reference_count for order, _ in asked})
    of_size = {
        str(size): _evidently_row(
            [
                (condition, share)
                for (order, condition), share in judged
                if order.reference_count == size
            ]
        )
        for size in sizes
    }
    return {"preset_agrees": answer["preset_agrees"], "by_reference": of_size}


def _evidently_windows(
    pool: Pool, orders: Sequence[Order], windows: int
) -> Iterable[tuple[Order, Condition, Values, Values]]:
    """Windows of all kinds in turn, so that what time allows is some of each; one reference a size."""
    drawn = [(order, reference_of(pool, order)) for order in orders]
    conditions = drawn[0][0].changed
    for number in range(max(windows, len(conditions))):
        for order, reference in drawn:
            normal = table_of(reference, pool.rows[CLEAN])[reference.picks]
            if number < windows:
                clean = _clean_stream(pool, reference, order)
                yield order, CLEAN, normal, _windows(clean, SEV3_SAMPLES)[number]
            if number < len(conditions):
                changed = _changed_window(pool, reference, order, conditions[number])
                yield order, conditions[number], normal, changed


def _evidently_row(judged: Sequence[tuple[Condition, float | None]]) -> dict[str, Any]:
    by_severity = {
        "clean": [share for condition, share in judged if condition == CLEAN],
        "sev3_30": [share for condition, share in judged if condition.severity == 3],
        "sev1_harmful_50": [share for condition, share in judged if condition.severity == 1],
    }
    row: dict[str, Any] = {}
    for name, shares in by_severity.items():
        known = [share for share in shares if share is not None]
        row[name] = {
            "windows": len(shares),
            "raised": len(shares) - len(known),
            "dataset_drift": _mean([share >= 0.5 for share in known]),
            "any_column": _mean([share > 0 for share in known]),
        }
    return row


def ask_alibi(
    python: Path | None, pool: Pool, orders: Sequence[Order], *, clean_samples: int
) -> dict[str, Any]:
    """Alibi Detect's online MMD, if there is a Python that has it: alarms on clean streams, delays after changes."""
    if python is None or not python.exists():
        return {"skipped": "name a Python that has alibi-detect[torch] with --alibi-python"}
    asked: list[tuple[Order, Condition]] = []
    job: dict[str, Any] = {}
    for order in orders:
        reference = reference_of(pool, order)
        scale = _Scale(table_of(reference, pool.rows[CLEAN])[reference.picks])
        job[f"reference_{order.reference_count}"] = scale.normal
        streams = {CLEAN: _clean_stream(pool, reference, order)[:clean_samples]}
        for condition in order.changed:
            streams[condition] = _changed(pool, reference, order, condition, ALIBI_HORIZON)
        for condition, stream in streams.items():
            job[f"stream_{len(asked)}"] = scale(stream)
            job[f"size_{len(asked)}"] = order.reference_count
            asked.append((order, condition))
    answer = _run([str(python), str(_HERE / "drift_alibi.py")], job, limit=600)
    if isinstance(answer, str):
        return {"skipped": answer}
    rows: dict[str, dict[str, Any]] = {}
    for (order, condition), alarm in zip(asked, answer, strict=True):
        rows.setdefault(str(order.reference_count), {})[condition.text] = alarm
    return {"first_alarm_by_reference": rows}


class _Scale:
    """Numbers for a kernel: standardised by the reference; a missing value is one deviation below the smallest."""

    def __init__(self, normal: Values) -> None:
        known = np.where(np.isneginf(normal), np.nan, normal.astype(np.float64))
        self._lowest = np.nan_to_num(np.nanmin(known, axis=0))
        self._mean = np.nan_to_num(np.nanmean(known, axis=0))
        deviation = np.nan_to_num(np.nanstd(known, axis=0))
        self._deviation = np.where(deviation > 0, deviation, 1.0)
        self.normal = self(normal)

    def __call__(self, values: Values) -> Values:
        filled = np.where(np.isneginf(values), self._lowest - self._deviation, values)
        scaled: Values = ((filled - self._mean) / self._deviation).astype(np.float32)
        return scaled


def _clean_stream(pool: Pool, reference: DrawnReference, order: Order) -> Values:
    table = table_of(reference, pool.rows[CLEAN])
    return table[clean_picks(pool, order, order.clean_samples)]


def _changed(
    pool: Pool, reference: DrawnReference, order: Order, condition: Condition, count: int
) -> Values:
    rows = (*pool.rows[CLEAN], *pool.rows[condition])
    picks = changed_picks(pool, order, condition, 0, count=order.horizon, share=1.0)[:count]
    return table_of(reference, rows)[picks]


def _changed_window(
    pool: Pool, reference: DrawnReference, order: Order, condition: Condition
) -> Values:
    count = SEV1_SAMPLES if condition.severity == 1 else SEV3_SAMPLES
    return _changed(pool, reference, order, condition, count)


def _windows(stream: Values, samples: int) -> list[Values]:
    return [
        stream[first : first + samples] for first in range(0, len(stream) - samples + 1, samples)
    ]


def _with_nan(values: Values) -> NDArray[np.float64]:
    numbers = values.astype(np.float64)
    numbers[np.isneginf(numbers)] = np.nan
    return numbers


def _run(command: list[str], job: dict[str, Any], *more: str, limit: float) -> Any:
    """What a process prints about a job, or in words why it printed nothing."""
    environment = {**os.environ, "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory(prefix="gatewatch-bench-") as folder:
        path = Path(folder) / "job.npz"
        np.savez(path, **job)
        try:
            done = subprocess.run(
                [*command, str(path), *more],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=limit + _GRACE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"not done in {limit + _GRACE_SECONDS:.0f} seconds"
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it failed"
    return json.loads(done.stdout)


def _mean(flags: Sequence[bool]) -> float | None:
    return round(sum(flags) / len(flags), 4) if flags else None
