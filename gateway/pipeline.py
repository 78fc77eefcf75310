"""One request from credentials to answer, in the order that the security of the whole rests on.

1. authenticate, 2. authorise and count: before a byte of the body is read, so that strangers cost nothing,
3. a durable "admitted" record: before hostile bytes are decoded, so that a crash leaves a trace,
4. decode and detect by the version that answers for the model, 5. a durable "answered" record: before the first byte
of the answer, 6. offer to the sampler and to a shadow, which never delay the answer.

An operator's change goes the same way: who and whether first, on record before it is tried and after.

No HTTP and no SQL here. Refusals and failures are recorded too; where that is impossible the caller gets
audit_unavailable instead of the refusal, and no answer ever leaves unrecorded.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import perf_counter
from typing import Any, NoReturn, TypeVar

from gateway.audit.details import format_factors
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
from gateway.identity.access import Access, Standing
from gateway.identity.policy import Permission
from gateway.identity.principal import Credentials, Principal
from gateway.inference.postprocess import Thresholds
from gateway.metrics import GatewayMetrics
from gateway.models.directory import Answered, Directory
from gateway.models.shadow import AnsweredRequest, Shadows
from gateway.sampling.offers import Offer
from gateway.sampling.sampler import Sampler
from gateway.sampling.sources import choose_source

# No version is called so: only roles that no version restricts fit it.
ANY_VERSION = ""
HASH_ON_LOOP_BYTES = 1 << 20  # about 0.6 ms; more is hashed in a thread, so that nobody else waits

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a request before anything about it is verified.

    model_name: the one it is about, well formed but perhaps unknown; empty where it is about all of them.
    unverified_sources: what the caller says which camera it is, in each header that says it.
    standing: what the door learns of the caller, for the answer's head.
    """

    request_id: str
    received_at: datetime
    action: Action
    permission: Permission | None
    route: str
    credentials: Credentials
    model_name: str
    unverified_sources: tuple[str, ...] = ()
    standing: Standing = field(default_factory=Standing, compare=False)


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """One encoded image and what is wanted of it; image_size_pixels None is the model's own."""

    body: bytes
    thresholds: Thresholds
    image_size_pixels: int | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """A rendered answer, the NAME@VERSION that made it, and how long its records took to become durable."""

    answer: bytes
    model_label: str
    audit_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What an operator asks for; version None where the name alone says it. detail: for the ledger."""

    version: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """A change that was made: the version it made a difference to, and the answer. detail: more for the ledger."""

    version: str
    answer: bytes
    detail: str | None = None


Asked = TypeVar("Asked", bound=Change)
ReadRequest = Callable[[], Awaitable[PredictRequest]]
Render = Callable[[Answered], bytes]


@dataclass(slots=True)
class _Trail:
    """What is known of a call for its records; each step adds what it learnt."""

    event: AuditEvent
    standing: Standing
    audit_seconds: float = 0.0

    def add(self, **fields: Any) -> None:
        self.event = replace(self.event, **fields)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Somebody who passed the door for one call."""

    access: Access
    call: Call
    permission: Permission
    principal: Principal
    trail: _Trail = field(repr=False, compare=False)

    def note(self, *, detail: str | None = None, result_count: int | None = None) -> None:
        """Have the call's records say what was asked for, or how much was found."""
        event = self.trail.event
        self.trail.add(
            detail=detail or event.detail,
            result_count=event.result_count if result_count is None else result_count,
        )

    def holds(self, permission: Permission) -> bool:
        """Whether another permission holds too, for all models at once."""
        now = self.call.received_at
        try:
            self.access.require(self.principal, permission, None, None, now)
        except CallerError:
            return False
        return True

    def require(self, version: str | None) -> None:
        """Return if the permission holds for this version too. Raises AuthzError, StepUpError."""
        self._require(version, self.call.received_at)

    def require_still(self, version: str, now: datetime) -> None:
        """The same once the rest of the call has come: what ended or was denied meanwhile counts.

        Raises AuthnError, AuthzError, StepUpError, IdentityUnavailableError.
        """
        self.access.confirm(self.principal, now)
        self._require(version, now)

    def _require(self, version: str | None, now: datetime) -> None:
        name = self.call.model_name or None
        self.access.require(self.principal, self.permission, name, version, now)

    def is_allowed(self, version: str) -> bool:
        """Whether the permission holds for this version."""
        try:
            self.require(version)
        except CallerError:
            return False
        return True


class Pipeline:
    """The wired steps; one object a process."""

    def __init__(
        self,
        *,
        access: Access,
        audit: AuditLog,
        directory: Directory,
        shadows: Shadows,
        sampler: Sampler,
        metrics: GatewayMetrics,
        clock: Clock,
    ) -> None:
        self._access = access
        self._audit = audit
        self._directory = directory
        self._shadows = shadows
        self._sampler = sampler
        self._metrics = metrics
        self._clock = clock

    async def predict(self, call: Call, read: ReadRequest, render: Render) -> Prediction:
        """The rendered answer, recorded.

        Raises CallerError for what the caller did wrong, ServiceError for what we did; both are on record by then.
        """
        async with self._recorded(call) as trail, self._admitted(call, trail, images=1) as admitted:
            self._directory.check(call.model_name)
            request = await read()
            trail.add(input_sha256=await _sha256(request.body), input_bytes=len(request.body))
            with self._directory.chosen(
                call.model_name, call.request_id, is_allowed=admitted.is_allowed
            ) as choice:
                trail.add(model_version=choice.served.version.version)
                # Production may always have to answer; the canary was chosen only if it is allowed too.
                admitted.require_still(choice.production.version.version, self._clock())
                await self._record(trail, Outcome.ADMITTED)
                answered = await choice.detect(
                    request.body, request.thresholds, request.image_size_pixels
                )
            self._note_fallback(answered, trail)
            answer = render(answered)
            trail.add(
                result_digest=hashlib.sha256(answer).hexdigest(),
                result_count=len(answered.result.detections),
            )
            await self._record(trail, Outcome.ANSWERED)
        offer = _offer(admitted, request.body, answered, self._source(admitted))
        self._sampler.offer(offer)
        self._shadows.offer(AnsweredRequest(offer, request.thresholds, request.image_size_pixels))
        return Prediction(answer, answered.served.label, trail.audit_seconds)

    async def describe(self, call: Call, produce: Callable[[Admitted], Awaitable[bytes]]) -> bytes:
        """What the gateway says about its models and its ledger, for principals that may read it, recorded.

        produce: asks of each version or record whether the caller may know of it.
        """
        async with self._recorded(call) as trail, self._admitted(call, trail) as admitted:
            answer = await produce(admitted)
            await self._record(trail, Outcome.ANSWERED)
        return answer

    async def change(
        self,
        call: Call,
        read: Callable[[], Awaitable[Asked]],
        act: Callable[[Asked], Awaitable[Changed]],
    ) -> bytes:
        """The answer to an operator's change of the registry, on record before it is tried and after.

        Raises CallerError, OperatorError if the change cannot be made, ServiceError; all are on record by then.
        """
        async with self._recorded(call) as trail, self._admitted(call, trail) as admitted:
            asked = await read()
            trail.add(model_version=asked.version, detail=asked.detail)
            # Where the name alone says it, the version is whatever was there before: only for whom any is allowed.
            version = ANY_VERSION if asked.version is None else asked.version
            admitted.require_still(version, self._clock())
            await self._record(trail, Outcome.ADMITTED)
            changed = await act(asked)
            detail = " ".join(filter(None, (asked.detail, changed.detail))) or None
            trail.add(model_version=changed.version, detail=detail)
            await self._record(trail, Outcome.ANSWERED)
        return changed.answer

    async def refuse(self, call: Call, error: CallerError) -> NoReturn:
        """Refuse a call that no route takes, and record it.

        Raises the error, or QuotaError for whoever guesses too often.
        """
        async with self._recorded(call), self._access.entered(call.credentials, call.received_at):
            await self._access.note_unknown_route(call.credentials)
            raise error
        raise RuntimeError("internal: a refusal was swallowed")

    @asynccontextmanager
    async def _recorded(self, call: Call) -> AsyncIterator[_Trail]:
        """Whatever ends the call before its last record is on record when it reaches the caller."""
        trail = _begin(call)
        try:
            yield trail
        except asyncio.CancelledError as exc:
            raise await self._record_cancelled(trail, exc) from None
        except Exception as exc:
            await self._record_failure(trail, exc)
            raise

    @asynccontextmanager
    async def _admitted(
        self, call: Call, trail: _Trail, *, images: int = 0
    ) -> AsyncIterator["Admitted"]:
        """The steps at the door; the caller's places there are held until the call ends."""
        if call.permission is None:
            raise RuntimeError("internal: a route without a permission reached the pipeline")
        now = call.received_at
        async with self._access.entered(call.credentials, now):
            principal = await self._access.authenticate(call.credentials, call.standing, now)
            trail.add(
                issuer=principal.issuer,
                subject=principal.subject,
                client_id=principal.client_id,
                token_id=principal.token_id,
                authentication=format_factors(principal.acr, principal.amr),
                proof_key_thumbprint=principal.key_thumbprint,
            )
            admitted = Admitted(self._access, call, call.permission, principal, trail)
            admitted.require(None)
            async with self._access.spent(principal, call.standing, images=images):
                yield admitted

    def _source(self, admitted: Admitted) -> str | None:
        source, fault = choose_source(admitted.principal.source, admitted.call.unverified_sources)
        if fault is not None:
            self._metrics.sources_ignored.labels(fault.value).inc()
        return source

    def _note_fallback(self, answered: Answered, trail: _Trail) -> None:
        if answered.failed is not None:
            self._metrics.canary_fallbacks.inc()
            version = answered.served.version.version
            trail.add(model_version=version, reason=f"in place of {answered.failed.label}")

    async def _record(self, trail: _Trail, outcome: Outcome) -> None:
        started = perf_counter()
        event = replace(trail.event, outcome=outcome, recorded_at=self._clock())
        position = await self._audit.append(event)
        if outcome is not Outcome.ADMITTED and event.subject is not None:
            # A stranger has nothing to prove, and would learn from positions how much goes on here.
            trail.standing.audit_record = (self._audit.origin, position)
        seconds = perf_counter() - started
        trail.audit_seconds += seconds
        self._metrics.audit_seconds.observe(seconds)

    async def _record_failure(self, trail: _Trail, error: Exception) -> None:
        if isinstance(error, AuditUnavailableError):
            return  # the ledger itself is what failed
        code = error.code if isinstance(error, GatewayError) else Code.INTERNAL
        reason = error.reason if isinstance(error, GatewayError) else type(error).__name__
        outcome = Outcome.REFUSED if isinstance(error, CallerError) else Outcome.FAILED
        if isinstance(error, GatewayError):
            is_recorded, unrecorded = self._access.is_recorded(
                error, trail.event.address or "", trail.event.recorded_at
            )
            if not is_recorded:
                return
            if unrecorded:
                reason = f"{reason}; {unrecorded} more before it have no record of their own"
        trail.add(code=code, reason=reason)
        await self._record(trail, outcome)

    async def _record_cancelled(
        self, trail: _Trail, cancelled: asyncio.CancelledError
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


def _begin(call: Call) -> _Trail:
    event = AuditEvent(
        action=call.action,
        outcome=Outcome.ADMITTED,
        recorded_at=call.received_at,
        request_id=call.request_id,
        certificate_thumbprint=call.credentials.certificate_thumbprint,
        address=call.credentials.address,
        method=call.credentials.method,
        route=call.route,
        model_name=call.model_name or None,
    )
    return _Trail(event, call.standing)


async def _sha256(body: bytes) -> str:
    if len(body) <= HASH_ON_LOOP_BYTES:
        return hashlib.sha256(body).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())


def _offer(admitted: Admitted, body: bytes, answered: Answered, source: str | None) -> Offer:
    call, principal = admitted.call, admitted.principal
    return Offer(
        request_id=call.request_id,
        received_at=call.received_at,
        model_name=answered.served.version.name,
        model_version=answered.served.version.version,
        principal=f"{principal.issuer}|{principal.subject}",
        input_sha256=admitted.trail.event.input_sha256 or "",
        image=answered.result.image,
        encoded=body,
        detections=answered.result.detections,
        mode=answered.mode,
        image_shape=answered.result.image_shape,
        source=source,
        embedding=answered.result.embedding,
    )
