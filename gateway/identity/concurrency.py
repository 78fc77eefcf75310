"""How many calls of one address or principal are under way in this process.

Rule: what was counted is given back however the call ends, and a key without calls takes no memory.
"""

from types import TracebackType

from gateway.identity.quota_limits import LimitName, concurrency_refusal


class InFlight:
    """The calls under way by key, for one of the limits; event loop only."""

    def __init__(self, limit: LimitName) -> None:
        """Nothing is under way."""
        self._limit = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """How many keys have calls under way."""
        return len(self._counts)

    def slot(self, key: str, *, at_most: int) -> "Slot":
        """A place for one call, held while the context lasts."""
        return Slot(self, key, at_most)

    def take(self, key: str, at_most: int) -> None:
        """Count one call. Raises QuotaError, and counts nothing, if at_most are under way already."""
        count = self._counts.get(key, 0)
        if count >= at_most:
            raise concurrency_refusal(self._limit, at_most)
        self._counts[key] = count + 1

    def give_back(self, key: str) -> None:
        """One call that was counted has ended."""
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]


class Slot:
    """A context for one call; entering raises QuotaError if there are too many. To be entered once."""

    __slots__ = ("_at_most", "_in_flight", "_key")

    def __init__(self, in_flight: InFlight, key: str, at_most: int) -> None:
        """Nothing is counted yet."""
        self._in_flight = in_flight
        self._key = key
        self._at_most = at_most

    def __enter__(self) -> None:
        """Count the call."""
        self._in_flight.take(self._key, self._at_most)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """The call has ended, well or not."""
        self._in_flight.give_back(self._key)
