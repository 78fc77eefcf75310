"""Everything around the pipeline, as fakes that write down who was called."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

import numpy as np
from prometheus_client import CollectorRegistry

from gateway.audit.events import Action, AuditEvent
from gateway.audit.writer import AuditLog
from gateway.errors import (
    AuditUnavailableError,
    Code,
    GatewayError,
)
from gateway.identity.access import Access, Standing
from gateway.identity.policy import DEFAULT_POLICY, Permission, require
from gateway.identity.principal import Credentials, Principal
from gateway.inference.postprocess import Thresholds
from gateway.inference.runner import InferenceResult
from gateway.metrics import GatewayMetrics
from gateway.models.directory import Answered, Directory, Lineup
from gateway.models.shadow import Shadows
from gateway.pipeline import (
    Call,
    Pipeline,
    Prediction,
    PredictRequest,
)
from gateway.sampling.offers import Offer
from gateway.sampling.sampler import Sampler
from gateway.store.records import Detections, SampleMode
from tests.gateway.versions import served_by

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
    route="/predict",
    credentials=Credentials((TOKEN,), (), "POST", "/predict", "192.0.2.7"),
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
    embedding=np.ones(4, np.float32),
)


class World:
    """Everything around the pipeline; `steps` is the order in which it was used."""

    origin = "gateway"

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.events: list[AuditEvent] = []
        self.offers: list[Offer] = []
        self.principal = Principal(
            "issuer", "camera-7", "conveyor", frozenset({"client"}), "t", NOW, LATER
        )
        self.fails: dict[str, BaseException] = {}
        self.policy = DEFAULT_POLICY
        self.recorded = (True, 0)
        self.body = BODY
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.served = served_by(self)
        self.directory = Directory()
        self.directory.swap("belt", Lineup(self.served))
        sampler = cast("Sampler", self)
        self.pipeline = Pipeline(
            access=cast("Access", self),
            audit=cast("AuditLog", self),
            directory=self.directory,
            shadows=Shadows(directory=self.directory, sampler=sampler, metrics=self.metrics),
            sampler=sampler,
            metrics=self.metrics,
            clock=lambda: LATER,
        )

    @asynccontextmanager
    async def entered(self, credentials: Credentials, now: datetime) -> AsyncIterator[None]:
        """A place of the address, given back at the end."""
        assert (credentials, now) == (CALL.credentials, NOW)
        self._step("enter")
        try:
            yield
        finally:
            self.steps.append("leave")

    async def authenticate(
        self, credentials: Credentials, standing: Standing, now: datetime
    ) -> Principal:
        """The principal of TOKEN."""
        assert (credentials.unverified_authorization, now) == ((TOKEN,), NOW)
        self._step("authenticate")
        standing.dpop_nonce = "nonce"
        return self.principal

    def require(
        self,
        principal: Principal,
        permission: Permission,
        model: str | None,
        version: str | None,
        now: datetime,
    ) -> None:
        """What the usual policy says; asked of which version is written down."""
        assert principal is self.principal
        assert now in (NOW, LATER)
        self._step(f"require {version}")
        require(principal, permission, model, version, policy=self.policy)

    def confirm(self, principal: Principal, now: datetime) -> None:
        """Still let in, unless told otherwise."""
        assert (principal, now) == (self.principal, LATER)
        self._step("confirm")

    @asynccontextmanager
    async def spent(
        self, principal: Principal, standing: Standing, *, images: int
    ) -> AsyncIterator[None]:
        """A place of the principal, given back at the end."""
        assert principal is self.principal
        self._step(f"spend {images}")
        yield

    async def note_unknown_route(self, credentials: Credentials) -> None:
        """Counted."""
        self._step("note")

    def is_recorded(self, error: GatewayError, address: str, now: datetime) -> tuple[bool, int]:
        """As told."""
        assert (address, now) == ("192.0.2.7", NOW)
        return self.recorded

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


def unavailable() -> AuditUnavailableError:
    """What the ledger raises when it cannot write."""
    return AuditUnavailableError(Code.AUDIT_UNAVAILABLE, "m")
