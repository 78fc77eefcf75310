"""What the drift benchmark draws its streams from: real images, clean and corrupted, as the gateway measures them.

Rules: every condition goes the whole way, from pixels through a JPEG file, the gateway's decoder, the real detector and
gateway.sampling; row i of every condition is image i. A clean image is encoded anew just as a corrupted one is, or the
second encoding itself would be what tells them apart; only of the corruption that is an encoding, that encoding is the
file. Nothing is kept on disk but a file that is asked for.
"""

import gzip
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gateway.inference.accuracy import EVALUATION, Labels, average_precision
from gateway.inference.decode import ImageLimits, decode_image
from gateway.inference.detect import InferenceResult
from gateway.inference.engine import network_of
from gateway.inference.engines.opening import open_engine
from gateway.inference.engines.openvino import inspect_onnx
from gateway.inference.labelled import read_labelled_folder
from gateway.inference.lane_pool import LanePool
from gateway.inference.postprocess import Thresholds
from gateway.sampling.features import FEATURE_NAMES
from gateway.sampling.measure import measure
from gateway.sealing.graphs.pooled import add_pooled_output
from gateway.store.embeddings import pack_embedding, unpack_embedding
from gateway.store.records import Detections
from monitor.records import Measurement

ROOT = Path(__file__).resolve().parents[1]
CONVEYOR = ROOT / "examples" / "conveyor"

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.corruptions import (
        JPEG_QUALITIES,
        SEVERITIES,
        Corruption,
        corrupt,
        jpeg_bytes,
    )
    from examples.conveyor.scenes import draw_scene, scene_rng
else:
    sys.path.append(str(CONVEYOR))
    from corruptions import JPEG_QUALITIES, SEVERITIES, Corruption, corrupt, jpeg_bytes
    from scenes import draw_scene, scene_rng

PHOTOGRAPH_QUALITY = 95  # of the files of coco50, nearly
SCENE_SEED = 700_000  # far from those of reference.jsonl and of people
CORRUPTION_SEED = 6
Rows = tuple[Measurement, ...]
_Looked = tuple[Detections, Measurement]


@dataclass(frozen=True, slots=True)
class Condition:
    """A corruption at a severity, or none of severity 0."""

    corruption: Corruption | None = None
    severity: int = 0

    @property
    def text(self) -> str:
        """As figures are keyed."""
        return f"{self.corruption}_{self.severity}" if self.corruption else "clean"


CLEAN = Condition()
ALL_CONDITIONS = (
    CLEAN,
    *(Condition(corruption, severity) for corruption in Corruption for severity in SEVERITIES),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image before it is corrupted and encoded, what is in it, and its camera's JPEG quality."""

    image: NDArray[np.uint8]
    labels: Labels
    jpeg_quality: int


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows of each condition, and how well the detector did there: mAP at an overlap of 0.5."""

    name: str
    rows: Mapping[Condition, Rows]
    map50: Mapping[Condition, float]

    def loss(self, condition: Condition) -> float:
        """What the condition costs in mAP50."""
        return self.map50[CLEAN] - self.map50[condition]


def photographs(folder: Path, *, count: int) -> list[Picture]:
    """The first labelled photographs of coco50."""
    pictures = []
    for labelled in read_labelled_folder(folder)[:count]:
        image = decode_image(labelled.read(), ImageLimits())
        shape = (image.shape[0], image.shape[1])
        labels = _nothing() if labelled.labels is None else labelled.labels.in_pixels(shape)
        pictures.append(Picture(image, labels, PHOTOGRAPH_QUALITY))
    return pictures


def conveyor_scenes(*, count: int) -> list[Picture]:
    """Scenes of the demo's belt, each with its camera's quality."""
    drawn = (draw_scene(scene_rng("traffic", SCENE_SEED, index)) for index in range(count))
    return [
        Picture(scene.image, Labels(scene.class_ids, scene.boxes), scene.jpeg_quality)
        for scene in drawn
    ]


def measure_pool(
    name: str,
    pictures: Sequence[Picture],
    *,
    onnx: bytes,
    conditions: Iterable[Condition],
    say: Callable[[str], None],
) -> Pool:
    """What the detector finds in the pictures under each condition, and how well."""
    lanes = open_detector(onnx)
    rows: dict[Condition, Rows] = {}
    map50: dict[Condition, float] = {}
    for condition in conditions:
        number = ALL_CONDITIONS.index(condition)

        def look(index: int, condition: Condition = condition, number: int = number) -> _Looked:
            rng = np.random.default_rng([CORRUPTION_SEED, number, index])
            body = encoded(pictures[index], condition, rng=rng)
            result = lanes.detect(body, EVALUATION)
            return result.detections, measured(result, encoded_bytes=len(body))

        looked = list(lanes.map(look, range(len(pictures))))
        rows[condition] = tuple(row for _, row in looked)
        labels = (picture.labels for picture in pictures)
        found = (detections for detections, _ in looked)
        map50[condition] = average_precision(zip(found, labels, strict=True)).map50
        say(f"{name}: {condition.text} has a mAP50 of {map50[condition]:.3f}")
    return Pool(name, rows, map50)


def open_detector(onnx: bytes) -> LanePool:
    """The detector with its embedding, a lane a core."""
    workers = len(os.sched_getaffinity(0))
    network = network_of(add_pooled_output(onnx), inspect_onnx(onnx), precision="f32")
    engine = open_engine("openvino", network, workers=workers)
    return LanePool(engine, workers=workers, limits=ImageLimits())


def measured(result: InferenceResult, *, encoded_bytes: int) -> Measurement:
    """A sample of an answer at the customary thresholds, whose embedding was stored and read again."""
    numbers = measure(
        result.image,
        above_threshold(result.detections, Thresholds()),
        encoded_bytes=encoded_bytes,
        image_shape=result.image_shape,
    )
    if result.embedding is None:
        raise RuntimeError("internal: the network was opened without its embedding")
    embedding = unpack_embedding(pack_embedding(result.embedding))
    return Measurement(numbers.features, numbers.detections, embedding)


def above_threshold(detections: Detections, thresholds: Thresholds) -> Detections:
    """What would have been found at a higher threshold: a box is only ever suppressed by a surer one."""
    kept = detections.confidences > np.float32(thresholds.confidence)
    return replace(
        detections,
        boxes_xyxy=detections.boxes_xyxy[kept],
        confidences=detections.confidences[kept],
        class_ids=detections.class_ids[kept],
    )


def encoded(picture: Picture, condition: Condition, *, rng: np.random.Generator) -> bytes:
    """The file that the camera sends under the condition."""
    if condition.corruption is None:
        return jpeg_bytes(picture.image, picture.jpeg_quality)
    if condition.corruption is Corruption.JPEG:
        return jpeg_bytes(picture.image, JPEG_QUALITIES[condition.severity])
    image = corrupt(picture.image, condition.corruption, severity=condition.severity, rng=rng)
    return jpeg_bytes(image, picture.jpeg_quality)


def _nothing() -> Labels:
    return Labels(np.zeros(0, np.int64), np.zeros((0, 4), np.float32))


def cached_pool(
    path: Path | None, make: Callable[[], Pool], *, conditions: Sequence[Condition], count: int
) -> Pool:
    """The pool of a file, or a new one that is written to it if the file is absent or of other features."""
    wanted = {
        "features": list(FEATURE_NAMES),
        "conditions": [each.text for each in conditions],
        "count": count,
    }
    if path is not None and path.exists():
        content = json.loads(gzip.decompress(path.read_bytes()))
        if content["wanted"] == wanted:
            return _read(content, conditions)
    pool = make()
    if path is not None:
        path.write_bytes(gzip.compress(json.dumps(_written(pool, wanted)).encode(), 1))
    return pool


def _written(pool: Pool, wanted: dict[str, Any]) -> dict[str, Any]:
    return {
        "wanted": wanted,
        "name": pool.name,
        "map50": {condition.text: value for condition, value in pool.map50.items()},
        "rows": {
            condition.text: [
                [dict(row.features), row.detections, _numbers(row.embedding)] for row in rows
            ]
            for condition, rows in pool.rows.items()
        },
    }


def _read(content: dict[str, Any], conditions: Sequence[Condition]) -> Pool:
    return Pool(
        name=content["name"],
        rows={
            condition: tuple(
                Measurement(
                    features, tuple(map(tuple, detections)), np.array(embedding, np.float32)
                )
                for features, detections, embedding in content["rows"][condition.text]
            )
            for condition in conditions
        },
        map50={condition: content["map50"][condition.text] for condition in conditions},
    )


def _numbers(embedding: NDArray[np.float32] | None) -> list[float]:
    return [] if embedding is None else embedding.tolist()
