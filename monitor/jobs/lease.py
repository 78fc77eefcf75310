"""The lease by which one monitor of several acts, and the others stand by.

Rules: taken and renewed in a write transaction of its own; every transaction that stores something checks, under the
lease's lock, that it still holds it, so a monitor that slept or was cut off writes nothing after another took over.
"""

import logging
import os
import secrets
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from gateway.store.database import write_transaction
from monitor.records import LeaseLostError
from monitor.tables.lease_queries import Lease, lock_lease, read_clock_seconds, save_lease

logger = logging.getLogger(__name__)

DRIFT_LEASE = "drift"
# A tick that takes long is no reason to hand over: three are missed before another monitor acts.
LEASE_TICKS = 3
MIN_LEASE_SECONDS = 30.0
# No monitor of this version asks for more: MONITOR_TICK_SECONDS is a day at most.
LONGEST_LEASE_SECONDS = LEASE_TICKS * 86_400.0
# No fence gets there by being taken; beyond, adding one leaves what a column holds.
_MAX_FENCE = 2**62
_MAX_HOST_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether the lease is held after asking for it, and until when by the database's clock, by whoever holds it.

    left_seconds: from then on until its end, > 0.
    """

    is_held: bool
    until: datetime
    left_seconds: float

    def why_not(self) -> str:
        """What to tell while another monitor holds it."""
        return f"another monitor holds the lease until {self.until:%Y-%m-%d %H:%M:%S} UTC"


class LeaseKeeper:
    """Takes, renews and gives back one lease; knows by its fence whether it is still the one it took."""

    def __init__(self, *, holder: str, duration_seconds: float, name: str = DRIFT_LEASE) -> None:
        """Nothing is held yet. holder: unlike that of any other monitor."""
        self._name = name
        self._holder = holder
        self._duration_seconds = duration_seconds
        self._fence: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it was, when it was last asked for or checked."""
        return self._fence is not None

    def ask(self, engine: Engine) -> Standing:
        """Renew the lease, or take it if nobody holds it, its time is over or no monitor can have written it.

        Raises SQLAlchemyError.
        """
        with write_transaction(engine) as connection:
            lease = lock_lease(connection, self._name)
            now_seconds = read_clock_seconds(connection)
            is_mine = self._is_mine(lease)
            is_whole = _is_whole(lease, now_seconds)
            if not is_whole:
                logger.warning(
                    "lease_broken name=%s: no monitor wrote it so, it is taken over", self._name
                )
            elif not is_mine and lease.holder and now_seconds < lease.expires_at_seconds:
                self._fence = None
                return _standing(lease, now_seconds, is_held=False)
            lease = replace(
                lease,
                holder=self._holder,
                expires_at_seconds=now_seconds + self._duration_seconds,
                fence=_next_fence(lease, is_mine=is_mine and is_whole),
            )
            save_lease(connection, lease, now_seconds=now_seconds)
        self._fence = lease.fence
        return _standing(lease, now_seconds, is_held=True)

    def check(self, connection: Connection) -> None:
        """Hold the lease's lock until the transaction ends.

        Raises LeaseLostError unless it is still the one that was taken; nothing may be written then. Its time may be
        over: as long as nobody took it, nobody else acts.
        """
        if not self._is_mine(lock_lease(connection, self._name)):
            self._fence = None
            raise LeaseLostError(
                "another monitor took the lease: this one stored nothing and stands by"
            )

    def release(self, engine: Engine) -> None:
        """Give it back if it is held, so that another need not wait for its end. Raises SQLAlchemyError."""
        if self._fence is None:
            return
        with write_transaction(engine) as connection:
            lease = lock_lease(connection, self._name)
            if self._is_mine(lease):
                free = replace(lease, holder="", expires_at_seconds=0.0)
                save_lease(connection, free, now_seconds=read_clock_seconds(connection))
        self._fence = None

    def _is_mine(self, lease: Lease) -> bool:
        return (lease.holder, lease.fence) == (self._holder, self._fence)


def lease_seconds(tick_seconds: float) -> float:
    """How long a lease lasts that is renewed with every tick."""
    return max(LEASE_TICKS * tick_seconds, MIN_LEASE_SECONDS)


def new_keeper(*, tick_seconds: float) -> LeaseKeeper:
    """What takes the lease of the drift alarms for this process, renewed with every tick."""
    return LeaseKeeper(holder=new_holder(), duration_seconds=lease_seconds(tick_seconds))


def new_holder() -> str:
    """A name for this process that no other has: host and process for people, and something random."""
    host = socket.gethostname()[:_MAX_HOST_CHARACTERS]
    return f"{host}:{os.getpid()}:{secrets.token_hex(8)}"


def _is_whole(lease: Lease, now_seconds: float) -> bool:
    """Whether a monitor of this version can have written it; otherwise none would ever act."""
    ends, fence = lease.expires_at_seconds, lease.fence
    is_number = type(ends) in (int, float) and type(fence) is int
    return is_number and ends <= now_seconds + LONGEST_LEASE_SECONDS and 0 <= fence < _MAX_FENCE


def _next_fence(lease: Lease, *, is_mine: bool) -> int:
    if is_mine:
        return lease.fence
    is_usable = type(lease.fence) is int and 0 <= lease.fence < _MAX_FENCE
    return lease.fence + 1 if is_usable else 1


def _standing(lease: Lease, now_seconds: float, *, is_held: bool) -> Standing:
    return Standing(
        is_held=is_held,
        until=datetime.fromtimestamp(lease.expires_at_seconds, UTC),
        left_seconds=lease.expires_at_seconds - now_seconds,
    )
