"""One loaded version: its runner, and how many requests hold it.

Rules: a version that is swapped out finishes what it has and only then lets its memory go. All on one event loop.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.inference.engine import Engine
from gateway.inference.runner import Runner
from gateway.sealing.container import SealedHeader
from gateway.store.records import ModelVersion

log = logging.getLogger(__name__)


class ServedVersion:
    """A version that can answer. Order of life: lease..., drain."""

    def __init__(
        self,
        *,
        version: ModelVersion,
        header: SealedHeader,
        class_names: tuple[str, ...],
        engine: Engine,
        runner: Runner,
        kek_id: str,
    ) -> None:
        """runner: of this version alone, warmed up. class_names: by class id, from the encrypted payload.

        kek_id: of the KEK that opened its file.
        """
        self.version = version
        self.header = header
        self.class_names = class_names
        self.engine_name = engine.name
        self.precision = engine.precision
        self.task = engine.task
        self.library_versions = engine.versions
        self.runner = runner
        self.kek_id = kek_id
        self._leases = 0
        self._is_free = asyncio.Event()
        self._is_free.set()

    @property
    def label(self) -> str:
        """NAME@VERSION."""
        return self.version.label

    @property
    def leases(self) -> int:
        """Requests that hold it."""
        return self._leases

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the version for one request: until its end, a drain waits."""
        self._leases += 1
        self._is_free.clear()
        try:
            yield
        finally:
            self._leases -= 1
            if self._leases == 0:
                self._is_free.set()

    async def drain(self, *, timeout_seconds: float) -> None:
        """Wait for the requests that hold it, then end its threads; nobody may take a new lease any more.

        timeout_seconds: for the requests; what still holds it then gets the runner's error for a closed one.
        """
        try:
            await asyncio.wait_for(self._is_free.wait(), timeout_seconds)
        except TimeoutError:
            log.warning("drain_timed_out model=%s leases=%d", self.label, self._leases)
        await self.runner.close()
