"""Keeps what a gateway serves in step with the registry, whoever changes it: a command, this gateway or another.

Rules: the database decides, and is asked once a second without holding up the event loop; a new version is loaded
beside the old one, swapped in between two requests, and the old one drained; a version that cannot be loaded leaves
what serves serving, and is tried again later. One change at a time: loading twice at once would take memory twice.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.details import format_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError, Code, GatewayError
from gateway.metrics import GatewayMetrics
from gateway.models.changes import find_production
from gateway.models.directory import Directory, Lineup, Shared
from gateway.models.loading import Loader, shortages_told
from gateway.models.names import ServedNames
from gateway.models.served import ServedVersion
from gateway.store.queries.models import list_active_versions
from gateway.store.records import ModelVersion, Stage

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
MAX_BACK_OFF_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """Why a version that the registry wants served is not. retry_at: monotonic seconds."""

    code: Code
    attempts: int
    retry_at: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the registry wants of one name."""

    production: ModelVersion | None = None
    canary: ModelVersion | None = None
    shadow: ModelVersion | None = None


class RegistryWatch:
    """Loads, swaps and drains for one directory, on one event loop; load_default comes before it runs."""

    def __init__(
        self,
        *,
        store: Engine,
        loader: Loader,
        names: ServedNames,
        directory: Directory,
        metrics: GatewayMetrics,
        audit: AuditLog,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        drain_timeout_seconds: float,
    ) -> None:
        """Nothing is loaded yet. drain_timeout_seconds: how long a swapped-out version may be held by requests."""
        self.lock = asyncio.Lock()
        self._store = store
        self._loader = loader
        self._names = names
        self._directory = directory
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self._monotonic = monotonic
        self._drain_timeout_seconds = drain_timeout_seconds
        self._failures: dict[tuple[str, str], LoadFailure] = {}
        self._spares: dict[tuple[str, str], ServedVersion] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._is_failing = False
        self._absent: frozenset[str] = frozenset()

    @property
    def failures(self) -> Mapping[tuple[str, str], LoadFailure]:
        """By name and version, what the registry wants and could not be loaded."""
        return dict(self._failures)

    def serves(self, name: str) -> bool:
        """Whether this gateway serves a model of this name if one is in production."""
        return self._names.includes(name)

    def load_default(self, begun: Callable[[], ServedVersion] | None = None) -> None:
        """Load the default model's version in production, before there is an event loop; the rest follows later.

        begun: waits for a load that has begun already. Raises RegistryError if there is none in production, and as
        Loader.load does.
        """
        name = self._names.default
        load = begun or (lambda: self._loader.load(find_production(self._store, name)))
        served = load()
        self._directory.swap(name, Lineup(served))
        self._show(served, 1)

    async def record_loaded(self) -> None:
        """Put what load_default loaded on record, and the KEK that opened it. Raises AuditUnavailableError."""
        for lineup in self._directory.lineups.values():
            for served in lineup.versions():
                await self._audit.append(self._key_used(served))
                await self._audit.append(self._loaded_event(served.version, served, None))

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                # The watch outlives whatever a later release or a hand wrote into the registry.
                log.exception("registry_not_followed")
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Bring everything in step with the registry once; what fails is logged, counted and tried again later."""
        async with self.lock:
            try:
                wanted = await asyncio.to_thread(self._read_wanted)
            except SQLAlchemyError as exc:
                self._note_database(exc)
                return
            self._note_database(None)
            self._forget_failures(wanted)
            self._note_absent(self._names.further - wanted.keys())
            for name, of_name in wanted.items():
                try:
                    await self._bring(name, of_name)
                except Exception:
                    # One name's trouble must not end the watch over all of them.
                    log.exception("registry_not_followed model=%s", name)

    async def prepare(self, registered: ModelVersion) -> None:
        """Load a version that is about to be wanted, and keep it until discard; the caller holds the lock.

        Raises as Loader.load does; nothing has changed then.
        """
        if self._loaded(registered) is None:
            self._spares[registered.name, registered.version] = await self._load(registered)

    async def settle(self, name: str) -> None:
        """Follow the registry for one name; the caller holds the lock.

        Raises SQLAlchemyError if the registry cannot be read; it is followed later then.
        """
        wanted = (await asyncio.to_thread(self._read_wanted)).get(name)
        if wanted is not None:
            await self._bring(name, wanted)

    def discard(self) -> None:
        """Let go what was prepared and is not served; the caller holds the lock."""
        self._let_go(self._spares.values())
        self._spares.clear()

    async def close(self) -> None:
        """Drain everything that is loaded."""
        for name in self._directory.lineups:
            self._let_go(self._directory.swap(name, None))
        await asyncio.gather(*self._drains)

    def _read_wanted(self) -> dict[str, Wanted]:
        with self._store.connect() as connection:
            active = list_active_versions(connection)
        wanted: dict[str, Wanted] = {}
        for version in filter(lambda version: self._names.includes(version.name), active):
            place = "production" if version.stage is Stage.PRODUCTION else version.traffic.value
            of_name = wanted.get(version.name, Wanted())
            wanted[version.name] = replace(of_name, **{place: version})
        return {name: of_name for name, of_name in wanted.items() if of_name.production is not None}

    async def _bring(self, name: str, wanted: Wanted) -> None:
        before = self._directory.find(name)
        production = await self._obtain(wanted.production)
        if production is None and before is not None:
            production = before.production
        if production is None:
            return
        lineup = Lineup(
            production, await self._shared(wanted.canary), await self._shared(wanted.shadow)
        )
        if lineup != before:
            await self._swap(name, lineup)

    async def _shared(self, wanted: ModelVersion | None) -> Shared | None:
        served = await self._obtain(wanted)
        return None if served is None or wanted is None else Shared(served, wanted.share)

    async def _obtain(self, wanted: ModelVersion | None) -> ServedVersion | None:
        """The version, loaded if it was not; None if nothing is wanted, or it fails or has just failed."""
        if wanted is None:
            return None
        served = self._loaded(wanted)
        if served is not None:
            return served
        failure = self._failures.get((wanted.name, wanted.version))
        if failure is not None and self._monotonic() < failure.retry_at:
            return None
        try:
            return await self._load(wanted)
        except GatewayError as exc:
            await self._note_failure(wanted, failure, exc)
            return None

    def _loaded(self, wanted: ModelVersion) -> ServedVersion | None:
        lineup = self._directory.find(wanted.name)
        loaded = [*self._spares.values(), *(lineup.versions() if lineup is not None else ())]
        return next((served for served in loaded if served.label == wanted.label), None)

    async def _load(self, wanted: ModelVersion) -> ServedVersion:
        started = self._monotonic()
        try:
            # Around the call too: there may be no thread for it.
            with shortages_told(wanted):
                served = await asyncio.to_thread(self._loader.load, wanted)
        except GatewayError:
            self._metrics.model_loads.labels("failed").inc()
            raise
        self._metrics.model_loads.labels("loaded").inc()
        self._failures.pop((wanted.name, wanted.version), None)
        # Also of one that nothing comes of: its weights were in the clear here.
        await self._append(self._key_used(served))
        seconds = self._monotonic() - started
        log.info("model_loaded model=%s seconds=%.3f", wanted.label, seconds)
        return served

    async def _note_failure(
        self, wanted: ModelVersion, before: LoadFailure | None, exc: GatewayError
    ) -> None:
        attempts = 1 if before is None else before.attempts + 1
        delay_seconds = min(2.0**attempts, MAX_BACK_OFF_SECONDS)
        self._failures[wanted.name, wanted.version] = LoadFailure(
            exc.code, attempts, self._monotonic() + delay_seconds
        )
        log.warning(
            "model_not_loaded model=%s code=%s reason=%s: %s",
            wanted.label,
            exc.code,
            exc.reason,
            exc.message,
        )
        if before is None:
            # Tried again for ever: the ledger hears of it once.
            await self._append(self._loaded_event(wanted, None, exc))

    def _forget_failures(self, wanted: Mapping[str, Wanted]) -> None:
        labels = {
            (version.name, version.version)
            for of_name in wanted.values()
            for version in (of_name.production, of_name.canary, of_name.shadow)
            if version is not None
        }
        self._failures = {key: f for key, f in self._failures.items() if key in labels}

    async def _swap(self, name: str, lineup: Lineup) -> None:
        before = self._directory.find(name)
        known = before.versions() if before is not None else ()
        self._let_go(self._directory.swap(name, lineup))
        for served in lineup.versions():
            self._spares.pop((name, served.version.version), None)
            if served not in known:
                self._show(served, 1)
                await self._append(self._loaded_event(served.version, served, None))
        log.info("models_swapped model=%s production=%s", name, lineup.production.label)

    def _let_go(self, versions: Iterable[ServedVersion]) -> None:
        for served in versions:
            self._show(served, 0)
            task = asyncio.create_task(served.drain(timeout_seconds=self._drain_timeout_seconds))
            self._drains.add(task)
            task.add_done_callback(self._drains.discard)

    def _show(self, served: ServedVersion, value: int) -> None:
        labels = (served.version.name, served.version.version, served.precision, served.engine_name)
        if value:
            self._metrics.model_info.labels(*labels).set(value)
        else:
            with suppress(KeyError):
                self._metrics.model_info.remove(*labels)

    def _key_used(self, served: ServedVersion) -> AuditEvent:
        return AuditEvent(
            action=Action.KEYS_USE,
            outcome=Outcome.ANSWERED,
            recorded_at=self._clock(),
            model_name=served.version.name,
            model_version=served.version.version,
            detail=format_detail(kek=served.kek_id, use="open-model"),
        )

    def _loaded_event(
        self, version: ModelVersion, served: ServedVersion | None, error: GatewayError | None
    ) -> AuditEvent:
        return AuditEvent(
            action=Action.MODELS_LOAD,
            outcome=Outcome.ANSWERED if error is None else Outcome.FAILED,
            recorded_at=self._clock(),
            model_name=version.name,
            model_version=version.version,
            code=None if error is None else error.code,
            reason=None if error is None else error.reason,
            detail=format_detail(
                sha256=version.plaintext_sha256,
                signer=None if served is None else served.header.signer,
                engine=version.engine,
                precision=version.precision,
            ),
        )

    async def _append(self, event: AuditEvent) -> None:
        try:
            await self._audit.append(event)
        except AuditUnavailableError as exc:
            # The registry has decided; every answer is on record with its version all the same.
            log.warning(
                "model_load_not_recorded model=%s@%s action=%s reason=%s",
                event.model_name,
                event.model_version,
                event.action,
                exc.reason,
            )

    def _note_absent(self, names: frozenset[str]) -> None:
        """Say which models the settings name and nobody has promoted: a misspelt one looks like that for ever."""
        if names != self._absent:
            for name in sorted(names):
                log.warning(
                    "model_without_production model=%s: GATEWAY_MODEL_NAMES names it and no version of it is in "
                    "production; promote one, or correct the name",
                    name,
                )
        self._absent = names

    def _note_database(self, exc: SQLAlchemyError | None) -> None:
        if exc is not None and not self._is_failing:
            log.warning("registry_not_read cause=%s", type(exc).__name__)
        self._is_failing = exc is not None
