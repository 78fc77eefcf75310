"""What the two processes exchange, as frozen dataclasses without behaviour.

Rules: all times are UTC-aware; boxes are xyxy pixels of the original image; a missing number is None, never 0 or NaN.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ClassRanking:
    """What a classifier takes the whole image for, best confidence first.

    class_ids: int64 (k,), index into the model's class names, 1 <= k <= 5. confidences: float32 (k,), 0..1.
    """

    class_ids: NDArray[np.int64]
    confidences: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Detections:
    """The boxes found in one image, best confidence first, and what the model's task knows besides.

    boxes_xyxy: float32 (n, 4), pixels of the original image, x1 <= x2, y1 <= y2, clipped to it; around an oriented
    box, a polygon or a pose, the upright box. confidences: float32 (n,), 0..1. class_ids: int64 (n,), index into the
    model's class names.
    All of the following are pixels of the original image, one entry a box, and None for models of other tasks.
    polygons (segment): float32 (points, 2) each, the outline; no points where a mask has none.
    keypoints (pose): float32 (n, k, 2 or 3); the third number is the confidence that a point is visible, 0..1.
    corners (obb): float32 (n, 4, 2), in order around the oriented box; they may lie outside the image.
    ranking (classify): of the image as a whole; a classifier finds no boxes, so n is 0.
    candidate_count: places of the head with a class above confidence 0.25 before suppression, whatever the thresholds
    of the call; None where the engine does not tell.
    """

    boxes_xyxy: NDArray[np.float32]
    confidences: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    polygons: tuple[NDArray[np.float32], ...] | None = None
    keypoints: NDArray[np.float32] | None = None
    corners: NDArray[np.float32] | None = None
    ranking: ClassRanking | None = None
    candidate_count: int | None = None

    def __len__(self) -> int:
        """Count of boxes."""
        return len(self.confidences)


class SampleMode(StrEnum):
    """Whose answer a sample shows: production's, that of a canary in its place, or one that nobody was given."""

    SERVED = "served"
    CANARY = "canary"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Sample:
    """One stored input and output of the gateway.

    features: named numbers (gateway.sampling.features documents each); None where one has no value.
    detections: rows (class_id, confidence, x1, y1, x2, y2), pixels.
    kept_probability: the chance, 0 < p <= 1, with which this sample was taken (inverse weights need it).
    image_probability: the same for keeping its image; 0 for a shadow's, whose request's image is the served sample's.
    mode: whose answer it shows; the chances are among the answers that this version gave in this mode.
    source: which camera it is of, if the caller said so. embedding: the pooled feature (gateway.store.embeddings).
    """

    request_id: str
    received_at: datetime
    model_name: str
    model_version: str
    principal: str
    input_sha256: str
    features: dict[str, float | None]
    detections: tuple[tuple[int, float, float, float, float, float], ...]
    kept_probability: float
    image_probability: float
    sealed_image: "SealedImage | None" = None
    mode: SampleMode = SampleMode.SERVED
    source: str | None = None
    embedding: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredSample:
    """A sample as it was read back, without its image; ids grow in the order of storing."""

    id: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class SealedImage:
    """A kept image, encrypted: the encoded bytes as received, sealed under a sample key.

    key_id names the row of sample_keys that wraps the data key; the request id is bound as context.
    """

    key_id: str
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class WrappedSampleKey:
    """The data key of kept images, encrypted under the KEK that kek_id names.

    key_id is what SealedImage.key_id refers to; it is bound to the wrapped key.
    """

    key_id: str
    kek_id: str
    wrapped_key: bytes
    created_at: datetime


class Stage(StrEnum):
    """Where a model version stands."""

    CANDIDATE = "candidate"
    PRODUCTION = "production"
    RETIRED = "retired"


class Traffic(StrEnum):
    """What requests a version that is not in production gets: none, copies of some, or some of them themselves."""

    NONE = "none"
    SHADOW = "shadow"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered sealed model. file_name is relative to the models folder.

    task, engine, precision: as sealed. traffic, share: what it gets of the requests, 0..1; 0 without traffic.
    """

    name: str
    version: str
    stage: Stage
    file_name: str
    plaintext_sha256: str
    class_names: tuple[str, ...]
    input_size: tuple[int, int]
    registered_at: datetime
    task: str = "detect"
    engine: str = "openvino"
    precision: str = "f32"
    traffic: Traffic = Traffic.NONE
    share: float = 0.0

    @property
    def label(self) -> str:
        """NAME@VERSION, as people and answers write it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One record of a ledger: position counts from 0 without gaps inside its origin.

    body is the canonical JSON that was hashed; leaf_hash = SHA-256(0x00 || body). The others repeat members of the
    body for searching; recorded_at is its text, which sorts by time.
    """

    origin: str
    position: int
    body: str
    leaf_hash: bytes
    recorded_at: str
    action: str
    outcome: str
    request_id: str | None
    subject: str | None
    model_name: str | None


@dataclass(frozen=True, slots=True)
class AuditLedger:
    """One ledger: its origin and the key that signs it, as a C2SP verifier line."""

    origin: str
    verifier: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredNode:
    """The hash of a full subtree of 256^level records, the number-th from 0; level >= 1."""

    origin: str
    level: int
    number: int
    node_hash: bytes


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed note as stored; nothing of it is verified."""

    origin: str
    size: int
    note: str


@dataclass(frozen=True, slots=True)
class TokenDenial:
    """Tokens of an issuer that are refused: all that every member which is not None fits.

    subject, token_id: the token's `sub` and `jti`. issued_before: tokens with an earlier `iat`. ends_at: from then on
    it is without effect, as the tokens have ended themselves. why, created_by: for people. lifted_at: taken back.
    """

    issuer: str
    subject: str | None
    token_id: str | None
    issued_before: datetime | None
    ends_at: datetime | None
    why: str
    created_at: datetime
    created_by: str
    lifted_at: datetime | None = None
