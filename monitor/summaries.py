"""What a reference keeps of its samples: order statistics by slice and hour, and what its own features are made with.

Rules: of one size whatever the number of samples; frozen data without behaviour beyond names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from monitor.ranks import RankedValues

HOURS_OF_DAY = frozenset(range(24))
_MAX_SLICE_CHARACTERS = 200


class SliceKind(StrEnum):
    """By what samples are told apart."""

    ALL = ""
    CLIENT = "client"
    SOURCE = "source"


@dataclass(frozen=True, slots=True, order=True)
class Slice:
    """Some of a model version's samples: all, those of one client, or those of one camera."""

    kind: SliceKind = SliceKind.ALL
    value: str = ""

    @property
    def text(self) -> str:
        """As it is stored and shown: empty for all samples, else `source=camera-3`; at most 200 characters."""
        if self.kind is SliceKind.ALL:
            return ""
        return f"{self.kind.value}={self.value}"[:_MAX_SLICE_CHARACTERS]


ALL_SAMPLES = Slice()


def parse_slice(text: str) -> Slice:
    """The slice that a text names. Raises ValueError if it names none."""
    if not text:
        return ALL_SAMPLES
    kind, mark, value = text.partition("=")
    if not mark or not value or not kind:
        raise ValueError(f"{text[:40]!r} is no slice: write source=NAME or client=NAME")
    return Slice(SliceKind(kind), value)


@dataclass(frozen=True, slots=True)
class Stratum:
    """What is normal at some hours. hours: of the day in UTC. features: each one's order statistics."""

    hours: frozenset[int]
    features: Mapping[str, RankedValues]


@dataclass(frozen=True, slots=True)
class SliceSummary:
    """What is normal in one slice; no hour is in two strata, and a sample of an hour in none is not judged."""

    slice: Slice
    strata: tuple[Stratum, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingFit:
    """Where embeddings of the reference lie and how far they spread.

    mean: float32 (C,). directions: float32 (d, C), orthonormal rows, the widest first. scales: float32 (d,), > 0, the
    standard deviation along each. residual_scale: > 0, the usual length of what lies outside them.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    scales: NDArray[np.float32]
    residual_scale: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What the reference's own features are computed with. class_shares: of all boxes, by class id; sum at most 1."""

    class_shares: Mapping[int, float]
    embedding: EmbeddingFit | None = None


@dataclass(frozen=True, slots=True)
class ReferenceSummary:
    """A reference without its samples.

    slices: the first is of all samples. preprocessing: of the model version that measured it, in words that are
    compared. examples: request ids of some of its samples; empty if it was made of files. covers_from: when the first
    of its stored samples was received; None without any.
    """

    sample_count: int
    fit: Fit
    slices: tuple[SliceSummary, ...]
    preprocessing: str = ""
    examples: tuple[str, ...] = ()
    covers_from: datetime | None = None
