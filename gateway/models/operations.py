"""What an operator may change in a running gateway: load and check first, then commit, then swap.

Rules: one change at a time; a change that fails before its commit leaves registry and gateway as they were; after its
commit the gateway follows the registry, at once or with the next look.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import Code, ServiceError
from gateway.models import changes
from gateway.models.watch import RegistryWatch
from gateway.store.records import ModelVersion, Traffic

log = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Outcome = TypeVar("Outcome")


class Operations:
    """The changes of one gateway; each returns what it changed when requests get it."""

    def __init__(
        self, *, store: Engine, watch: RegistryWatch, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._watch = watch
        self._clock = clock

    async def promote(self, name: str, version: str) -> ModelVersion:
        """Put a version into production.

        Raises RegistryError if it is unknown, and as Loader.load does if it cannot serve; ServiceError if the registry
        cannot be written.
        """
        async with self._changing(name):
            found = await self._in_thread(changes.find_version, name, version)
            await self._watch.prepare(found)
            await self._in_thread(changes.promote, name, version, clock=self._clock)
        return found

    async def roll_back(self, name: str) -> ModelVersion:
        """Put the version before the one in production back. Raises as promote does, RegistryError if there is none."""
        async with self._changing(name):
            target = await self._in_thread(changes.find_rollback, name)
            await self._watch.prepare(target)
            await self._in_thread(
                changes.undo_promotion, name, expected=target.version, clock=self._clock
            )
        return target

    async def retire(self, name: str, version: str) -> ModelVersion:
        """Take a version out of use. Raises RegistryError if it is unknown or in production, ServiceError."""
        async with self._changing(name):
            found = await self._in_thread(changes.find_version, name, version)
            await self._in_thread(changes.retire, name, version, clock=self._clock)
        return found

    async def direct_traffic(
        self, name: str, version: str, *, traffic: Traffic, share: float
    ) -> ModelVersion:
        """Give a version its share of the requests, 0 < share <= 1, or none.

        Raises as promote does, RegistryError if it is in production or another has that traffic.
        """
        async with self._changing(name):
            found = await self._in_thread(changes.find_version, name, version)
            if traffic is not Traffic.NONE:
                await self._watch.prepare(found)
            await self._in_thread(
                changes.direct_traffic, name, version, traffic=traffic, share=share
            )
        return found

    @asynccontextmanager
    async def _changing(self, name: str) -> AsyncIterator[None]:
        async with self._watch.lock:
            try:
                yield
                await self._watch.settle(name)
            except SQLAlchemyError as exc:
                log.warning("registry_failed cause=%s", type(exc).__name__)
                message = (
                    "the registry does not answer: look whether the change was made, then repeat"
                )
                raise ServiceError(Code.NOT_READY, message, reason="registry_failed") from exc
            finally:
                self._watch.discard()

    async def _in_thread(
        self,
        change: Callable[Concatenate[Engine, Arguments], Outcome],
        *args: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Outcome:
        return await asyncio.to_thread(change, self._store, *args, **options)
