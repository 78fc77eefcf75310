"""Handing checkpoints to the places that keep them, in the background: one thread a place.

Rules: whoever signs never waits; of the checkpoints that come while one is handed over only the newest is; what failed
is tried again after growing pauses, and once more at the end; a failure here refuses no call, it is counted and told.
"""

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum

from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.places import Place, WitnessDisagreementError, WitnessUnavailableError

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 60.0


class Published(StrEnum):
    """How one attempt ended."""

    DONE = "done"
    UNAVAILABLE = "unavailable"
    DISAGREEMENT = "disagreement"


class Publisher:
    """Keeps one place up to date from start() until close().

    interval_seconds: between two attempts that go well. on_attempt: told how each one ended, with the words of what
    went wrong; in this object's thread. monotonic: seconds.
    """

    def __init__(
        self,
        place: Place,
        *,
        interval_seconds: float = 1.0,
        on_attempt: Callable[[Published, str], None] = lambda _published, _why: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._interval_seconds = interval_seconds
        self._on_attempt = on_attempt
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._pending: SignedCheckpoint | None = None
        # Since when the place lacks a checkpoint, and since when it lacks those that came during an attempt.
        self._behind_since: float | None = None
        self._next_behind_since: float | None = None
        self._not_before = 0.0
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._size = 0
        self._said = ""
        self._is_closing = False
        self._thread = threading.Thread(
            target=self._run, name=f"audit-witness-{place.name}", daemon=True
        )

    @property
    def name(self) -> str:
        """The place's."""
        return self._place.name

    @property
    def size(self) -> int:
        """Records of the checkpoint that the place was last known to hold; 0 before the first."""
        return self._size

    @property
    def lag_seconds(self) -> float:
        """For how long there has been a checkpoint that the place lacks; 0 while it lacks none."""
        since = self._behind_since
        return 0.0 if since is None else max(self._monotonic() - since, 0.0)

    def start(self) -> None:
        """Begin; what was offered before is handed over now."""
        self._thread.start()

    def offer(self, signed: SignedCheckpoint) -> None:
        """Take a checkpoint that is durable in the database. Never waits, never raises."""
        with self._changed:
            self._pending = signed
            now = self._monotonic()
            if self._behind_since is None:
                self._behind_since = now
            if self._next_behind_since is None:
                self._next_behind_since = now
            self._changed.notify()

    def close(self, *, timeout_seconds: float = 10.0) -> bool:
        """Try once more to hand over the newest, and end; False if that is not done within timeout_seconds."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            signed, is_last = self._next()
            if signed is not None:
                self._attempt(signed)

    def _next(self) -> tuple[SignedCheckpoint | None, bool]:
        with self._changed:
            while not self._is_closing and not self._is_due():
                self._changed.wait(self._wait_seconds())
            self._next_behind_since = None
            return self._pending, self._is_closing

    def _is_due(self) -> bool:
        return self._pending is not None and self._monotonic() >= self._not_before

    def _wait_seconds(self) -> float | None:
        return None if self._pending is None else max(self._not_before - self._monotonic(), 0.0)

    def _attempt(self, signed: SignedCheckpoint) -> None:
        try:
            size = self._place.publish(signed)
        except WitnessUnavailableError as exc:
            self._failed(Published.UNAVAILABLE, str(exc))
        except WitnessDisagreementError as exc:
            self._failed(Published.DISAGREEMENT, str(exc))
        except Exception:
            # A bug must not end the thread: the place would fall behind for good.
            log.exception("audit_witness_failed place=%s", self.name)
            self._failed(Published.UNAVAILABLE, "internal: publishing failed")
        else:
            self._succeeded(signed, size)

    def _succeeded(self, signed: SignedCheckpoint, size: int) -> None:
        with self._changed:
            self._size = size
            if self._pending is signed:
                self._pending = None
            self._behind_since = self._next_behind_since
            self._not_before = self._monotonic() + self._interval_seconds
            self._pause_seconds = FIRST_PAUSE_SECONDS
        if self._said:
            log.warning("audit_witness_reached place=%s size=%d", self.name, size)
        self._said = ""
        self._on_attempt(Published.DONE, "")

    def _failed(self, published: Published, why: str) -> None:
        with self._changed:
            self._not_before = self._monotonic() + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, MAX_PAUSE_SECONDS)
        if why != self._said:
            # Once a cause: the same one every minute for a night would hide everything else.
            if published is Published.DISAGREEMENT:
                log.error("audit_witness_disagreement place=%s: %s", self.name, why)
            else:
                log.warning("audit_witness_unavailable place=%s: %s", self.name, why)
        self._said = why
        self._on_attempt(published, why)
