"""Where sliding windows are counted: in this process, or in the database; storages for PyPI's limits.

Rules: what is counted in the process takes bounded memory and no thread (limits' own MemoryStorage starts one for each
10 ms in which it is used, and looks through all keys); whether a call is still allowed and that it was counted is one
step, in the database as well.
"""

from abc import ABC
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import floor

from limits.storage import SlidingWindowCounterSupport, Storage
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.identity.quota_limits import Window
from gateway.store.database import HeldConnection
from gateway.store.queries.quota_counters import (
    count_up,
    delete_ended_counters,
    find_count,
)

PURGED_AT_ONCE = 1_000

Seconds = Callable[[], float]


class SlidingWindowStorage(Storage, SlidingWindowCounterSupport, ABC):
    """For limits' SlidingWindowCounterRateLimiter alone; asking for anything else is a programmer's error."""

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Of fixed windows, through which twice the amount can pass."""
        raise NotImplementedError

    def get(self, key: str) -> int:
        """Of fixed windows."""
        raise NotImplementedError

    def get_expiry(self, key: str) -> float:
        """Of fixed windows."""
        raise NotImplementedError

    def clear(self, key: str) -> None:
        """Of fixed windows."""
        raise NotImplementedError

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Nobody may forget what was counted."""
        raise NotImplementedError

    def reset(self) -> int | None:
        """Nobody may forget all of it."""
        raise NotImplementedError

    def check(self) -> bool:
        """Nobody asks: a storage that fails says so when it is used."""
        raise NotImplementedError


@dataclass(slots=True)
class _Counts:
    index: int
    previous: int
    current: int


class BoundedStorage(SlidingWindowStorage):
    """Sliding windows in memory; of more than max_keys for one length of window, those that end first leave first."""

    def __init__(self, *, max_keys: int, monotonic: Seconds) -> None:
        """Nothing is counted yet."""
        super().__init__()
        self._max_keys = max_keys
        self._monotonic = monotonic
        # By length, because only windows of one length end in the order in which they began.
        self._windows: dict[int, OrderedDict[str, _Counts]] = {}

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """There is nothing that fails."""
        return ()

    def __len__(self) -> int:
        """How many keys are counted."""
        return sum(map(len, self._windows.values()))

    def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Count amount for a key, unless the sliding window then held more than limit."""
        if amount > limit:
            return False
        index, left_seconds = _at(self._monotonic(), expiry)
        counts = self._current(key, expiry, index)
        if floor(counts.previous * left_seconds / expiry + counts.current) + amount > limit:
            return False
        counts.current += amount
        return True

    def get_sliding_window(self, key: str, expiry: int) -> Window:
        """The counts of the window before and of the current one, as limits wants them."""
        index, left_seconds = _at(self._monotonic(), expiry)
        windows = self._windows.get(expiry)
        counts = None if windows is None else windows.get(key)
        if counts is None or counts.index not in {index, index - 1}:
            return 0, 0.0, 0, left_seconds + expiry
        if counts.index == index:
            return counts.previous, left_seconds, counts.current, left_seconds + expiry
        return counts.current, left_seconds, 0, left_seconds + expiry

    def _current(self, key: str, expiry: int, index: int) -> _Counts:
        windows = self._windows.get(expiry)
        if windows is None:
            windows = self._windows[expiry] = OrderedDict()
        counts = windows.get(key)
        if counts is None:
            counts = windows[key] = _Counts(index, 0, 0)
            self._make_room(windows, index)
        elif counts.index != index:
            counts.previous = counts.current if counts.index == index - 1 else 0
            counts.current = 0
            counts.index = index
            windows.move_to_end(key)
        return counts

    def _make_room(self, windows: OrderedDict[str, _Counts], index: int) -> None:
        # Two at most for each that comes: never a sweep that makes one call wait for all.
        for _ in range(2):
            oldest = next(iter(windows.values()))
            if oldest.index >= index - 1 and len(windows) <= self._max_keys:
                return
            windows.popitem(last=False)


def _at(now_seconds: float, expiry: int) -> tuple[int, float]:
    index, elapsed_seconds = divmod(now_seconds, expiry)
    return int(index), expiry - elapsed_seconds


class DatabaseStorage(SlidingWindowStorage):
    """Sliding windows and budgets in quota_counters; on SQLite for one thread at a time.

    A window takes two rows, one for those with even numbers and one for the others, and each is used again: a row for
    each would be 86,400 a day and principal. Raises SQLAlchemyError; where limits asks, its StorageError.
    """

    def __init__(self, engine: Engine, *, clock: Seconds) -> None:
        """Nothing is opened yet. clock: seconds since 1970, because gateways on several hosts must agree on it."""
        super().__init__(wrap_exceptions=True)
        self._engine = engine
        self._held = HeldConnection(engine)
        self._clock = clock

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """What every failure of the database derives from."""
        return SQLAlchemyError

    def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Count amount for a key, unless the sliding window then held more than limit."""
        now_seconds = self._clock()
        index, left_seconds = _at(now_seconds, expiry)
        previous_key, current_key = _row_keys(key, index)
        with self._held.write_transaction() as connection:
            previous = find_count(connection, previous_key, now_seconds=now_seconds)
            counted = count_up(
                connection,
                current_key,
                amount=amount,
                limit=limit - floor(previous * left_seconds / expiry),
                now_seconds=now_seconds,
                ends_at_seconds=_ends_at_seconds(index, expiry),
            )
        return counted is not None

    def get_sliding_window(self, key: str, expiry: int) -> Window:
        """The counts of the window before and of the current one, as limits wants them."""
        now_seconds = self._clock()
        index, left_seconds = _at(now_seconds, expiry)
        previous_key, current_key = _row_keys(key, index)
        with self._engine.connect() as connection:
            previous = find_count(connection, previous_key, now_seconds=now_seconds)
            current = find_count(connection, current_key, now_seconds=now_seconds)
        return previous, left_seconds, current, left_seconds + expiry

    def take(self, key: str, *, amount: int, budget: int, lasts_seconds: float) -> int | None:
        """Take amount of a budget and give what is used of it; None, and nothing taken, where there is too little."""
        now_seconds = self._clock()
        with self._held.write_transaction() as connection:
            return count_up(
                connection,
                key,
                amount=amount,
                limit=budget,
                now_seconds=now_seconds,
                ends_at_seconds=now_seconds + lasts_seconds,
            )

    def purge(self) -> int:
        """Delete some of the counters that have ended; how many there were."""
        with self._held.write_transaction() as connection:
            return delete_ended_counters(
                connection, now_seconds=self._clock(), at_most=PURGED_AT_ONCE
            )

    def close(self) -> None:
        """Give the held connection back."""
        self._held.close()


def _row_keys(key: str, index: int) -> tuple[str, str]:
    return f"{key}/{(index - 1) % 2}", f"{key}/{index % 2}"


def _ends_at_seconds(index: int, expiry: int) -> float:
    # A window counts while it is the current one and while it is the one before.
    return float((index + 2) * expiry)
