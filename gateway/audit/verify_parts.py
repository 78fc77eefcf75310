"""Sharing the check of a large ledger among processes: hashing holds Python's lock, so threads would not help.

Rules: a part counts only if the tree before it, from which its process started, is the one that the parts before it
gave; where anything is not as it should be, the parts end, and who called goes on alone and says what it is.
"""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from sqlalchemy import Engine

from gateway.audit.verify_range import (
    RangeOrder,
    RangeReport,
    Subject,
    check_range,
    walk_records,
)
from gateway.audit.verify_tree import TreeWalk

# 256^2: such a part begins and ends at a stored node.
PART_RECORDS = 1 << 16
# A process takes about as long to start as 100,000 records to check.
_MIN_PARTS = 4


def walk_in_parts(
    engine: Engine,
    subject: Subject,
    walk: TreeWalk,
    *,
    end: int,
    workers: int,
    on_progress: Callable[[int], None],
) -> None:
    """Go on over whole parts, until what is left is small or something does not fit."""
    start = -(-walk.frontier.size // PART_RECORDS) * PART_RECORDS
    starts = range(start, end - PART_RECORDS + 1, PART_RECORDS)
    if workers < 2 or len(starts) < _MIN_PARTS:
        return
    if walk.frontier.size < start:
        fault = walk_records(engine, subject, walk, end=start, on_progress=on_progress)
        if fault is not None or not walk.is_clean:
            return
    orders = [_order(engine, subject, start) for start in starts]
    # Spawned: a fork would share the database's connections, and locks that other threads hold.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers - 1, context, initializer=_leave_interrupts) as pool:
        reports = _in_order([(order, pool.submit(check_range, order)) for order in orders])
        try:
            while (report := next(reports, None)) is not None and _join(walk, report):
                on_progress(walk.frontier.size)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _leave_interrupts() -> None:
    # Ctrl-C reaches every process of a terminal; the one that was called answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_order(
    parts: list[tuple[RangeOrder, Future[RangeReport | None]]],
) -> Iterator[RangeReport | None]:
    # While it waits for another process, this one checks what none has begun.
    done_here: dict[int, RangeReport | None] = {}
    ahead = 0
    for number, (_, part) in enumerate(parts):
        ahead = max(ahead, number)
        while number not in done_here and not part.done() and ahead < len(parts):
            order, later = parts[ahead]
            if later.cancel():
                done_here[ahead] = check_range(order)
            ahead += 1
        yield done_here[number] if number in done_here else _result(part)


def _order(engine: Engine, subject: Subject, start: int) -> RangeOrder:
    return RangeOrder(
        database_url=engine.url.render_as_string(hide_password=False),
        subject=subject,
        start=start,
        end=start + PART_RECORDS,
    )


def _result(part: Future[RangeReport | None]) -> RangeReport | None:
    try:
        return part.result()
    except BrokenProcessPool:
        # Killed, say for want of memory: who called goes on alone.
        return None


def _join(walk: TreeWalk, report: RangeReport) -> bool:
    if report.before != walk.frontier:
        return False
    walk.skip(
        report.after,
        agreed=report.agreed,
        newest=report.newest,
        witnessed_size=report.witnessed_size,
    )
    return True
