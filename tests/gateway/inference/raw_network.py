"""A network run as plainly as can be, with each step open to be done wrongly; and COCO's labels for photographs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray

from gateway.inference.accuracy import Labels
from gateway.inference.decode import ImageLimits, decode_image
from gateway.inference.golden import Detect
from gateway.inference.labelled import read_labelled_folder
from gateway.inference.postprocess import Thresholds, find_detections
from gateway.inference.preprocess import Fit, fit_image
from gateway.store.records import Detections

CONVEYOR = Path(__file__).parents[3] / "examples" / "conveyor" / "conveyor.onnx"
FRAME = CONVEYOR.with_name("frame.jpg")


@dataclass(frozen=True)
class RawAnswer:
    """What the golden set compares."""

    detections: Detections
    embedding: NDArray[np.float32] | None
    image_shape: tuple[int, int]


@dataclass(frozen=True)
class Steps:
    """How an image becomes the network's input, and its head the answer; the defaults are right."""

    padding: int = 114
    interpolation: int = cv2.INTER_LINEAR
    is_rgb: bool = True
    is_centred: bool = True
    scale: float = 255.0
    class_order: tuple[int, ...] | None = None


RIGHT = Steps()


def detect_with(onnx: bytes, *, steps: Steps = RIGHT, precision: str = "f32") -> Detect:
    """The network on one thread of OpenVINO; the second output, if there is one, is the embedding."""
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(onnx),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": 1,
        },
    )
    request = compiled.create_infer_request()
    height, width = tuple(compiled.input(0).shape)[2:]

    def detect(body: bytes, thresholds: Thresholds) -> RawAnswer:
        image = decode_image(body, ImageLimits())
        blob, fit = prepare(image, (height, width), steps)
        outputs = request.infer([blob])
        head = outputs[0].copy()
        if steps.class_order is not None:
            head[:, 4:] = head[:, [4 + class_id for class_id in steps.class_order]]
        return RawAnswer(
            detections=find_detections(head, thresholds=thresholds, fit=fit),
            embedding=outputs[1].reshape(-1).copy() if len(outputs) > 1 else None,
            image_shape=fit.image_shape,
        )

    return detect


def prepare(
    image: NDArray[np.uint8], size: tuple[int, int], steps: Steps
) -> tuple[NDArray[np.float32], Fit]:
    """The network's input, float32 (1, 3, h, w), and where the image lies in it."""
    fit = fit_image((image.shape[0], image.shape[1]), size)
    if not steps.is_centred:
        fit = Fit(fit.image_shape, fit.resized_shape, 0, 0)
    height, width = fit.resized_shape
    canvas = np.full((*size, 3), steps.padding, np.uint8)
    canvas[fit.top : fit.top + height, fit.left : fit.left + width] = cv2.resize(
        image, (width, height), interpolation=steps.interpolation
    )
    planes = canvas[:, :, ::-1] if steps.is_rgb else canvas
    blob = np.ascontiguousarray(planes.transpose(2, 0, 1)[np.newaxis], np.float32)
    return blob / np.float32(steps.scale), fit


def with_weights(
    onnx: bytes, change: Callable[[NDArray[np.float32]], None], *, place: int
) -> bytes:
    """The network with one of its float32 weight tensors, counted from the first, changed in place."""
    import onnx as library
    from onnx import numpy_helper

    model = library.load_from_string(onnx)
    tensors = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == library.TensorProto.FLOAT and len(tensor.dims) == 4
    ]
    array = numpy_helper.to_array(tensors[place]).copy()
    change(array)
    tensors[place].CopyFrom(numpy_helper.from_array(array, tensors[place].name))
    changed: bytes = model.SerializeToString()
    return changed


def coco_labels(folder: Path) -> dict[str, Labels]:
    """Ground truth in pixels by file name."""
    labels = {}
    for one in read_labelled_folder(folder, class_count=80):
        if one.labels is not None:
            shape = decode_image(one.read(), ImageLimits()).shape
            labels[one.name] = one.labels.in_pixels((shape[0], shape[1]))
    return labels
