"""The order of steps, seen by fakes that write down who was called."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gateway.audit.chain import canonical_body
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.writer import AuditLog
from gateway.errors import (
    AuditUnavailableError,
    AuthnError,
    AuthzError,
    Code,
    DecodeError,
    GatewayError,
    OverloadedError,
    RegistryError,
    RequestError,
    RunnerError,
    ServiceError,
)
from gateway.identity.authenticate import Authenticator
from gateway.identity.policy import Permission
from gateway.identity.principal import Principal
from gateway.inference.postprocess import Thresholds
from gateway.inference.runner import InferenceResult
from gateway.metrics import GatewayMetrics
from gateway.models.directory import Answered, Directory, Lineup, Shared
from gateway.models.shadow import Shadows
from gateway.pipeline import (
    HASH_ON_LOOP_BYTES,
    Call,
    Change,
    Changed,
    Pipeline,
    Prediction,
    PredictRequest,
)
from gateway.sampling.sampler import Offer, Sampler
from gateway.store.records import Detections, SampleMode
from tests.gateway.versions import fake_version, served_by

pytestmark = pytest.mark.anyio

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
LATER = datetime(2031, 5, 6, 7, 8, 10, tzinfo=UTC)
TOKEN = "Bearer the-secret-token"
BODY = b"the bytes of an image"
BODY_SHA256 = "c4cb58a7ced38a9c5f95c3035efa9e5a0d1be6bf7c28dc83377398eef1632ad4"
ANSWER_SHA256 = "a566cacfc66fe381fec920ad9dcfc4a4bb0c791bda11f8be8f234f9e0b5220af"
CALL = Call(
    request_id="request-1",
    received_at=NOW,
    action=Action.PREDICT,
    permission=Permission.PREDICT,
    method="POST",
    route="/predict",
    address="192.0.2.7",
    unverified_authorization=(TOKEN,),
    model_name="belt",
)
RESULT = InferenceResult(
    detections=Detections(
        np.ones((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int64)
    ),
    image=np.zeros((4, 4, 3), np.uint8),
    image_shape=(4, 4),
    decode_milliseconds=1.0,
    preprocess_milliseconds=1.0,
    inference_milliseconds=1.0,
    postprocess_milliseconds=1.0,
)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


class World:
    """Everything around the pipeline; `steps` is the order in which it was used."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.events: list[AuditEvent] = []
        self.offers: list[Offer] = []
        self.principal = Principal(
            "issuer", "camera-7", "conveyor", frozenset({"client"}), "t", LATER
        )
        self.fails: dict[str, BaseException] = {}
        self.body = BODY
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.served = served_by(self)
        self.directory = Directory()
        self.directory.swap("belt", Lineup(self.served))
        sampler = cast("Sampler", self)
        self.pipeline = Pipeline(
            authenticator=cast("Authenticator", self),
            audit=cast("AuditLog", self),
            directory=self.directory,
            shadows=Shadows(directory=self.directory, sampler=sampler, metrics=self.metrics),
            sampler=sampler,
            metrics=self.metrics,
            clock=lambda: LATER,
        )

    def authenticate(self, authorization_header_values: Sequence[str], now: datetime) -> Principal:
        """The principal of TOKEN."""
        assert (authorization_header_values, now) == ((TOKEN,), NOW)
        self._step("authenticate")
        return self.principal

    async def read(self) -> PredictRequest:
        """The body."""
        self._step("read")
        return PredictRequest(self.body, Thresholds(confidence=0.5), 320)

    async def append(self, event: AuditEvent) -> int:
        """Durable only when it returns, which is after other tasks ran."""
        step = f"record {event.outcome.value}"
        self.steps.append(f"begin {step}")
        await asyncio.sleep(0)
        self._step(step)
        self.events.append(event)
        return len(self.events)

    async def detect(
        self, body: bytes, thresholds: Thresholds, image_size_pixels: int | None
    ) -> InferenceResult:
        """Two boxes."""
        assert (body, thresholds, image_size_pixels) == (self.body, Thresholds(confidence=0.5), 320)
        self._step("detect")
        return RESULT

    def render(self, answered: Answered) -> bytes:
        """The answer."""
        assert answered.mode is SampleMode.CANARY or answered.result is RESULT
        self._step("render")
        return b'{"the":"answer"}'

    def offer(self, offer: Offer) -> None:
        """Documented never to raise."""
        self._step("offer")
        self.offers.append(offer)

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name in self.fails:
            raise self.fails[name]

    async def predict(self, call: Call = CALL) -> Prediction:
        """One prediction."""
        return await self.pipeline.predict(call, self.read, self.render)


@pytest.fixture
def world() -> World:
    """A world in which everything works."""
    return World()


def unavailable() -> AuditUnavailableError:
    """What the ledger raises when it cannot write."""
    return AuditUnavailableError(Code.AUDIT_UNAVAILABLE, "m")


async def test_steps_come_in_the_order_that_security_rests_on(world: World) -> None:
    """Admitted is durable before detect, answered before the answer; sampling is last."""
    await world.predict()
    assert world.steps == [
        "authenticate",
        "read",
        "begin record admitted",
        "record admitted",
        "detect",
        "render",
        "begin record answered",
        "record answered",
        "offer",
    ]


async def test_both_records_say_who_did_what(world: World) -> None:
    """The second adds the digest of the exact answer to the first."""
    assert await world.predict() == Prediction(b'{"the":"answer"}', "belt@3")
    admitted = AuditEvent(
        action=Action.PREDICT,
        outcome=Outcome.ADMITTED,
        recorded_at=LATER,
        request_id="request-1",
        issuer="issuer",
        subject="camera-7",
        client_id="conveyor",
        address="192.0.2.7",
        method="POST",
        route="/predict",
        model_name="belt",
        model_version="3",
        input_sha256=BODY_SHA256,
        input_bytes=21,
    )
    assert world.events == [
        admitted,
        replace(admitted, outcome=Outcome.ANSWERED, result_digest=ANSWER_SHA256, result_count=2),
    ]


async def test_the_sampler_gets_the_request_and_its_answer(world: World) -> None:
    """With the principal in the form that samples store."""
    await world.predict()
    (offer,) = world.offers
    assert (offer.request_id, offer.received_at, offer.principal) == (
        "request-1", NOW, "issuer|camera-7",
    )  # fmt: skip
    assert (offer.model_name, offer.model_version, offer.encoded) == ("belt", "3", BODY)
    assert offer.input_sha256 == BODY_SHA256
    assert (offer.image, offer.detections) == (RESULT.image, RESULT.detections)


async def test_strangers_bodies_are_never_read(world: World) -> None:
    """Who is not authenticated costs no body and no decoder."""
    world.fails["authenticate"] = AuthnError(Code.AUTHN_INVALID, "m", reason="expired")
    with pytest.raises(AuthnError):
        await world.predict()
    assert world.steps == ["authenticate", "begin record refused", "record refused"]


async def test_a_stranger_is_on_record_without_a_name(world: World) -> None:
    """No claim of an unverified token reaches the ledger; the reason does."""
    world.fails["authenticate"] = AuthnError(Code.AUTHN_INVALID, "m", reason="expired")
    with pytest.raises(AuthnError):
        await world.predict()
    (event,) = world.events
    assert (event.issuer, event.subject, event.client_id) == (None, None, None)
    assert (event.code, event.reason) == (Code.AUTHN_INVALID, "expired")
    assert (event.input_sha256, event.input_bytes) == (None, None)


@pytest.mark.parametrize("role", ["operator", "client:other", "admin"])
async def test_bodies_of_those_who_may_not_are_never_read(world: World, role: str) -> None:
    """Authorisation comes before the body, too, and the record names the principal."""
    world.principal = replace(world.principal, roles=frozenset({role}))
    with pytest.raises(AuthzError):
        await world.predict()
    assert world.steps == ["authenticate", "begin record refused", "record refused"]
    assert (world.events[0].subject, world.events[0].code) == ("camera-7", Code.AUTHZ_DENIED)


async def test_a_route_without_a_permission_is_our_own_bug(world: World) -> None:
    """Denied by default: a permission forgotten in the table opens nothing."""
    with pytest.raises(RuntimeError, match="internal: a route without a permission"):
        await world.predict(replace(CALL, permission=None))
    assert "read" not in world.steps
    assert (world.events[0].outcome, world.events[0].code) == (Outcome.FAILED, Code.INTERNAL)


@pytest.mark.parametrize(
    ("step", "error", "outcome", "code", "reason"),
    [
        ("read", RequestError(Code.BODY_TIMEOUT, "m"), "refused", "body_timeout", "body_timeout"),
        ("detect", DecodeError(Code.IMAGE_CORRUPT, "m", reason="bad_png"), "refused",
         "image_corrupt", "bad_png"),
        ("detect", OverloadedError("m", retry_after_seconds=1), "failed", "overloaded", "overloaded"),
        ("detect", ValueError("text with a secret"), "failed", "internal", "ValueError"),
        ("render", KeyError("text with a secret"), "failed", "internal", "KeyError"),
    ],
)  # fmt: skip
async def test_refusals_and_failures_are_on_record(
    world: World, step: str, error: Exception, outcome: str, code: str, reason: str
) -> None:
    """With code and reason; of an unexpected exception only its type, its text may hold anything."""
    world.fails[step] = error
    with pytest.raises(type(error)) as caught:
        await world.predict()
    assert caught.value is error
    last = world.events[-1]
    assert (last.outcome, last.code, last.reason) == (outcome, code, reason)
    assert "offer" not in world.steps


@pytest.mark.parametrize("step", ["authenticate", "read", "detect", "render"])
async def test_records_never_hold_token_or_body(world: World, step: str) -> None:
    """Whatever fails, credentials and images stay out of the ledger."""
    world.fails[step] = GatewayError(Code.INTERNAL, f"{TOKEN} {BODY!r}")
    with pytest.raises(GatewayError):
        await world.predict()
    stored = "".join(map(canonical_body, world.events))
    assert "secret-token" not in stored
    assert "bytes of an image" not in stored


async def test_without_the_first_record_nothing_is_decoded(world: World) -> None:
    """The ledger fails closed before hostile bytes are touched."""
    world.fails["record admitted"] = unavailable()
    with pytest.raises(AuditUnavailableError):
        await world.predict()
    assert world.steps == ["authenticate", "read", "begin record admitted", "record admitted"]


async def test_without_the_second_record_no_answer_leaves(world: World) -> None:
    """Nor is anything sampled."""
    world.fails["record answered"] = unavailable()
    with pytest.raises(AuditUnavailableError):
        await world.predict()
    assert world.steps[-1] == "record answered"
    assert world.offers == []


async def test_a_refusal_that_cannot_be_recorded_is_not_told(world: World) -> None:
    """The caller gets audit_unavailable in its place."""
    world.fails["authenticate"] = AuthnError(Code.AUTHN_INVALID, "m")
    world.fails["record refused"] = unavailable()
    with pytest.raises(AuditUnavailableError):
        await world.predict()


async def test_the_offer_comes_after_everything_that_the_answer_needs(world: World) -> None:
    """The sampler never raises; a bug in it would cost one answer, never a record."""
    world.fails["offer"] = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await world.predict()
    assert world.steps[-2:] == ["record answered", "offer"]
    assert [event.outcome for event in world.events] == [Outcome.ADMITTED, Outcome.ANSWERED]


@pytest.mark.parametrize("length", [HASH_ON_LOOP_BYTES, HASH_ON_LOOP_BYTES + 1])
async def test_large_bodies_have_the_same_kind_of_digest(world: World, length: int) -> None:
    """On the loop or in a thread, it is the SHA-256 of the body."""
    world.body = b"\x07" * length
    await world.predict()
    assert world.events[0].input_sha256 == hashlib.sha256(world.body).hexdigest()
    assert world.events[0].input_bytes == length


async def facts() -> bytes:
    """A description."""
    return b"facts"


DESCRIBE = replace(CALL, action=Action.MODELS_READ, permission=Permission.MODELS_READ)


async def test_a_description_is_recorded_before_it_leaves(world: World) -> None:
    """One record: reading the model's facts touches no hostile bytes."""
    answer = await world.pipeline.describe(DESCRIBE, facts)
    assert answer == b"facts"
    assert [(e.action, e.outcome, e.subject) for e in world.events] == [
        (Action.MODELS_READ, Outcome.ANSWERED, "camera-7")
    ]


async def test_a_description_needs_its_permission(world: World) -> None:
    """And a ledger that takes the record."""
    rendered: list[bool] = []

    async def render() -> bytes:
        rendered.append(True)
        return b""

    world.principal = replace(world.principal, roles=frozenset({"metrics"}))
    with pytest.raises(AuthzError):
        await world.pipeline.describe(DESCRIBE, render)
    assert rendered == []
    assert world.events[0].outcome is Outcome.REFUSED


async def test_a_description_that_is_not_recorded_does_not_leave(world: World) -> None:
    """Fails closed like every answer."""
    world.fails["record answered"] = unavailable()
    with pytest.raises(AuditUnavailableError):
        await world.pipeline.describe(DESCRIBE, facts)


async def test_a_call_that_no_route_takes_is_on_record(world: World) -> None:
    """As refused, without a principal: its credentials are not looked at."""
    call = replace(CALL, action=Action.ROUTE_UNKNOWN, permission=None, route="/.env")
    await world.pipeline.refuse(call, RequestError(Code.ROUTE_UNKNOWN, "m"))
    (event,) = world.events
    assert (event.action, event.outcome, event.route, event.code, event.subject) == (
        Action.ROUTE_UNKNOWN, Outcome.REFUSED, "/.env", Code.ROUTE_UNKNOWN, None,
    )  # fmt: skip
    assert "authenticate" not in world.steps


@pytest.mark.parametrize("step", ["read", "record admitted", "detect", "record answered"])
async def test_a_cancelled_call_is_on_record_and_answered(world: World, step: str) -> None:
    """A shutdown that waited long enough cancels what still runs; no call may end without a trace."""
    world.fails[step] = asyncio.CancelledError()
    with pytest.raises(ServiceError) as caught:
        await world.predict()
    assert caught.value.code is Code.NOT_READY
    last = world.events[-1]
    assert (last.outcome, last.code, last.reason) == (Outcome.FAILED, Code.NOT_READY, "cancelled")
    assert world.offers == []


async def test_a_call_whose_caller_hung_up_is_on_record_as_such(world: World) -> None:
    """Its work was dropped for another reason than a shutdown."""
    world.fails["detect"] = asyncio.CancelledError("client_gone")
    with pytest.raises(RequestError) as caught:
        await world.predict()
    assert caught.value.code is Code.CLIENT_GONE
    assert [(e.outcome, e.code, e.reason) for e in world.events] == [
        (Outcome.ADMITTED, None, None), (Outcome.REFUSED, Code.CLIENT_GONE, "client_gone"),
    ]  # fmt: skip
    assert world.offers == []


async def test_a_cancelled_description_is_on_record_and_answered(world: World) -> None:
    """Like a prediction."""
    world.fails["record answered"] = asyncio.CancelledError()
    with pytest.raises(ServiceError):
        await world.pipeline.describe(DESCRIBE, facts)
    assert [event.outcome for event in world.events] == [Outcome.FAILED]


async def test_waiting_for_the_ledger_is_measured(world: World) -> None:
    """One observation a record."""
    metrics = GatewayMetrics(CollectorRegistry())
    world.pipeline._metrics = metrics
    await world.predict()
    assert metrics.registry.get_sample_value("gateway_audit_append_duration_seconds_count") == 2


def give_canary(world: World, runner_error: Exception | None = None) -> None:
    """Let version 4 answer every request."""
    canary = fake_version("4")
    canary.runner.error = runner_error
    world.directory.swap("belt", Lineup(world.served, canary=Shared(canary.served, 1.0)))


async def test_records_and_samples_name_the_canary_that_answered(world: World) -> None:
    """And so does the answer."""
    give_canary(world)
    assert (await world.predict()).model_label == "belt@4"
    assert [(e.outcome, e.model_version) for e in world.events] == [
        ("admitted", "4"), ("answered", "4"),
    ]  # fmt: skip
    (offer,) = world.offers
    assert (offer.model_version, offer.mode) == ("4", SampleMode.CANARY)


async def test_production_answers_for_a_canary_that_fails(world: World) -> None:
    """Its caller notices nothing; ledger, sample and counter do."""
    give_canary(world, RunnerError(Code.RUNNER_FAILED, "m"))
    assert (await world.predict()).model_label == "belt@3"
    assert [(e.outcome, e.model_version, e.reason) for e in world.events] == [
        ("admitted", "4", None), ("answered", "3", "in place of belt@4"),
    ]  # fmt: skip
    assert world.offers[0].mode is SampleMode.SERVED
    assert world.metrics.registry.get_sample_value("gateway_canary_fallbacks_total") == 1


async def test_a_shadow_gets_the_request_after_the_answer(world: World) -> None:
    """What it finds is sampled beside what was served."""
    shadow = fake_version("4")
    world.directory.swap("belt", Lineup(world.served, shadow=Shared(shadow.served, 1.0)))
    world.queue_depth = 0  # type: ignore[attr-defined]  # the world is its own runner
    await world.predict()
    assert [offer.model_version for offer in world.offers] == ["3"]
    await shadow.served.drain(timeout_seconds=5)
    assert shadow.runner.bodies == [BODY]
    assert [(o.request_id, o.model_version, o.mode) for o in world.offers] == [
        ("request-1", "3", SampleMode.SERVED), ("request-1", "4", SampleMode.SHADOW),
    ]  # fmt: skip


async def test_a_model_that_is_not_served_reads_no_body(world: World) -> None:
    """Whoever may ask for it hears that it is not here, on record."""
    with pytest.raises(RequestError) as caught:
        await world.predict(replace(CALL, model_name="gate"))
    assert caught.value.code is Code.MODEL_UNKNOWN
    assert "read" not in world.steps
    assert [(e.outcome, e.model_name, e.model_version) for e in world.events] == [
        ("refused", "gate", None)
    ]


async def test_a_role_for_one_model_opens_no_other(world: World) -> None:
    """The name in the path is what roles are compared with."""
    world.principal = replace(world.principal, roles=frozenset({"client:gate"}))
    with pytest.raises(AuthzError):
        await world.predict()


CHANGE = replace(CALL, action=Action.MODELS_PROMOTE, permission=Permission.MODELS_WRITE)


class Operator:
    """Changes what it is asked to change, as the world lets it."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.principal = replace(world.principal, roles=frozenset({"operator"}))

    async def read(self) -> Change:
        """What is asked."""
        self.world._step("read")
        return Change(version="4", detail="why")

    async def act(self, asked: Change) -> Changed:
        """Do it."""
        assert asked.version == "4"
        self.world._step("act")
        return Changed("4", b"done")

    async def change(self) -> bytes:
        """One change."""
        return await self.world.pipeline.change(CHANGE, self.read, self.act)


async def test_a_change_is_on_record_before_it_is_made(world: World) -> None:
    """And after, with the version that it is about."""
    assert await Operator(world).change() == b"done"
    assert [step for step in world.steps if not step.startswith("begin")] == [
        "authenticate", "read", "record admitted", "act", "record answered",
    ]  # fmt: skip
    assert [(e.action, e.outcome, e.model_version, e.reason) for e in world.events] == [
        ("models.promote", "admitted", "4", "why"), ("models.promote", "answered", "4", "why"),
    ]  # fmt: skip


async def test_a_change_that_is_not_recorded_is_not_made(world: World) -> None:
    """Fails closed."""
    world.fails["record admitted"] = unavailable()
    with pytest.raises(AuditUnavailableError):
        await Operator(world).change()
    assert "act" not in world.steps


async def test_a_change_that_fails_is_on_record_with_its_cause(world: World) -> None:
    """Code and reason."""
    world.fails["act"] = RegistryError(Code.GOLDEN_FAILED, "m", reason="bus.jpg: 0 of 3 boxes")
    with pytest.raises(RegistryError):
        await Operator(world).change()
    last = world.events[-1]
    assert (last.outcome, last.code, last.reason) == (
        "failed", "golden_failed", "bus.jpg: 0 of 3 boxes",
    )  # fmt: skip


@pytest.mark.parametrize("role", ["client", "analyst", "auditor", "metrics", "operator:gate"])
async def test_a_change_needs_an_operator(world: World, role: str) -> None:
    """Of this model."""
    operator = Operator(world)
    world.principal = replace(world.principal, roles=frozenset({role}))
    with pytest.raises(AuthzError):
        await operator.change()
    assert "read" not in world.steps
