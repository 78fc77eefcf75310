"""What a model must prove before it is sealed: that it answers as Ultralytics does, and what its speed costs.

Rules: a gate that was not run says so in the sealed header, with the reason; a gate that fails seals nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.commands.steps import Steps
from gateway.errors import Code, OperatorError
from gateway.inference.accuracy import EVALUATION, Accuracy, average_precision
from gateway.inference.agreement import compare
from gateway.inference.detect import InferenceResult
from gateway.inference.labelled import LabelledImage
from gateway.inference.lane_pool import LanePool
from gateway.inference.postprocess import Thresholds
from gateway.store.records import Detections

# A hundredth of a pixel and a ten-thousandth of confidence are what two orders of summation in float32 differ by.
PARITY_BOX_PIXELS = 0.01
PARITY_CONFIDENCE = 1e-4
MAX_LOSS_POINTS = 1.0
# Enough to see a difference in the graph or in the preprocessing; a folder may hold thousands.
MAX_PARITY_IMAGES = 100

Oracle = Callable[[bytes, Thresholds], Detections]


@dataclass(frozen=True, slots=True)
class Loss:
    """Accuracy of the network as it will run, against the same network in f32 with every pixel decoded."""

    reference: Accuracy
    sealed: Accuracy

    @property
    def points(self) -> float:
        """Points of mAP50-95 that are lost; negative if there are more."""
        return (self.reference.map50_95 - self.sealed.map50_95) * 100

    def __str__(self) -> str:
        """The figures in one line."""
        return (
            f"mAP50-95 {self.sealed.map50_95:.4f} against {self.reference.map50_95:.4f} in f32 "
            f"on {self.reference.images} images with {self.reference.labels} labels"
        )


def check_parity(
    oracle: Oracle, pool: LanePool, images: Mapping[str, bytes], *, steps: Steps
) -> str:
    """What to record of a network that finds what Ultralytics finds in every image.

    Raises OperatorError with GATE_FAILED naming the image and the difference.
    """
    thresholds = Thresholds()
    chosen = dict(list(images.items())[:MAX_PARITY_IMAGES])
    results = pool.map(lambda encoded: pool.detect(encoded, thresholds), chosen.values())
    count = 0
    for (name, encoded), result in steps.each(
        "comparing with Ultralytics", zip(chosen.items(), results, strict=True), total=len(chosen)
    ):
        expected = oracle(encoded, thresholds)
        differences = compare(
            expected,
            result.detections,
            box_pixels=PARITY_BOX_PIXELS,
            confidence=PARITY_CONFIDENCE,
        )
        if differences:
            raise _failed(
                f"the network does not answer as Ultralytics does on {name}: {differences[0]}; "
                "export it again with this release of Ultralytics, or --skip-parity to seal it all the same"
            )
        # What names classes only answers with a ranking of them.
        count += len(expected) or int(expected.ranking is not None)
    if not count:
        return f"not proved: nothing was found in {len(chosen)} images; name some in which it finds something"
    return f"passed: the same {count} detections as Ultralytics in {len(chosen)} images"


def measure_loss(
    reference: LanePool, sealed: LanePool, labelled: Sequence[LabelledImage], *, steps: Steps
) -> Loss:
    """Accuracy of both on the same images. Raises OperatorError with DATASET_INVALID if none has a label."""
    return Loss(
        _accuracy(reference, labelled, steps, "accuracy in f32"),
        _accuracy(sealed, labelled, steps, "accuracy as sealed"),
    )


def check_loss(loss: Loss, *, is_accepted: bool) -> str:
    """What to record of a loss that may be sealed. Raises OperatorError with GATE_FAILED if it is too large."""
    if loss.points <= MAX_LOSS_POINTS:
        return f"passed: {loss}"
    if is_accepted:
        return f"accepted by --accept-loss: {loss}"
    raise _failed(
        f"{loss.points:.1f} points of accuracy are lost, more than {MAX_LOSS_POINTS:.1f}: {loss}; "
        "calibrate on more images, choose another precision, or --accept-loss"
    )


def _accuracy(
    pool: LanePool, labelled: Sequence[LabelledImage], steps: Steps, what: str
) -> Accuracy:
    known = [image for image in labelled if image.labels is not None]

    def find(image: LabelledImage) -> InferenceResult:
        return pool.detect(image.read(), EVALUATION)

    results = zip(known, pool.map(find, known), strict=True)
    return average_precision(
        (result.detections, image.labels.in_pixels(result.image_shape))
        for image, result in steps.each(what, results, total=len(known))
        if image.labels is not None
    )


def _failed(what: str) -> OperatorError:
    return OperatorError(Code.GATE_FAILED, what)
