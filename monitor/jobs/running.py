"""Running the endless loops of `monitor run` until the process is told to stop, and its log."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping


def run_until_signal(loops: Mapping[str, Callable[[], None]], stop: threading.Event) -> None:
    """Run each loop in a thread of its own; SIGTERM and SIGINT set `stop`.

    Not in this thread: a handler runs between two instructions of the main thread, and setting an event there while
    the main thread is entering a wait on the same event would deadlock.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    threads = [threading.Thread(target=loop, name=name) for name, loop in loops.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def log_to_stderr() -> None:
    """The lines of this process, each with its time."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",  # with its zone, to be laid beside the ledger's UTC
    )
