"""The composition root: builds everything a serving process needs, in order, and takes it down in the opposite order.

Rules: whatever is missing or wrong ends the start with a message that names the fix; nothing is created here.
"""

import logging
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from sqlalchemy import Engine
from starlette.applications import Starlette

from gateway.api.routes import Edge, build_app
from gateway.api.ultralytics import AnswerFacts
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.readiness import Readiness
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError, Code, OperatorError, RegistryError, SettingsError
from gateway.identity.authenticate import Authenticator
from gateway.identity.cache import TokenCache
from gateway.identity.keysets import MAX_KEYSET_BYTES, load_keyset
from gateway.identity.tokens import TrustedIssuer
from gateway.inference import engine as engines
from gateway.inference.decode import ImageLimits
from gateway.inference.engines.opening import open_engine
from gateway.inference.runner import Runner
from gateway.metrics import GatewayMetrics
from gateway.pipeline import Pipeline
from gateway.sampling.draw import SamplingRates
from gateway.sampling.sampler import Sampler
from gateway.sealing.files import read_sealed_model
from gateway.sealing.keys import KeyProvider
from gateway.sealing.public_files import why_changeable
from gateway.sealing.sample_keys import SampleSealer, create_sample_key
from gateway.sealing.sealed_model import OpenedModel, open_model
from gateway.sealing.signers import TrustedSigner
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.models import find_production_version
from gateway.store.queries.sample_keys import insert_sample_key
from gateway.store.records import ModelVersion

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

_PIXELS = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Opened:
    """What the commands open before anything is built."""

    store: Engine
    keks: Sequence[KeyProvider]  # the first wraps what is new
    trusted_signers: list[TrustedSigner]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The production version, opened, checked against the registry, and compiled."""

    version: ModelVersion
    engine: engines.Engine


def load_production_model(settings: GatewaySettings, opened: Opened) -> LoadedModel:
    """The version that the registry has in production, ready to run.

    Raises RegistryError if there is none or its file is not the registered one, SealError if the file is refused.
    """
    with opened.store.connect() as connection:
        registered = find_production_version(connection, settings.model_name)
    if registered is None:
        message = (
            f"no version of {settings.model_name!r} is in production: "
            "seal one (`gateway seal`) and promote it (`gateway models promote`)"
        )
        raise RegistryError(Code.MODEL_UNKNOWN, message)
    model = _open(settings, opened, registered)
    engine = open_engine(
        model.header.engine,
        _network(model),
        workers=worker_count(settings),
        input_sizes=_input_sizes(settings, model),
    )
    return LoadedModel(registered, engine)


def worker_count(settings: GatewaySettings) -> int:
    """How many images run at a time: what is set, else one a core this process may use."""
    return settings.workers or len(os.sched_getaffinity(0))


def image_limits(settings: GatewaySettings) -> ImageLimits:
    """What an image may measure."""
    return ImageLimits(
        max_side=settings.max_image_side_pixels, max_pixels=settings.max_image_pixels
    )


@contextmanager
def built(settings: GatewaySettings, opened: Opened, *, clock: Clock) -> Iterator[Starlette]:
    """The application with everything behind it running; closed in order on the way out.

    Raises OperatorError for whatever configuration, keys or files lack.
    """
    with ExitStack() as stack:
        audit = AuditLog(
            engine=opened.store,
            origin=settings.audit_origin,
            timeout_seconds=settings.audit_timeout_seconds,
        )
        stack.callback(audit.close)
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
    metrics = GatewayMetrics(CollectorRegistry())
    _serve_metrics(settings, metrics, stack)
    authenticator = _authenticator(settings)
    loaded = load_production_model(settings, opened)
    sampler = _sampler(settings, opened, metrics, clock=clock)
    stack.callback(sampler.close)
    runner = Runner(
        engine=loaded.engine,
        workers=worker_count(settings),
        queue_size=settings.queue_size,
        limits=image_limits(settings),
        infer_timeout_seconds=settings.infer_timeout_seconds,
        request_timeout_seconds=settings.request_timeout_seconds,
    )
    runner.warm_up()
    _start_gauges(metrics, loaded, runner, sampler)
    pipeline = Pipeline(
        authenticator=authenticator,
        audit=audit,
        runner=runner,
        sampler=sampler,
        model=loaded.version,
        metrics=metrics,
        clock=clock,
    )
    readiness = Readiness(
        engine=opened.store, audit=audit, origin=settings.audit_origin, clock=clock
    )
    edge = Edge(
        pipeline=pipeline,
        facts=_facts(loaded),
        metrics=metrics,
        is_ready=lambda: _is_ready(runner, readiness),
        max_body_bytes=settings.max_body_bytes,
        body_timeout_seconds=settings.body_timeout_seconds,
        clock=clock,
        started_at_seconds=time.monotonic(),
    )
    return build_app(edge, lifespan=_lifespan(audit, runner, loaded.version, metrics, clock))


def _open(settings: GatewaySettings, opened: Opened, registered: ModelVersion) -> OpenedModel:
    unverified = read_sealed_model(
        settings.models_folder,
        name=registered.name,
        version=registered.version,
        max_bytes=settings.max_model_bytes,
    )
    model = open_model(
        unverified,
        name=registered.name,
        version=registered.version,
        keks=opened.keks,
        trusted_signers=opened.trusted_signers,
    )
    if model.header.plaintext_sha256 != registered.plaintext_sha256:
        # A file sealed under the same name and version by a trusted signer is still not the one that was promoted.
        message = (
            f"the sealed file of {registered.name}@{registered.version} is not the registered one"
        )
        raise RegistryError(Code.SEALED_MODEL_REFUSED, message, reason="digest_not_registered")
    return model


def _network(model: OpenedModel) -> engines.Network:
    header = model.header
    return engines.Network(
        weights=model.payload.weights,
        task=header.task,
        class_names=model.payload.names,
        input_size=header.input_size,
        is_dynamic=header.dynamic,
        stride_pixels=header.stride,
        precision=header.precision,
        is_decode_reduced=header.decode == "reduced",
    )


def _input_sizes(settings: GatewaySettings, model: OpenedModel) -> list[tuple[int, int]]:
    sizes = [model.header.input_size]
    for text in filter(None, (part.strip() for part in settings.image_sizes.split(","))):
        if not _PIXELS.fullmatch(text):
            message = f"GATEWAY_IMAGE_SIZES: {text!r} is not a number of pixels"
            raise SettingsError(Code.SETTINGS_INVALID, message)
        sizes.append((int(text), int(text)))
    return sizes


def _authenticator(settings: GatewaySettings) -> Authenticator:
    issuer = TrustedIssuer(
        issuer=settings.issuer,
        audience=settings.audience,
        keyset=load_keyset(_read_keyset(settings.jwks_file)),
        max_lifetime_seconds=settings.token_max_lifetime_seconds,
    )
    return Authenticator(issuer=issuer, cache=TokenCache(max_entries=settings.token_cache_entries))


def _read_keyset(file: Path) -> bytes:
    # Whoever can change it decides whose tokens are believed.
    try:
        with file.open("rb") as opened:
            fault = why_changeable(os.fstat(opened.fileno()), safe_mode=0o644)
            if fault is not None:
                message = f"GATEWAY_JWKS_FILE: {file} {fault}"
                raise SettingsError(Code.SETTINGS_INVALID, message)
            return opened.read(MAX_KEYSET_BYTES + 1)
    except OSError as exc:
        message = f"GATEWAY_JWKS_FILE: cannot read {file}: {exc.strerror}"
        raise SettingsError(Code.SETTINGS_INVALID, message) from exc


def _sampler(
    settings: GatewaySettings, opened: Opened, metrics: GatewayMetrics, *, clock: Clock
) -> Sampler:
    key, wrapped = create_sample_key(kek=opened.keks[0], now=clock(), random=os.urandom)
    # The wrapped key is durable before the first image under it; killed in between, it is an unused row.
    with write_transaction(opened.store) as connection:
        insert_sample_key(connection, wrapped)
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


def _start_gauges(
    metrics: GatewayMetrics, loaded: LoadedModel, runner: Runner, sampler: Sampler
) -> None:
    model, engine = loaded.version, loaded.engine
    metrics.model_info.labels(model.name, model.version, engine.precision, engine.name).set(1)
    metrics.build_info.labels(version("gatewatch")).set(1)
    metrics.queue_depth.set_function(lambda: runner.queue_depth)
    metrics.sample_images.set_function(lambda: sampler.images_kept)
    metrics.sample_lag_seconds.set_function(lambda: sampler.lag_seconds)


def _facts(loaded: LoadedModel) -> AnswerFacts:
    model = loaded.version
    return AnswerFacts(
        model_name=model.name,
        model_version=model.version,
        task=loaded.engine.task,
        class_names=model.class_names,
        precision=loaded.engine.precision,
        versions={"gatewatch": version("gatewatch"), **loaded.engine.versions},
    )


async def _is_ready(runner: Runner, readiness: Readiness) -> bool:
    return runner.is_ready and await readiness.check()


def _lifespan(
    audit: AuditLog, runner: Runner, model: ModelVersion, metrics: GatewayMetrics, clock: Clock
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    def event(action: Action) -> AuditEvent:
        return AuditEvent(
            action=action,
            outcome=Outcome.ANSWERED,
            recorded_at=clock(),
            model_name=model.name,
            model_version=model.version,
        )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # A gateway that cannot write its first record does not open its door.
        await audit.append(event(Action.GATEWAY_START))
        metrics.ready.set(1)
        yield
        metrics.ready.set(0)
        await runner.close()
        await audit.append(event(Action.GATEWAY_STOP))

    return lifespan
