"""Ultralytics' own predict on torch: for what the other engines do not serve, among it every task but detect.

Rules: the weights are a `.pt`, a pickle, which runs code as it is loaded: only bytes that open_model authenticated may
come here. They stay in memory and are never written. Preprocessing, network, suppression and shapes are Ultralytics'
own (rect=False, at the sealed input size), so answers are theirs by construction. A predictor serialises its callers,
so each lane has one, with a copy of the network; torch runs one thread a lane, because lanes share the cores.
"""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gateway.errors import Code, DecodeError, RunnerError
from gateway.inference.engine import Found, Network, chosen_sizes, unsupported_model
from gateway.inference.postprocess import Thresholds
from gateway.store.records import Detections
from gateway.ultralytics_offline import import_ultralytics, load_network, to_detections

# Classifiers see the shorter side scaled to their input and the middle cut out: of a line of single pixels, they
# would scale gigabytes to see a few.
MAX_CLASSIFIED_ASPECT = 32
# Ultralytics compares every oriented box with every other, in half a dozen matrices of 64 MiB for this many. The best
# so many are suppressed as all of them would be; of fainter ones, an image has so many only if it was made for that.
MAX_ORIENTED_CANDIDATES = 4_096
_GREY = 114


class UltralyticsEngine:
    """A network of any of Ultralytics' tasks, on the first CUDA device that torch sees, else on the CPU."""

    name = "ultralytics"
    precision = "f32"

    def __init__(
        self,
        network: Network,
        *,
        workers: int,  # noqa: ARG002  (every lane brings its own thread; others compile for a number of them)
        input_sizes: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Load the weights, which takes seconds; sets torch's threads for the whole process.

        workers: lanes that run at a time, >= 1. input_sizes: (height, width), the first is
        the default; none means the network's own.
        Raises OperatorError with MODEL_UNSUPPORTED if weights, header and sizes do not fit together, or the `seal`
        extra is not installed.
        """
        if network.precision != self.precision:
            raise unsupported_model(
                f"it is sealed for {network.precision}, the ultralytics engine runs {self.precision}: seal it for that"
            )
        self.task = network.task
        self.input_sizes = chosen_sizes(network, input_sizes)
        ultralytics = import_ultralytics()
        self.versions: Mapping[str, str] = {
            "ultralytics": ultralytics.__version__,
            "torch": str(torch.__version__),
        }
        self.device = "cuda:0" if torch.cuda.is_available() else "cpu"
        _state_arithmetic()
        self._module = load_network(network.weights)
        _check(self._module, network)
        self._predictor_class = _predictor_class(network.task)

    def open_lane(self, size: tuple[int, int]) -> "UltralyticsLane":
        """A lane for one of the input sizes, with its own copy of the network."""
        predictor = self._predictor_class(
            overrides={
                "task": self.task,
                "mode": "predict",
                "imgsz": list(size),
                "rect": False,
                "batch": 1,
                "save": False,
                "verbose": False,
                "device": self.device,
            }
        )
        predictor.setup_model(self._module, verbose=False)
        return UltralyticsLane(predictor, self.task, size)


class UltralyticsLane:
    """One predictor; for one thread at a time."""

    # Ultralytics sees every pixel.
    decode_covers = None

    def __init__(self, predictor: Any, task: str, size: tuple[int, int]) -> None:
        self._predictor = predictor
        self._task = task
        self._size = size
        self._feature: Any = None
        if task == "obb":
            _bound_candidates(predictor)
        pooled = _feature_module(predictor.model.backend.model)
        if pooled is not None:
            pooled.register_forward_pre_hook(self._keep_feature)

    def find(
        self, image: NDArray[np.uint8], thresholds: Thresholds, *, image_shape: tuple[int, int]
    ) -> Found:
        """Ultralytics' own predict on an image: uint8 (h, w, 3), BGR.

        image_shape: (h, w). Raises RunnerError if torch fails or a number that counts is not finite, DecodeError with
        IMAGE_UNSUPPORTED for an image too long and thin to classify.
        """
        if image.shape[:2] != image_shape:
            raise RuntimeError("internal: the ultralytics engine takes images at full size only")
        if self._task == "classify":
            _check_aspect(image_shape)
        start = perf_counter()
        result = self._predict(image, thresholds)
        detections = to_detections(result, self._task)
        _check_finite(detections)
        embedding = None if self._feature is None else self._feature.cpu().numpy().copy()
        all_milliseconds = (perf_counter() - start) * 1e3
        preprocess, inference = result.speed["preprocess"], result.speed["inference"]
        return Found(
            detections=detections,
            embedding=embedding,
            preprocess_milliseconds=preprocess,
            inference_milliseconds=inference,
            # The rest, among it what Ultralytics does around its stages and, for masks, tracing their outlines.
            postprocess_milliseconds=max(all_milliseconds - preprocess - inference, 0.0),
        )

    def warm_up(self) -> None:
        """Run the network once, on grey. Raises RunnerError."""
        self._predict(np.full((*self._size, 3), _GREY, np.uint8), Thresholds())

    def _predict(self, image: NDArray[np.uint8], thresholds: Thresholds) -> Any:
        arguments = self._predictor.args
        arguments.conf, arguments.iou = thresholds.confidence, thresholds.iou
        arguments.max_det = thresholds.max_detections
        try:
            return self._predictor(image)[0]
        except RuntimeError as exc:
            raise _failed("ultralytics") from exc

    def _keep_feature(self, _module: Any, inputs: tuple[Any, ...]) -> None:
        if isinstance(inputs[0], torch.Tensor) and inputs[0].ndim == 4:
            self._feature = inputs[0][0].mean((1, 2))


def _state_arithmetic() -> None:
    """One thread a lane, and 32-bit floats: torch's own default on GPUs is TensorFloat-32, with 10 bits of fraction."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def _check(module: Any, network: Network) -> None:
    if module.task != network.task:
        raise unsupported_model(
            f"its header says {network.task!r}, its weights are for {str(module.task)[:32]!r}: seal it again"
        )
    count, named = len(module.names), len(network.class_names)
    if count != named:
        raise unsupported_model(
            f"its weights have {count} classes and its header {named} names: seal it again"
        )


def _predictor_class(task: str) -> Any:
    from ultralytics.models.yolo import classify, detect, obb, pose, segment

    classes = {
        "detect": detect.DetectionPredictor,
        "segment": segment.SegmentationPredictor,
        "pose": pose.PosePredictor,
        "obb": obb.OBBPredictor,
        "classify": classify.ClassificationPredictor,
    }
    if task not in classes:
        raise unsupported_model(f"its task is {task[:32]!r}, there are {', '.join(classes)}")
    return classes[task]


def _bound_candidates(predictor: Any) -> None:
    """Have the predictor suppress the best candidates only."""
    unbounded = predictor.postprocess

    def bounded(predictions: Any, images: Any, originals: Any) -> Any:
        head = predictions[0] if isinstance(predictions, list | tuple) else predictions
        if head.shape[-1] > MAX_ORIENTED_CANDIDATES:
            scores = head[0, 4 : 4 + len(predictor.model.names)].amax(0)
            # In the network's order, which decides between equals.
            best = scores.topk(MAX_ORIENTED_CANDIDATES).indices.sort().values
            head = head[:, :, best]
        return unbounded(head, images, originals)

    predictor.postprocess = bounded


def _feature_module(module: Any) -> Any:
    """What the end of the backbone enters: the first upsampling, or a classifier's head; None if there is neither."""
    from ultralytics.nn.modules import Classify

    wanted = (torch.nn.Upsample, Classify)
    return next((part for part in module.modules() if isinstance(part, wanted)), None)


def _check_aspect(image_shape: tuple[int, int]) -> None:
    if max(image_shape) > MAX_CLASSIFIED_ASPECT * min(image_shape):
        raise DecodeError(
            Code.IMAGE_UNSUPPORTED,
            f"the image is more than {MAX_CLASSIFIED_ASPECT} times as long as wide: cut it before it is classified",
        )


def _check_finite(detections: Detections) -> None:
    parts = [
        detections.boxes_xyxy,
        detections.confidences,
        *(detections.polygons or ()),
        *(part for part in (detections.keypoints, detections.corners) if part is not None),
        *(() if detections.ranking is None else (detections.ranking.confidences,)),
    ]
    if not all(np.isfinite(part).all() for part in parts):
        raise _failed("not finite")


def _failed(what: str) -> RunnerError:
    return RunnerError(
        Code.RUNNER_FAILED, "the detector failed on this image", reason=f"runner_failed: {what}"
    )
