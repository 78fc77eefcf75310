"""One request from credentials to answer, in the order that the security of the whole rests on.

1. authenticate, 2. authorise: before a byte of the body is read, so that strangers cost nothing,
3. a durable "admitted" record: before hostile bytes are decoded, so that a crash leaves a trace,
4. decode and detect in the runner, 5. a durable "answered" record: before the first byte of the answer,
6. offer to the sampler, which never delays the answer.

No HTTP and no SQL here. Refusals and failures are recorded too; where that is impossible the caller gets
audit_unavailable instead of the refusal, and no answer ever leaves unrecorded.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.writer import AuditLog
from gateway.errors import (
    AuditUnavailableError,
    CallerError,
    Code,
    GatewayError,
    RequestError,
    ServiceError,
)
from gateway.identity.authenticate import Authenticator
from gateway.identity.policy import Permission, require
from gateway.identity.principal import Principal
from gateway.inference.postprocess import Thresholds
from gateway.inference.runner import InferenceResult, Runner
from gateway.metrics import GatewayMetrics
from gateway.sampling.sampler import Offer, Sampler
from gateway.store.records import ModelVersion

HASH_ON_LOOP_BYTES = 1 << 20  # about 0.6 ms; more is hashed in a thread, so that nobody else waits

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a request before anything about it is verified."""

    request_id: str
    received_at: datetime
    action: Action
    permission: Permission | None
    method: str
    route: str
    address: str
    unverified_authorization: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """One encoded image and what is wanted of it; image_size_pixels None is the model's own."""

    body: bytes
    thresholds: Thresholds
    image_size_pixels: int | None


ReadRequest = Callable[[], Awaitable[PredictRequest]]
Render = Callable[[InferenceResult], bytes]


class Pipeline:
    """The wired steps; one object a process."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        audit: AuditLog,
        runner: Runner,
        sampler: Sampler,
        model: ModelVersion,
        metrics: GatewayMetrics,
        clock: Clock,
    ) -> None:
        self.model = model
        self._authenticator = authenticator
        self._audit = audit
        self._runner = runner
        self._sampler = sampler
        self._metrics = metrics
        self._clock = clock

    async def predict(self, call: Call, read: ReadRequest, render: Render) -> bytes:
        """The rendered answer, recorded.

        Raises CallerError for what the caller did wrong, ServiceError for what we did; both are on record by then.
        """
        trail = self._trail(call)
        try:
            principal = self._authenticate(call)
            trail = _of_principal(trail, principal)
            self._authorise(call, principal)
            request = await read()
            trail = replace(
                trail, input_sha256=await _sha256(request.body), input_bytes=len(request.body)
            )
            await self._record(trail, Outcome.ADMITTED)
            result = await self._runner.detect(
                request.body, request.thresholds, request.image_size_pixels
            )
            answer = render(result)
            trail = replace(
                trail,
                result_digest=hashlib.sha256(answer).hexdigest(),
                result_count=len(result.detections),
            )
            await self._record(trail, Outcome.ANSWERED)
        except asyncio.CancelledError as exc:
            raise await self._record_cancelled(trail, exc) from None
        except Exception as exc:
            await self._record_failure(trail, exc)
            raise
        self._sampler.offer(_offer(call, request, result, principal, self.model, trail))
        return answer

    async def describe(self, call: Call, render: Callable[[], bytes]) -> bytes:
        """The rendered description of the served model, for principals that may read it, recorded."""
        trail = self._trail(call)
        try:
            principal = self._authenticate(call)
            trail = _of_principal(trail, principal)
            self._authorise(call, principal)
            answer = render()
            await self._record(trail, Outcome.ANSWERED)
        except asyncio.CancelledError as exc:
            raise await self._record_cancelled(trail, exc) from None
        except Exception as exc:
            await self._record_failure(trail, exc)
            raise
        return answer

    async def refuse(self, call: Call, error: CallerError) -> None:
        """Record a call that no route takes; the caller gets the error."""
        await self._record_failure(self._trail(call), error)

    def _authenticate(self, call: Call) -> Principal:
        return self._authenticator.authenticate(call.unverified_authorization, call.received_at)

    def _authorise(self, call: Call, principal: Principal) -> None:
        if call.permission is None:
            raise RuntimeError("internal: a route without a permission reached the pipeline")
        require(principal, call.permission, self.model.name)

    def _trail(self, call: Call) -> AuditEvent:
        return AuditEvent(
            action=call.action,
            outcome=Outcome.ADMITTED,
            recorded_at=call.received_at,
            request_id=call.request_id,
            address=call.address,
            method=call.method,
            route=call.route,
            model_name=self.model.name,
            model_version=self.model.version,
        )

    async def _record(self, trail: AuditEvent, outcome: Outcome) -> None:
        started = perf_counter()
        await self._audit.append(replace(trail, outcome=outcome, recorded_at=self._clock()))
        self._metrics.audit_seconds.observe(perf_counter() - started)

    async def _record_failure(self, trail: AuditEvent, error: Exception) -> None:
        if isinstance(error, AuditUnavailableError):
            return  # the ledger itself is what failed
        code = error.code if isinstance(error, GatewayError) else Code.INTERNAL
        reason = error.reason if isinstance(error, GatewayError) else type(error).__name__
        outcome = Outcome.REFUSED if isinstance(error, CallerError) else Outcome.FAILED
        await self._record(replace(trail, code=code, reason=reason), outcome)

    async def _record_cancelled(
        self, trail: AuditEvent, cancelled: asyncio.CancelledError
    ) -> GatewayError:
        # A caller that hung up, or a shutdown that has waited long enough. The ledger takes the record before this
        # waits, so that a second cancellation cannot lose it. An answer on record as given may not have left: this one
        # says so.
        error: GatewayError
        if cancelled.args == (Code.CLIENT_GONE.value,):
            error = RequestError(Code.CLIENT_GONE, "the connection ended before the answer")
        else:
            error = ServiceError(Code.NOT_READY, "the gateway is shutting down", reason="cancelled")
        await self._record_failure(trail, error)
        return error


def _of_principal(trail: AuditEvent, principal: Principal) -> AuditEvent:
    return replace(
        trail,
        issuer=principal.issuer,
        subject=principal.subject,
        client_id=principal.client_id,
    )


async def _sha256(body: bytes) -> str:
    if len(body) <= HASH_ON_LOOP_BYTES:
        return hashlib.sha256(body).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())


def _offer(
    call: Call,
    request: PredictRequest,
    result: InferenceResult,
    principal: Principal,
    model: ModelVersion,
    trail: AuditEvent,
) -> Offer:
    return Offer(
        request_id=call.request_id,
        received_at=call.received_at,
        model_name=model.name,
        model_version=model.version,
        principal=f"{principal.issuer}|{principal.subject}",
        input_sha256=trail.input_sha256 or "",
        image=result.image,
        encoded=request.body,
        detections=result.detections,
    )
