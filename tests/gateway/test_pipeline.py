"""The order of steps, seen by fakes that write down who was called."""

import asyncio
import hashlib
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from gateway.audit.entries import encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import (
    AuditUnavailableError,
    AuthnError,
    AuthzError,
    Code,
    DecodeError,
    GatewayError,
    OverloadedError,
    QuotaError,
    RequestError,
    ServiceError,
)
from gateway.identity.policy import Permission
from gateway.metrics import GatewayMetrics
from gateway.pipeline import (
    HASH_ON_LOOP_BYTES,
    Admitted,
    Prediction,
)
from tests.gateway.pipeline_world import (
    ANSWER_SHA256,
    BODY,
    BODY_SHA256,
    CALL,
    LATER,
    NOW,
    RESULT,
    TOKEN,
    World,
    unavailable,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture
def world() -> World:
    """A world in which everything works."""
    return World()


async def test_steps_come_in_the_order_that_security_rests_on(world: World) -> None:
    """Admitted is durable before detect, answered before the answer; sampling is last."""
    await world.predict()
    assert world.steps == [
        "enter",
        "authenticate",
        "require None",
        "spend 1",
        "read",
        "confirm",
        "require 3",
        "begin record admitted",
        "record admitted",
        "detect",
        "render",
        "begin record answered",
        "record answered",
        "leave",
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
        token_id="t",
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


async def test_records_say_how_the_caller_proved_itself(world: World) -> None:
    """Its factors, and the key of its DPoP proofs; of somebody without, neither."""
    world.principal = replace(
        world.principal, acr="phr", amr=frozenset({"pwd", "otp"}), key_thumbprint="P" * 43
    )
    await world.predict()
    said = {(event.authentication, event.proof_key_thumbprint) for event in world.events}
    assert {("acr=phr amr=otp,pwd", "P" * 43)} == said


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
    assert offer.embedding is RESULT.embedding
    assert offer.source is None


@pytest.mark.parametrize(
    ("claim", "headers", "source", "reason"),
    [
        ("belt-2", ("cam-3",), "belt-2", None),
        (None, ("cam-3",), "cam-3", None),
        ("belt 2", ("cam-3",), None, "claim_form"),
        (None, ("cam 3",), None, "header_form"),
        (None, ("cam-3", "cam-3"), None, "header_repeated"),
    ],
)
async def test_a_sample_knows_its_camera_if_somebody_named_it(
    world: World,
    claim: str | None,
    headers: tuple[str, ...],
    source: str | None,
    reason: str | None,
) -> None:
    """What is no name is counted by its reason and refuses nobody."""
    world.principal = replace(world.principal, source=claim)
    await world.predict(replace(CALL, unverified_sources=headers))
    assert [source] == [offer.source for offer in world.offers]
    found = {
        sample.labels["reason"]: sample.value
        for metric in world.metrics.sources_ignored.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
    assert ({} if reason is None else {reason: 1.0}) == found


async def test_strangers_bodies_are_never_read(world: World) -> None:
    """Who is not authenticated costs no body and no decoder."""
    world.fails["authenticate"] = AuthnError(Code.AUTHN_INVALID, "m", reason="expired")
    with pytest.raises(AuthnError):
        await world.predict()
    assert world.steps == [
        "enter", "authenticate", "leave", "begin record refused", "record refused",
    ]  # fmt: skip


async def test_an_address_that_asks_too_much_is_not_even_authenticated(world: World) -> None:
    """Its refusal is on record all the same, with the limit it met."""
    world.fails["enter"] = QuotaError(
        Code.RATE_LIMITED, "m", limit="address_rate", retry_after_seconds=1
    )
    with pytest.raises(QuotaError):
        await world.predict()
    assert world.steps == ["enter", "begin record refused", "record refused"]
    assert (world.events[0].code, world.events[0].reason) == (Code.RATE_LIMITED, "address_rate")


async def test_a_refusal_may_go_without_a_record_and_is_counted_by_the_next(world: World) -> None:
    """The door says which: a stranger's flood must not fill the ledger."""
    world.fails["enter"] = QuotaError(
        Code.RATE_LIMITED, "m", limit="address_rate", retry_after_seconds=1
    )
    world.recorded = (False, 0)
    with pytest.raises(QuotaError):
        await world.predict()
    assert world.events == []
    world.recorded = (True, 41)
    with pytest.raises(QuotaError):
        await world.predict()
    (event,) = world.events
    assert event.reason == "address_rate; 41 more before it have no record of their own"


async def test_a_principal_that_asks_too_much_is_on_record_by_name(world: World) -> None:
    """What it spends is counted after its permission, so that nobody else's budget is touched, and before its body."""
    world.fails["spend 1"] = QuotaError(
        Code.QUOTA_EXHAUSTED, "m", limit="daily_images", retry_after_seconds=60
    )
    with pytest.raises(QuotaError):
        await world.predict()
    assert "read" not in world.steps
    assert (world.events[0].subject, world.events[0].reason) == ("camera-7", "daily_images")


async def test_a_token_that_is_denied_while_its_call_is_read_gets_nothing(world: World) -> None:
    """A body may take its time; nothing is decoded for a caller who is out by then."""
    world.fails["confirm"] = AuthnError(Code.AUTHN_INVALID, "m", reason="denied")
    with pytest.raises(AuthnError):
        await world.predict()
    assert "detect" not in world.steps
    assert (world.events[0].outcome, world.events[0].reason) == (Outcome.REFUSED, "denied")


async def test_a_version_that_the_role_does_not_cover_is_not_asked(world: World) -> None:
    """Which one answers is known only after the body was read, and refused before it is decoded."""
    world.principal = replace(world.principal, roles=frozenset({"client:belt@2"}))
    with pytest.raises(AuthzError):
        await world.predict()
    assert world.steps[-3:] == ["leave", "begin record refused", "record refused"]
    assert (world.events[0].reason, world.events[0].model_version) == ("other_version", "3")
    assert "detect" not in world.steps


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
    assert "read" not in world.steps
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
    stored = "".join(encode_event(event).body for event in world.events)
    assert "secret-token" not in stored
    assert "bytes of an image" not in stored


async def test_without_the_first_record_nothing_is_decoded(world: World) -> None:
    """The ledger fails closed before hostile bytes are touched."""
    world.fails["record admitted"] = unavailable()
    with pytest.raises(AuditUnavailableError):
        await world.predict()
    assert world.steps[-3:] == ["begin record admitted", "record admitted", "leave"]
    assert "detect" not in world.steps


async def test_without_the_second_record_no_answer_leaves(world: World) -> None:
    """Nor is anything sampled."""
    world.fails["record answered"] = unavailable()
    with pytest.raises(AuditUnavailableError):
        await world.predict()
    assert world.steps[-2:] == ["record answered", "leave"]
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
    assert world.steps[-3:] == ["record answered", "leave", "offer"]
    assert [event.outcome for event in world.events] == [Outcome.ADMITTED, Outcome.ANSWERED]


@pytest.mark.parametrize("length", [HASH_ON_LOOP_BYTES, HASH_ON_LOOP_BYTES + 1])
async def test_large_bodies_have_the_same_kind_of_digest(world: World, length: int) -> None:
    """On the loop or in a thread, it is the SHA-256 of the body."""
    world.body = b"\x07" * length
    await world.predict()
    assert world.events[0].input_sha256 == hashlib.sha256(world.body).hexdigest()
    assert world.events[0].input_bytes == length


async def facts(_admitted: Admitted) -> bytes:
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

    async def render(_admitted: Admitted) -> bytes:
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
    with pytest.raises(RequestError, match="m"):
        await world.pipeline.refuse(call, RequestError(Code.ROUTE_UNKNOWN, "m"))
    (event,) = world.events
    assert (event.action, event.outcome, event.route, event.code, event.subject) == (
        Action.ROUTE_UNKNOWN, Outcome.REFUSED, "/.env", Code.ROUTE_UNKNOWN, None,
    )  # fmt: skip
    assert "authenticate" not in world.steps
    assert "note" in world.steps


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
