"""What a network must prove before it is sealed, with detectors that answer what a test wants."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from gateway.commands.seal_gates import Loss, check_loss, check_parity, measure_loss
from gateway.commands.steps import Steps
from gateway.errors import Code, OperatorError
from gateway.inference.accuracy import Accuracy
from gateway.inference.detect import InferenceResult
from gateway.inference.labelled import read_labelled_folder
from gateway.inference.lane_pool import LanePool
from gateway.inference.postprocess import Thresholds
from gateway.store.records import Detections

STEPS = Steps(Console(quiet=True))
BOX = (10.0, 20.0, 60.0, 80.0)


def detections(
    *, confidence: float = 0.9, right: float = 60.0, class_id: int = 0, count: int = 1
) -> Detections:
    """Boxes that are all alike."""
    return Detections(
        np.array([(10.0, 20.0, right, 80.0)] * count, np.float32).reshape(-1, 4),
        np.full(count, confidence, np.float32),
        np.full(count, class_id, np.int64),
    )


class FakePool:
    """A pool that finds the same in every image."""

    def __init__(self, found: Detections) -> None:
        self.found = found

    def detect(self, body: bytes, thresholds: Thresholds) -> InferenceResult:
        """The same, whatever is asked."""
        image = np.zeros((100, 100, 3), np.uint8)
        return InferenceResult(self.found, image, (100, 100), 0.0, 0.0, 0.0, 0.0)

    def map(self, work: Any, items: Any) -> Iterator[Any]:
        """One after the other."""
        return map(work, items)


def pool(**found: Any) -> LanePool:
    """A pool that finds these detections."""
    return cast("LanePool", FakePool(detections(**found)))


def parity(expected: Detections, found: LanePool) -> str:
    """What the gate says when Ultralytics finds what is expected in two images."""
    return check_parity(lambda _encoded, _thresholds: expected, found, IMAGES, steps=STEPS)


IMAGES = {"a.jpg": b"a", "b.jpg": b"b"}


def test_equal_answers_pass() -> None:
    """With how much was compared."""
    said = parity(detections(count=2), pool(count=2))
    assert "passed: the same 4 detections as Ultralytics in 2 images" == said


@pytest.mark.parametrize(
    "found",
    [
        {"right": 60.02},
        {"confidence": 0.9002},
        {"class_id": 1},
        {"count": 0},
        {"count": 2},
    ],
)
def test_a_difference_beyond_rounding_seals_nothing(found: dict[str, Any]) -> None:
    """A box, a confidence, a class, one too few or too many."""
    with pytest.raises(
        OperatorError, match=r"not answer as Ultralytics does on a\.jpg: "
    ) as caught:
        parity(detections(), pool(**found))
    assert caught.value.code is Code.GATE_FAILED


def test_rounding_passes() -> None:
    """Another order of summation is no other network."""
    assert parity(detections(), pool(right=60.005, confidence=0.90005)).startswith("passed")


def test_images_without_detections_prove_nothing() -> None:
    """And the header says so."""
    said = parity(detections(count=0), pool(count=0))
    assert said.startswith("not proved: nothing was found in 2 images")


def loss(reference: float, sealed: float) -> Loss:
    """A loss from one accuracy to another."""
    return Loss(
        Accuracy(0.5, reference, images=50, labels=300, classes=()),
        Accuracy(0.5, sealed, images=50, labels=300, classes=()),
    )


def test_a_point_may_be_lost() -> None:
    """And what was lost is recorded."""
    said = check_loss(loss(0.40, 0.391), is_accepted=False)
    assert said == (
        "passed: mAP50-95 0.3910 against 0.4000 in f32 on 50 images with 300 labels"
    )  # fmt: skip


def test_more_than_a_point_is_refused() -> None:
    """With both figures and what to do."""
    with pytest.raises(OperatorError, match=r"1\.1 points of accuracy are lost") as caught:
        check_loss(loss(0.40, 0.389), is_accepted=False)
    assert caught.value.code is Code.GATE_FAILED


def test_an_accepted_loss_is_recorded_as_such() -> None:
    """Whoever reads the header later sees that somebody decided so."""
    assert check_loss(loss(0.4, 0.1), is_accepted=True).startswith("accepted by --accept-loss: ")


def test_loss_is_measured_on_labelled_images_only(tmp_path: Path) -> None:
    """An image that nobody labelled is not one with nothing in it."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("0 0.35 0.5 0.5 0.6\n", encoding="ascii")
    (tmp_path / "b.txt").write_text("0 0.35 0.5 0.5 0.6\n", encoding="ascii")
    measured = measure_loss(
        pool(), pool(class_id=1), read_labelled_folder(tmp_path), steps=STEPS
    )  # fmt: skip
    assert (2, 2, 0.0) == (
        measured.reference.images,
        measured.reference.labels,
        measured.sealed.map50_95,
    )
    assert measured.reference.map50_95 > 0.99
