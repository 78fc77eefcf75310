"""The ultralytics engine: every task as Ultralytics' own predict answers it, and what it refuses."""

import io
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.api.results import summarize
from gateway.errors import Code, DecodeError, OperatorError, RunnerError
from gateway.inference.engine import Lane, Network
from gateway.inference.engines.opening import open_engine
from gateway.inference.postprocess import Thresholds
from gateway.ultralytics_offline import load_network

pytestmark = [pytest.mark.needs_seal]

SIZE = (128, 128)
THRESHOLDS = Thresholds(confidence=0.1, iou=0.5, max_detections=20)
TASKS = {
    "yolov8n": "detect",
    "yolo26n": "detect",
    "yolo11n-seg": "segment",
    "yolo26n-seg": "segment",
    "yolov8n-pose": "pose",
    "yolo11n-obb": "obb",
    "yolov8n-cls": "classify",
}

PtWeights = Callable[[str], bytes]


def network(weights: bytes, task: str) -> Network:
    """The weights with the header that fits them."""
    count = {"pose": 1, "classify": 1000, "depth": 1000}.get(task, 80)
    return Network(
        weights=memoryview(weights),
        task=task,
        class_names=tuple(f"class {number}" for number in range(count)),
        input_size=SIZE,
        is_dynamic=True,
        stride_pixels=32,
        precision="f32",
    )


def open_lane(weights: bytes, task: str, size: tuple[int, int] = SIZE) -> Lane:
    """A lane of an engine that was asked for this size."""
    engine = open_engine("ultralytics", network(weights, task), workers=1, input_sizes=[size])
    return engine.open_lane(size)


@pytest.fixture(scope="module")
def photographs(test_data: Path) -> list[NDArray[np.uint8]]:
    """Three photographs, BGR."""
    paths = sorted((test_data / "coco50").rglob("*.jpg"))[:3]
    return [np.asarray(cv2.imread(str(path)), np.uint8) for path in paths]


@pytest.mark.parametrize("architecture", TASKS)
def test_every_digit_is_that_of_ultralytics_own_predict(
    architecture: str,
    pt_weights: PtWeights,
    photographs: list[NDArray[np.uint8]],
    ultralytics: Any,
    tmp_path: Path,
) -> None:
    """The rendered entries equal Results.summary() of YOLO(file).predict, for several images with boxes."""
    weights = pt_weights(architecture)
    (tmp_path / "weights.pt").write_bytes(weights)
    theirs = ultralytics.YOLO(str(tmp_path / "weights.pt"))
    names = list(theirs.names.values())
    size = (128, 96) if architecture == "yolov8n" else SIZE
    lane = open_lane(weights, TASKS[architecture], size)
    answers = []
    for image in photographs:
        result = theirs.predict(
            image, rect=False, imgsz=size, conf=0.1, iou=0.5, max_det=20, verbose=False
        )[0]
        shape = (image.shape[0], image.shape[1])
        found = lane.find(image, THRESHOLDS, image_shape=shape)
        for is_normalized, decimals in ((False, 5), (True, 3)):
            expected = result.summary(normalize=is_normalized, decimals=decimals)
            assert expected == summarize(
                found.detections,
                names,
                image_shape=shape,
                is_normalized=is_normalized,
                decimals=decimals,
            )
            answers.append(expected)
    assert all(answers)
    assert answers[0] != answers[2]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"task": "detect"},
            "its header says 'detect', its weights are for 'classify'",
        ),
        (
            {"class_names": ("a",)},
            "its weights have 1000 classes and its header 1 names",
        ),
        ({"precision": "bf16"}, "sealed for bf16, the ultralytics engine runs f32"),
        ({"is_dynamic": False, "input_size": (64, 64)}, "fixed to 64x64"),
        ({"weights": b"not weights"}, "are they an Ultralytics .pt file"),
    ],
    ids=["task", "names", "precision", "size", "weights"],
)
def test_what_does_not_fit_its_header_is_refused(
    changes: dict[str, Any], why: str, pt_weights: PtWeights
) -> None:
    """With a message that says what does not fit."""
    stated = replace(network(pt_weights("yolov8n-cls"), "classify"), **changes)
    with pytest.raises(OperatorError, match=why) as caught:
        open_engine("ultralytics", stated, workers=1, input_sizes=[SIZE])
    assert caught.value.code is Code.MODEL_UNSUPPORTED


def test_a_task_that_ultralytics_has_and_the_gateway_has_not_is_refused(
    pt_weights: PtWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message lists the tasks that are served."""
    from gateway.inference.engines import ultralytics as engine_module

    weights = pt_weights("yolov8n-cls")
    module = load_network(weights)
    module.task = "depth"
    monkeypatch.setattr(engine_module, "load_network", lambda _: module)
    with pytest.raises(OperatorError, match="'depth', there are detect, segment, pose, obb, clas"):
        open_engine("ultralytics", network(weights, "depth"), workers=1)


def test_the_engine_says_what_it_is(pt_weights: PtWeights) -> None:
    """Name, precision, task, sizes, libraries and device, for answers and doctors."""
    import torch

    weights = pt_weights("yolov8n-pose")
    engine: Any = open_engine(
        "ultralytics", network(weights, "pose"), workers=2, input_sizes=[(64, 96), SIZE, (64, 96)]
    )
    assert ("ultralytics", "f32", "pose") == (engine.name, engine.precision, engine.task)
    assert ((64, 96), SIZE) == engine.input_sizes
    assert ["ultralytics", "torch"] == list(engine.versions)
    assert ("cuda:0" if torch.cuda.is_available() else "cpu") == engine.device
    with ThreadPoolExecutor(1) as threads:
        assert 1 == threads.submit(torch.get_num_threads).result()


def test_oriented_boxes_have_upright_envelopes_inside_the_image(
    pt_weights: PtWeights, photographs: list[NDArray[np.uint8]]
) -> None:
    """Corners may lie outside, what is measured of boxes may not."""
    image = photographs[0]
    height, width = image.shape[:2]
    lane = open_lane(pt_weights("yolo11n-obb"), "obb")
    found = lane.find(image, THRESHOLDS, image_shape=(height, width)).detections
    corners, boxes = found.corners, found.boxes_xyxy
    assert corners is not None
    assert (len(found), 4, 2) == corners.shape
    assert ("float32", "float32") == (str(corners.dtype), str(boxes.dtype))
    limits = np.array((width, height), np.float32)
    np.testing.assert_array_equal(corners.min(axis=1).clip(0, limits), boxes[:, :2])
    np.testing.assert_array_equal(corners.max(axis=1).clip(0, limits), boxes[:, 2:])


def test_oriented_boxes_are_compared_in_bounded_memory(
    pt_weights: PtWeights,
    photographs: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Among the best candidates the answer is the same, fainter ones are left out."""
    from gateway.inference.engines import ultralytics as engine_module

    image = photographs[0]
    shape = (image.shape[0], image.shape[1])
    lane = open_lane(pt_weights("yolo11n-obb"), "obb")
    every = lane.find(image, THRESHOLDS, image_shape=shape).detections
    monkeypatch.setattr(engine_module, "MAX_ORIENTED_CANDIDATES", 9)
    few = lane.find(image, THRESHOLDS, image_shape=shape).detections
    assert 1 <= len(few) <= 9 < len(every)
    assert every.boxes_xyxy[: len(few)].tolist() == few.boxes_xyxy.tolist()


@pytest.mark.parametrize("architecture", ["yolo11n-seg", "yolov8n-pose", "yolo11n-obb"])
def test_an_image_in_which_nothing_is_found_has_empty_shapes(
    architecture: str, pt_weights: PtWeights
) -> None:
    """Empty, not unknown: the task has such shapes."""
    lane = open_lane(pt_weights(architecture), TASKS[architecture])
    image = np.zeros((20, 30, 3), np.uint8)
    found = lane.find(image, Thresholds(confidence=1.0), image_shape=(20, 30)).detections
    assert (0, 4) == found.boxes_xyxy.shape
    assert {"segment": 0, "pose": None, "obb": None}[TASKS[architecture]] == (
        None if found.polygons is None else len(found.polygons)
    )
    assert (found.keypoints is None, found.corners is None) == (
        TASKS[architecture] != "pose",
        TASKS[architecture] != "obb",
    )


def test_an_embedding_is_the_mean_over_what_enters_the_first_upsampling(
    pt_weights: PtWeights, photographs: list[NDArray[np.uint8]]
) -> None:
    """As many numbers as the backbone has channels, others for another image, and the receiver's own."""
    lane = open_lane(pt_weights("yolov8n"), "detect")
    embeddings = [
        lane.find(image, THRESHOLDS, image_shape=(image.shape[0], image.shape[1])).embedding
        for image in photographs[:2]
    ]
    first, second = embeddings
    assert first is not None
    assert second is not None
    assert ((256,), "float32") == (first.shape, str(first.dtype))
    assert not np.allclose(first, second)


def test_a_pose_of_two_numbers_a_point_has_no_visibility(
    pt_weights: PtWeights, photographs: list[NDArray[np.uint8]]
) -> None:
    """Models are trained with or without it."""
    import torch

    network_without: Any = load_network(pt_weights("yolov8n-pose"))
    head = network_without.model[-1]
    # The first 34 of 51 numbers, read as 17 points of two.
    network_without.kpt_shape = head.kpt_shape = (17, 2)
    head.nk = 34
    for branch in head.cv4:
        branch[-1].weight.data, branch[-1].bias.data = (
            branch[-1].weight.data[:34],
            branch[-1].bias.data[:34],
        )
    file = io.BytesIO()
    torch.save({"model": network_without}, file)
    image = photographs[0]
    shape = (image.shape[0], image.shape[1])
    found = open_lane(file.getvalue(), "pose").find(image, THRESHOLDS, image_shape=shape).detections
    assert found.keypoints is not None
    assert (len(found), 17, 2) == found.keypoints.shape
    entry = summarize(found, ["x"], image_shape=shape, is_normalized=False, decimals=5)[0]
    assert ["x", "y"] == list(entry["keypoints"])


@pytest.mark.parametrize("shape", [(1, 1), (1, 32), (32, 1)])
def test_the_smallest_images_are_classified(shape: tuple[int, int], pt_weights: PtWeights) -> None:
    """Five classes of a thousand, best first."""
    lane = open_lane(pt_weights("yolov8n-cls"), "classify")
    found = lane.find(np.full((*shape, 3), 9, np.uint8), THRESHOLDS, image_shape=shape).detections
    assert found.ranking is not None
    assert (0, 5) == (len(found), len(found.ranking.class_ids))
    assert sorted(found.ranking.confidences.tolist(), reverse=True) == (
        found.ranking.confidences.tolist()
    )


@pytest.mark.parametrize("shape", [(1, 33), (8192, 200)])
def test_an_image_too_thin_to_classify_is_refused(
    shape: tuple[int, int], pt_weights: PtWeights
) -> None:
    """Ultralytics would enlarge its shorter side, and take gigabytes to do so."""
    lane = open_lane(pt_weights("yolov8n-cls"), "classify")
    with pytest.raises(DecodeError, match="32 times as long as wide") as caught:
        lane.find(np.zeros((*shape, 3), np.uint8), THRESHOLDS, image_shape=shape)
    assert caught.value.code is Code.IMAGE_UNSUPPORTED


@pytest.mark.parametrize("architecture", ["yolov8n", "yolo11n-obb", "yolo11n-seg"])
def test_the_thinnest_images_find_boxes_or_none(architecture: str, pt_weights: PtWeights) -> None:
    """One row of pixels is placed as one row."""
    lane = open_lane(pt_weights(architecture), TASKS[architecture])
    found = lane.find(np.zeros((1, 8192, 3), np.uint8), THRESHOLDS, image_shape=(1, 8192))
    assert np.isfinite(found.detections.boxes_xyxy).all()


def test_numbers_that_are_not_finite_are_no_answer(pt_weights: PtWeights) -> None:
    """The image is answered with a failure, never with NaN in JSON."""
    lane: Any = open_lane(pt_weights("yolov8n-cls"), "classify")
    for parameter in lane._predictor.model.backend.model.parameters():
        parameter.fill_(np.nan)
    with pytest.raises(RunnerError) as caught:
        lane.find(np.zeros((64, 64, 3), np.uint8), THRESHOLDS, image_shape=(64, 64))
    assert "runner_failed: not finite" == caught.value.reason


def test_what_torch_raises_is_a_failure_of_the_runner(pt_weights: PtWeights) -> None:
    """Callers see the gateway's errors only."""
    lane: Any = open_lane(pt_weights("yolov8n-cls"), "classify")
    lane._predictor.model.backend.model.model[
        -1
    ].linear.weight.data = lane._predictor.model.backend.model.model[-1].linear.weight.data[:, :3]
    with pytest.raises(RunnerError) as caught:
        lane.warm_up()
    assert "runner_failed: ultralytics" == caught.value.reason


def test_lanes_answer_in_threads_as_they_do_alone(
    pt_weights: PtWeights, photographs: list[NDArray[np.uint8]]
) -> None:
    """Two lanes of one engine share no state, whatever sizes they were opened for."""
    weights = pt_weights("yolov8n")
    engine = open_engine(
        "ultralytics", network(weights, "detect"), workers=2, input_sizes=[SIZE, (64, 64)]
    )
    lanes = [engine.open_lane(size) for size in engine.input_sizes]

    def look(lane: Lane) -> list[list[list[float]]]:
        return [
            lane.find(
                image, THRESHOLDS, image_shape=(image.shape[0], image.shape[1])
            ).detections.boxes_xyxy.tolist()
            for image in photographs * 3
        ]

    alone = [look(lane) for lane in lanes]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(look, lanes))
    assert alone == together
    assert alone[0] != alone[1]


def test_nothing_is_written(pt_weights: PtWeights) -> None:
    """From bytes to an answer, no file is opened to be written."""
    weights = pt_weights("yolov8n-cls")
    opened: list[object] = []
    is_watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        # A hook stays for the life of the process, so it must cost nothing once the test is over.
        if is_watching and event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            opened.append(arguments[0])

    sys.addaudithook(watch)
    Path(os.devnull).write_bytes(b"the hook sees this")
    lane = open_lane(weights, "classify")
    lane.warm_up()
    lane.find(np.zeros((9, 9, 3), np.uint8), THRESHOLDS, image_shape=(9, 9))
    is_watching = False
    assert [os.devnull] == [str(path) for path in opened]
