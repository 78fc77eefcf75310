"""Ultralytics' own predict, which a network must agree with before it is sealed.

Rules: every step is the library's own, from the image file to the boxes, at the fixed input size (rect=False). Weights
are a trusted `.pt`, a pickle that runs code as it is loaded, or the ONNX file that was brought; plaintext lies in a
private folder only, and only while it is loaded.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from gateway.errors import Code, OperatorError
from gateway.sealing.private_folder import private_folder, writes_confined_to
from gateway.store.records import Detections
from gateway.ultralytics_offline import (
    import_ultralytics,
    load_network,
    to_detections,
)

# The library looks at the suffix to see that a file is an image, and at the content to see which kind.
_IMAGE_NAME = "image.jpg"


class Limits(Protocol):
    """Which boxes count: the fields of gateway.inference.postprocess.Thresholds."""

    @property
    def confidence(self) -> float:
        """The least confidence, 0..1."""
        ...

    @property
    def iou(self) -> float:
        """The largest overlap with a better box of the class, 0..1."""
        ...

    @property
    def max_detections(self) -> int:
        """How many boxes at most."""
        ...


class UltralyticsOracle:
    """Ultralytics with one network, on torch for a `.pt` and on ONNX Runtime for ONNX; for one thread at a time."""

    def __init__(
        self, weights: bytes, *, is_pickle: bool, image_size: tuple[int, int], head: str = "auto"
    ) -> None:
        """Load trusted weights, which takes seconds.

        image_size: (height, width), pixels. head: as for export_onnx; an ONNX file has but one, and says which.
        Raises OperatorError if Ultralytics cannot load them or the `seal` extra is not installed.
        """
        import_ultralytics()
        with _loading(weights):
            self._task, self._predictor = (
                _load_pickle(weights, image_size, head)
                if is_pickle
                else _load_onnx(weights, image_size)
            )

    def predict(self, encoded: bytes, thresholds: Limits) -> Detections:
        """What Ultralytics finds in an image file with this content, in pixels of the original image.

        Raises OperatorError if Ultralytics cannot read it or fails on it.
        """
        arguments = self._predictor.args
        arguments.conf, arguments.iou = thresholds.confidence, thresholds.iou
        arguments.max_det = thresholds.max_detections
        with private_folder(needed_bytes=2 * len(encoded)) as folder, _quiet():
            path = folder / _IMAGE_NAME
            path.write_bytes(encoded)
            try:
                with writes_confined_to(folder):
                    (result,) = self._predictor(str(path))
            except OperatorError:
                raise
            except Exception as exc:
                # The libraries below it have exceptions of no common class.
                raise OperatorError(
                    Code.MODEL_UNSUPPORTED,
                    f"Ultralytics cannot predict an image ({type(exc).__name__}): take other images,"
                    " or seal without the comparison, --skip-parity",
                ) from exc
        return to_detections(result, self._task)


def _load_pickle(weights: bytes, image_size: tuple[int, int], head: str) -> tuple[str, Any]:
    network = load_network(weights)
    # In Ultralytics' words False is the NMS-free head, and None the dense one.
    predictor = _predictor(network.task, image_size, nms=False if head == "nms_free" else None)
    predictor.setup_model(network, verbose=False)
    return str(network.task), predictor


def _load_onnx(weights: bytes, image_size: tuple[int, int]) -> tuple[str, Any]:
    with private_folder(needed_bytes=2 * len(weights)) as folder:
        path = folder / "weights.onnx"
        path.write_bytes(weights)
        predictor = _predictor("detect", image_size, nms=None)
        with writes_confined_to(folder):
            predictor.setup_model(str(path), verbose=False)
    return "detect", predictor


def _predictor(task: str, image_size: tuple[int, int], *, nms: bool | None) -> Any:
    from ultralytics.models import yolo

    classes = {
        "detect": yolo.detect.DetectionPredictor,
        "segment": yolo.segment.SegmentationPredictor,
        "pose": yolo.pose.PosePredictor,
        "obb": yolo.obb.OBBPredictor,
        "classify": yolo.classify.ClassificationPredictor,
    }
    overrides = {
        "task": task,
        "mode": "predict",
        "imgsz": list(image_size),
        "rect": False,
        "batch": 1,
        "save": False,
        "verbose": False,
        "device": "cpu",
        "nms": nms,
    }
    return classes[task](overrides=overrides)


@contextmanager
def _loading(weights: bytes) -> Iterator[None]:
    with _quiet():
        try:
            yield
        except OperatorError:
            raise
        except Exception as exc:
            # The libraries below it have exceptions of no common class, and a pickle runs code that can raise any.
            raise OperatorError(
                Code.MODEL_UNSUPPORTED,
                f"Ultralytics cannot load these {len(weights)} bytes of weights ({type(exc).__name__}):"
                " are they an Ultralytics .pt or ONNX file?",
            ) from exc


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # The libraries' own deprecations say nothing to whoever seals a model.
        warnings.simplefilter("ignore")
        yield
