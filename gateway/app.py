"""The composition root: builds everything a serving process needs, in order, and takes it down in the opposite order.

Rules: whatever is missing or wrong ends the start with a message that names the fix; nothing is created here.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version

from prometheus_client import start_http_server
from sqlalchemy import Engine
from starlette.applications import Starlette

from gateway.admission import Door, build_door
from gateway.api.edge import Edge
from gateway.api.resource_metadata import ResourceFacts
from gateway.api.routes import build_app
from gateway.audit.configuration import configuration_digest
from gateway.audit.details import format_detail
from gateway.audit.emergency import EmergencyFile
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.issuer_keys import IssuerKeyRecords
from gateway.audit.opened import open_audit_log
from gateway.audit.pseudonyms import configured_pseudonyms, stored_forms
from gateway.audit.reader import LedgerReader
from gateway.audit.readiness import Readiness
from gateway.audit.starting import StartFacts, record_policy
from gateway.audit.witnesses import Witnesses
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError, Code, OperatorError
from gateway.identity.keysets import ALGORITHMS
from gateway.metrics import GatewayMetrics
from gateway.models.catalog import Catalog
from gateway.models.directory import Directory
from gateway.models.loading import loader_of
from gateway.models.names import served_names
from gateway.models.operations import Operations
from gateway.models.served import ServedVersion
from gateway.models.shadow import Shadows
from gateway.models.watch import RegistryWatch
from gateway.pipeline import Pipeline
from gateway.sampling.draw import SamplingRates
from gateway.sampling.sampler import Sampler
from gateway.sampling.sources import trusted_header
from gateway.sealing.keys import KeyProvider
from gateway.sealing.sample_keys import SampleKey, SampleSealer, create_sample_key
from gateway.sealing.signers import TrustedSigner
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.sample_keys import insert_sample_key
from gateway.store.records import ModelVersion, WrappedSampleKey

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Opened:
    """What the commands open before anything is built.

    public_url: the origin that callers use. keks: the first wraps what is new. first: waits for the default model's
    version in production, where loading it has begun already.
    """

    public_url: str
    metrics: GatewayMetrics
    store: Engine
    keks: Sequence[KeyProvider]
    trusted_signers: list[TrustedSigner]
    first: Callable[[], ServedVersion] | None = None


@contextmanager
def built(settings: GatewaySettings, opened: Opened, *, clock: Clock) -> Iterator[Starlette]:
    """The application with everything behind it running; closed in order on the way out.

    Raises OperatorError for whatever configuration, keys or files lack.
    """
    with ExitStack() as stack:
        witnesses = Witnesses(settings, opened.store, metrics=opened.metrics, clock=clock)
        outages = partial(EmergencyFile, settings.audit_emergency_file, clock=clock)
        audit = open_audit_log(
            opened.store, settings, outages=outages, on_checkpoint=witnesses.offer
        )
        # After the ledger, whose last checkpoint they take.
        stack.callback(witnesses.close)
        stack.callback(audit.close)
        witnesses.start(audit)
        with _failure_recorded(settings, audit, clock):
            app = _build(settings, opened, audit, stack, clock)
        yield app


@contextmanager
def _failure_recorded(settings: GatewaySettings, audit: AuditLog, clock: Clock) -> Iterator[None]:
    try:
        yield
    except OperatorError as exc:
        log.warning("start_refused code=%s reason=%s", exc.code, exc.reason)
        event = AuditEvent(
            action=Action.GATEWAY_START,
            outcome=Outcome.FAILED,
            recorded_at=clock(),
            model_name=settings.model_name,
            code=exc.code,
            reason=exc.reason,
            detail=format_detail(version=version("gatewatch"), ledger=settings.audit_origin),
        )
        try:
            audit.append_blocking(event)
        except AuditUnavailableError as unavailable:
            # The start fails either way, and its own cause is the one to mend.
            log.warning("start_refusal_not_recorded reason=%s", unavailable.reason)
        raise


def _build(
    settings: GatewaySettings, opened: Opened, audit: AuditLog, stack: ExitStack, clock: Clock
) -> Starlette:
    metrics, default = opened.metrics, settings.model_name
    _serve_metrics(settings, metrics, stack)
    issuer_keys = IssuerKeyRecords(engine=opened.store, audit=audit, clock=clock)
    door = build_door(
        settings,
        public_url=opened.public_url,
        store=opened.store,
        metrics=metrics,
        clock=clock,
        record_keys=issuer_keys.record,
    )
    directory = Directory()
    watch = _watch(settings, opened, directory, metrics, audit, clock)
    watch.load_default(opened.first)
    sample_key, wrapped = _new_sample_key(opened, clock)
    sampler = _sampler(settings, opened, metrics, sample_key)
    stack.callback(sampler.close)
    shadows = Shadows(directory=directory, sampler=sampler, metrics=metrics)
    _start_gauges(metrics, directory, sampler)
    pipeline = Pipeline(
        access=door.access,
        audit=audit,
        directory=directory,
        shadows=shadows,
        sampler=sampler,
        metrics=metrics,
        clock=clock,
    )
    readiness = Readiness(engine=opened.store, audit=audit, clock=clock)
    edge = Edge(
        pipeline=pipeline,
        directory=directory,
        catalog=Catalog(store=opened.store, directory=directory, watch=watch),
        operations=Operations(store=opened.store, watch=watch, clock=clock),
        ledger=_ledger_reader(settings, opened.store, audit),
        default_model=default,
        version=version("gatewatch"),
        metrics=metrics,
        is_ready=lambda: _is_ready(directory, default, door, readiness),
        max_body_bytes=settings.max_body_bytes,
        body_timeout_seconds=settings.body_timeout_seconds,
        min_body_bytes_per_second=settings.min_body_bytes_per_second,
        clock=clock,
        started_at_seconds=time.monotonic(),
        resource=_resource_facts(settings, opened.public_url, door),
        source_header=_source_header(settings),
    )
    facts = _start_facts(settings, opened, door)

    async def record_opening() -> None:
        await record_policy(opened.store, audit, facts, clock=clock)
        await issuer_keys.record_start(issuers=door.issuers, file_keys=door.file_keys)
        await watch.record_loaded()
        await audit.append(_sample_key_event(wrapped, clock))

    opening = _Opening(directory.check(default).production.version, facts, record_opening)
    return build_app(edge, lifespan=_lifespan(audit, watch, shadows, door, opening, metrics, clock))


def _source_header(settings: GatewaySettings) -> str:
    return trusted_header(source_header=settings.source_header, source_claim=settings.source_claim)


def _ledger_reader(settings: GatewaySettings, store: Engine, audit: AuditLog) -> LedgerReader:
    forms = partial(stored_forms, configured_pseudonyms(settings))
    return LedgerReader(engine=store, audit=audit, forms=forms)


def _resource_facts(settings: GatewaySettings, public_url: str, door: Door) -> ResourceFacts:
    return ResourceFacts(
        public_url=public_url,
        issuers=door.issuers,
        has_client_certificates=settings.client_certificates != "none",
        dpop_algorithms=tuple(sorted(ALGORITHMS)),
    )


@dataclass(frozen=True, slots=True)
class _Opening:
    """What the ledger hears before the door opens. record: of all that was opened, before the start itself."""

    model: ModelVersion
    facts: StartFacts
    record: Callable[[], Awaitable[None]]


def _start_facts(settings: GatewaySettings, opened: Opened, door: Door) -> StartFacts:
    kek_ids = tuple(kek.kek_id for kek in opened.keks)
    signer_ids = tuple(signer.signer_id for signer in opened.trusted_signers)
    return StartFacts(
        configuration=configuration_digest(
            settings, policy_sha256=door.policy_sha256, kek_ids=kek_ids, signer_ids=signer_ids
        ),
        policy_sha256=door.policy_sha256,
        version=version("gatewatch"),
        origin=settings.audit_origin,
        kek_ids=kek_ids,
        signer_ids=signer_ids,
    )


def _watch(
    settings: GatewaySettings,
    opened: Opened,
    directory: Directory,
    metrics: GatewayMetrics,
    audit: AuditLog,
    clock: Clock,
) -> RegistryWatch:
    return RegistryWatch(
        store=opened.store,
        loader=loader_of(settings, keks=opened.keks, trusted_signers=opened.trusted_signers),
        names=served_names(settings),
        directory=directory,
        metrics=metrics,
        audit=audit,
        clock=clock,
        # A request may wait for its turn and then run for as long as an image may take.
        drain_timeout_seconds=2 * settings.infer_timeout_seconds,
    )


def _new_sample_key(opened: Opened, clock: Clock) -> tuple[SampleKey, WrappedSampleKey]:
    key, wrapped = create_sample_key(kek=opened.keks[0], now=clock(), random=os.urandom)
    # The wrapped key is durable before the first image under it; killed in between, it is an unused row.
    with write_transaction(opened.store) as connection:
        insert_sample_key(connection, wrapped)
    return key, wrapped


def _sample_key_event(wrapped: WrappedSampleKey, clock: Clock) -> AuditEvent:
    return AuditEvent(
        action=Action.KEYS_USE,
        outcome=Outcome.ANSWERED,
        recorded_at=clock(),
        detail=format_detail(kek=wrapped.kek_id, use="wrap-sample-key", key=wrapped.key_id),
    )


def _sampler(
    settings: GatewaySettings, opened: Opened, metrics: GatewayMetrics, key: SampleKey
) -> Sampler:
    sealer = SampleSealer(key=key, random=os.urandom)
    return Sampler(
        engine=opened.store,
        rates=SamplingRates(
            sample_rate=settings.sample_rate,
            image_rate=settings.sample_image_rate,
            keep_below_confidence=settings.sample_keep_below_confidence,
        ),
        rng=random.Random(),
        seal_image=lambda request_id, body: sealer.seal(body, request_id=request_id),
        max_queued_bytes=settings.sample_queue_bytes,
        on_outcome=lambda outcome, count: metrics.samples.labels(outcome.value).inc(count),
    )


def _serve_metrics(settings: GatewaySettings, metrics: GatewayMetrics, stack: ExitStack) -> None:
    try:
        server, thread = start_http_server(
            settings.metrics_port, settings.metrics_host, registry=metrics.registry
        )
    except OSError as exc:
        message = (
            f"cannot serve metrics on {settings.metrics_host} port {settings.metrics_port}: "
            f"{exc.strerror}; stop what holds it or set GATEWAY_METRICS_PORT"
        )
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)


def _start_gauges(metrics: GatewayMetrics, directory: Directory, sampler: Sampler) -> None:
    metrics.build_info.labels(version("gatewatch")).set(1)
    metrics.queue_depth.set_function(lambda: _queue_depth(directory))
    metrics.sample_images.set_function(lambda: sampler.images_kept)
    metrics.sample_lag_seconds.set_function(lambda: sampler.lag_seconds)


def _queue_depth(directory: Directory) -> int:
    lineups = directory.lineups.values()
    return sum(served.runner.queue_depth for lineup in lineups for served in lineup.versions())


async def _is_ready(directory: Directory, name: str, door: Door, readiness: Readiness) -> bool:
    lineup = directory.find(name)
    is_served = lineup is not None and lineup.production.runner.is_ready
    return is_served and door.is_ready() and await readiness.check()


def _lifespan(
    audit: AuditLog,
    watch: RegistryWatch,
    shadows: Shadows,
    door: Door,
    opening: _Opening,
    metrics: GatewayMetrics,
    clock: Clock,
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    def event(action: Action) -> AuditEvent:
        return AuditEvent(
            action=action,
            outcome=Outcome.ANSWERED,
            recorded_at=clock(),
            model_name=opening.model.name,
            model_version=opening.model.version,
            detail=opening.facts.detail(),
        )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # A gateway that cannot write its first records, or whose ledger does not go on from what was signed, does not
        # open its door.
        await opening.record()
        await audit.append(event(Action.GATEWAY_START))
        await audit.checkpoint()
        metrics.ready.set_function(lambda: float(door.is_ready()))
        background = [asyncio.create_task(watch.run()), asyncio.create_task(door.run())]
        yield
        metrics.ready.set_function(lambda: 0.0)
        for task in background:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await shadows.close()
        await watch.close()
        await door.quotas.close()
        await audit.append(event(Action.GATEWAY_STOP))

    return lifespan
