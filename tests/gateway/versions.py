"""Loaded versions without a network, for tests of what stands around them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import numpy as np

from gateway.errors import GatewayError
from gateway.inference.engine import Engine
from gateway.inference.postprocess import Thresholds
from gateway.inference.runner import InferenceResult, Runner
from gateway.models.served import ServedVersion
from gateway.sealing.container import SealedHeader
from gateway.store.records import Detections, ModelVersion, Stage

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


class FakeEngine:
    """An engine's words about itself."""

    name = "openvino"
    precision = "f32"
    task = "detect"
    versions: Mapping[str, str] = {"openvino": "2026.4.1"}


class FakeRunner:
    """Sees one box in every image, waits or fails as it is told."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.bodies: list[bytes] = []
        self.queue_depth = 0
        self.is_ready = True
        self.is_closed = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def detect(
        self, body: bytes, thresholds: Thresholds, image_size_pixels: int | None
    ) -> InferenceResult:
        """One box on a black image."""
        self.bodies.append(body)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return result()

    async def close(self) -> None:
        """Take no more."""
        self.is_closed = True


def result(*, boxes: int = 1) -> InferenceResult:
    """So many equal boxes on a black image."""
    detections = Detections(
        np.array([[1, 2, 3, 4]] * boxes, np.float32),
        np.array([0.5] * boxes, np.float32),
        np.array([0] * boxes, np.int64),
    )
    return InferenceResult(
        detections=detections,
        image=np.zeros((8, 16, 3), np.uint8),
        image_shape=(8, 16),
        decode_milliseconds=1.0,
        preprocess_milliseconds=2.0,
        inference_milliseconds=3.0,
        postprocess_milliseconds=4.0,
        queue_milliseconds=5.0,
    )


def registered(version: str = "3", name: str = "belt") -> ModelVersion:
    """A registered candidate."""
    return ModelVersion(
        name,
        version,
        Stage.CANDIDATE,
        f"{name}-{version}.sealed",
        "ab" * 32,
        ("bolt",),
        (320, 416),
        NOW,
    )


@dataclass(frozen=True, slots=True)
class Fake:
    """A loaded version and the runner behind it."""

    served: ServedVersion
    runner: FakeRunner


def fake_version(version: str = "3", *, name: str = "belt", class_name: str = "bolt") -> Fake:
    """A loaded version that answers with one class."""
    runner = FakeRunner()
    return Fake(served_by(runner, version, name=name, class_name=class_name), runner)


def served_by(
    runner: object, version: str = "3", *, name: str = "belt", class_name: str = "bolt"
) -> ServedVersion:
    """A loaded version with a runner of the test's own."""
    header = SealedHeader(
        name=name,
        version=version,
        task="detect",
        input_size=(320, 416),
        precision="f32",
        engine="openvino",
        dynamic=False,
        stride=32,
        decode="full",
        made_with={"openvino": "2026.4.1"},
        gates={"parity": "passed"},
        plaintext_length=1,
        plaintext_sha256="ab" * 32,
        signer="cd" * 32,
    )
    return ServedVersion(
        version=registered(version, name),
        header=header,
        class_names=(class_name,),
        engine=cast("Engine", FakeEngine()),
        runner=cast("Runner", runner),
        kek_id="0123456789abcdef",
    )


class FakeLoader:
    """Loads versions without a network, or fails as it is told."""

    def __init__(self) -> None:
        self.errors: dict[str, GatewayError] = {}
        self.loaded: list[Fake] = []

    def load(self, version: ModelVersion) -> ServedVersion:
        """A version that answers with a class named after it."""
        if version.version in self.errors:
            raise self.errors[version.version]
        loaded = fake_version(version.version, name=version.name, class_name=f"v{version.version}")
        self.loaded.append(loaded)
        return loaded.served

    @property
    def labels(self) -> list[str]:
        """What was loaded, in order."""
        return [fake.served.label for fake in self.loaded]
