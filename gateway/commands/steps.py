"""Showing whoever waits at a terminal what a long command does, and how long each step took."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


class Steps:
    """The steps of one command, on one console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show a step while it runs, then what it took."""
        started = perf_counter()
        with self._console.status(what):
            yield
        self._console.print(f"{what}: {perf_counter() - started:.1f} s", markup=False)

    def each(self, what: str, items: Iterable[Item], *, total: int) -> Iterator[Item]:
        """The items, with a bar if there are any."""
        if not total:
            return
        yield from track(items, what, total=total, console=self._console)

    def say(self, what: str) -> None:
        """Print one line."""
        self._console.print(what, markup=False)
