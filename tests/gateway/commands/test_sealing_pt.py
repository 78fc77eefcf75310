"""Sealing a `.pt` as it is, for the engine that runs Ultralytics itself."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gateway.commands.opening import open_keks, open_trusted_signers
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.inference.decode import ImageLimits
from gateway.inference.engines.opening import open_engine
from gateway.inference.postprocess import Thresholds
from gateway.inference.runner import Runner
from gateway.models.loading import network_of
from gateway.sealing.sealed_model import OpenedModel, open_model
from gateway.settings import GatewaySettings

pytestmark = [pytest.mark.needs_seal]

PtWeights = Callable[[str], bytes]


def opened(settings: GatewaySettings, sealed: bytes) -> OpenedModel:
    """The sealed file, authenticated and decrypted."""
    return open_model(
        sealed,
        name="belt",
        version="2",
        keks=open_keks(settings),
        trusted_signers=open_trusted_signers(settings),
    )


def served(model: OpenedModel) -> Runner:
    """A runner as the gateway would start it."""
    return Runner(
        engine=open_engine(model.header.engine, network_of(model), workers=1),
        workers=1,
        queue_size=1,
        limits=ImageLimits(),
        infer_timeout_seconds=60,
    )


@pytest.mark.parametrize(
    ("architecture", "task"),
    [("yolo11n-seg", "segment"), ("yolov8n-cls", "classify"), ("yolov8n-pose", "pose")],
)
def test_a_pt_of_another_task_is_sealed_and_served(
    architecture: str,
    task: str,
    settings: GatewaySettings,
    order: SealOrder,
    pt_weights: PtWeights,
    tmp_path: Path,
) -> None:
    """From the file to an answer with the task's shapes; its golden set is recorded and reproduced on the way."""
    source = tmp_path / "weights.pt"
    source.write_bytes(pt_weights(architecture))
    order = replace(order, source_file=source, is_parity_skipped=False)
    path = seal(settings, order, console=Console(quiet=True))
    model = opened(settings, path.read_bytes())
    assert ("ultralytics", task, (128, 128)) == (
        model.header.engine,
        model.header.task,
        model.header.input_size,
    )
    assert source.read_bytes() == bytes(model.payload.weights)
    assert model.header.gates["parity"].startswith("passed: the same ")
    assert model.payload.golden is not None
    runner = served(model)
    runner.warm_up()
    assert order.golden_folder is not None
    image = min(order.golden_folder.rglob("*.jpg")).read_bytes()

    async def answer() -> set[str]:
        result = await runner.detect(image, Thresholds(confidence=0.01))
        await runner.close()
        names = ("polygons", "keypoints", "corners", "ranking")
        return {name for name in names if getattr(result.detections, name) is not None}

    expected = {"segment": {"polygons"}, "classify": {"ranking"}, "pose": {"keypoints"}}
    assert expected[task] == asyncio.run(answer())
