"""What watching for drift costs: a sample's features, an update of the evidence, the state; and that segments merge.

Times are processor time of one thread, which other work on the machine disturbs less.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from gateway.sampling.measure import measure
from gateway.store.embeddings import pack_embedding
from gateway.store.records import Detections
from monitor.drift.bets import Bets, plan_bets
from monitor.drift.evidence import Evidence, dump_evidence, merge, no_evidence, observe
from monitor.drift.levels import level_of_all
from monitor.ranks import Values
from monitor.records import Measurement
from monitor.windows.content import dump_summary
from monitor.windows.fitting import columns
from monitor.windows.summarise import ReferenceSample, summarise

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.drift_pool import CLEAN, Picture, Pool
    from benchmarks.drift_references import table_of
    from benchmarks.drift_streams import ALPHA, Order, bets_of, clean_picks, reference_of
else:
    from drift_pool import CLEAN, Picture, Pool
    from drift_references import table_of
    from drift_streams import ALPHA, Order, bets_of, clean_picks, reference_of

_BATCH_SAMPLES = 256
_NOON = 12
_MOST_SLICES = 16  # of MONITOR_MAX_SLICES
_SEGMENTS = 7


def measure_costs(pool: Pool, pictures: Sequence[Picture], *, repeats: int) -> dict[str, Any]:
    """The figures of one pool, for a reference of 1,000 samples."""
    order = Order(1000, 0)
    reference = reference_of(pool, order)
    bets = bets_of(reference, level_of_all(ALPHA, has_slices=True))
    rows = pool.rows[CLEAN]
    table = table_of(reference, rows)
    stream = table[clean_picks(pool, order, _BATCH_SAMPLES * 8)]
    hours = np.full(len(stream), _NOON)
    one_row = hours[:1]

    def update_in_batches() -> None:
        evidence = no_evidence(bets)
        for first in range(0, len(stream), _BATCH_SAMPLES):
            batch = slice(first, first + _BATCH_SAMPLES)
            evidence = observe(bets, evidence, stream[batch], hours[batch]).evidence

    def update_one_by_one() -> None:
        evidence = no_evidence(bets)
        for row in stream[:_BATCH_SAMPLES]:
            evidence = observe(bets, evidence, row[None], one_row).evidence

    def make_columns() -> None:
        columns(rows, fit=reference.summary.fit, names=reference.names)

    return {
        "feature_ms": round(_feature_milliseconds(pool, pictures, repeats=repeats), 3),
        "update_us": _microseconds(update_in_batches, len(stream), repeats),
        "update_one_by_one_us": _microseconds(update_one_by_one, _BATCH_SAMPLES, repeats),
        "columns_us": _microseconds(make_columns, len(rows), repeats),
        "features": len(reference.names),
        "bets": len(bets),
        **_state(pool, order),
        "merge_equal": merges_equally(bets, stream),
    }


def _feature_milliseconds(pool: Pool, pictures: Sequence[Picture], *, repeats: int) -> float:
    """Measuring one sample and packing its embedding, the median over pictures of the least of some repeats."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        taken = []
        for picture, row in zip(pictures, pool.rows[CLEAN], strict=True):
            found = _detections(row)

            def work(
                picture: Picture = picture, found: Detections = found, row: Measurement = row
            ) -> None:
                measure(picture.image, found, encoded_bytes=100_000)
                if row.embedding is not None:
                    pack_embedding(row.embedding)

            taken.append(min(_seconds(work) for _ in range(max(3, repeats))))
    finally:
        cv2.setNumThreads(threads)
    return statistics.median(taken) * 1e3


def _detections(row: Measurement) -> Detections:
    table = np.array(row.detections, np.float64).reshape(-1, 6)
    return Detections(
        boxes_xyxy=table[:, 2:].astype(np.float32),
        confidences=table[:, 1].astype(np.float32),
        class_ids=table[:, 0].astype(np.int64),
        candidate_count=len(table) * 10,
    )


def _state(pool: Pool, order: Order) -> dict[str, float]:
    """Kilobytes that a model version takes in the monitor's tables, bare and with as many cameras as may be."""
    sizes = {}
    rows = pool.rows[CLEAN]
    picks = clean_picks(pool, order, 5000).tolist()
    for name, cameras in (("state_kb", 0), ("state_16_slices_kb", _MOST_SLICES)):
        samples = [
            ReferenceSample(rows[pick], source=f"camera-{number % cameras}" if cameras else None)
            for number, pick in enumerate(picks)
        ]
        summary = summarise(samples, max_slices=cameras)
        features = tuple(summary.slices[0].strata[0].features)
        level = level_of_all(ALPHA, has_slices=cameras > 0)
        stored = dump_summary(summary).encode()
        for each in summary.slices:
            bets = plan_bets(each, features=features, alpha_reference=level.alpha_reference)
            stored += dump_evidence(no_evidence(bets))
        sizes[name] = round(len(stored) / 1024, 1)
    return sizes


def merges_equally(bets: Bets, stream: Values) -> bool:
    """Whether segments of a stream, watched apart, merge to what one pass gives."""
    cuts = np.sort(np.random.default_rng(1).integers(1, len(stream), size=_SEGMENTS - 1))
    ends = [0, *cuts.tolist(), len(stream)]
    merged = no_evidence(bets)
    for first, last in pairwise(ends):
        merged = merge(merged, _watched(bets, stream[first:last], start=first))
    whole = _watched(bets, stream, start=0)
    return (
        (merged.start, merged.count) == (whole.start, whole.count)
        and np.allclose(merged.log_value, whole.log_value, rtol=1e-9, atol=1e-9)
        and np.allclose(merged.log_growth, whole.log_growth, rtol=1e-9, atol=1e-9)
    )


def _watched(bets: Bets, stream: Values, *, start: int) -> Evidence:
    hours = np.full(len(stream), _NOON)
    return observe(bets, no_evidence(bets, start=start), stream, hours).evidence


def _microseconds(work: Callable[[], None], samples: int, repeats: int) -> float:
    return round(statistics.median(_seconds(work) for _ in range(repeats)) / samples * 1e6, 1)


def _seconds(work: Callable[[], None]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start
