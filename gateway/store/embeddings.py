"""How the pooled feature of a sample is stored: one scale and a signed byte a number. Pure.

Rules: what pack_embedding made unpacks to within half a scale of each number; bytes of any other form are refused and
never guessed at. Four bytes of scale, float32 little-endian, then the numbers, int8: value = int8 * scale.
"""

import numpy as np
from numpy.typing import NDArray

MAX_EMBEDDING_NUMBERS = 4_096
_STEPS = 127
_LARGEST = float(np.finfo(np.float32).max)
_SCALE = np.dtype("<f4")
_VALUES = np.dtype("i1")


def pack_embedding(embedding: NDArray[np.float32]) -> bytes:
    """An embedding, float32 (C,), 1 <= C <= 4096, as 4 + C bytes; off by at most a 254th of its largest number.

    Raises ValueError for another shape, NaN and infinity.
    """
    if embedding.ndim != 1 or not 1 <= len(embedding) <= MAX_EMBEDDING_NUMBERS:
        raise ValueError(f"an embedding is a row of 1 to {MAX_EMBEDDING_NUMBERS} numbers")
    numbers = embedding.astype(np.float64)
    largest = float(np.abs(numbers).max())
    if not np.isfinite(largest):
        raise ValueError("an embedding has only finite numbers")
    scale = np.float32(largest / _STEPS)
    if not _reaches_finite(scale):
        scale = np.nextafter(scale, np.float32(0))
    # A scale below the smallest normal number is rounded coarsely: a quotient can leave the byte, and it can be 0.
    steps = np.clip(np.rint(numbers / (float(scale) or 1.0)), -_STEPS, _STEPS)
    return np.asarray(scale, _SCALE).tobytes() + steps.astype(_VALUES).tobytes()


def unpack_embedding(packed: bytes) -> NDArray[np.float32]:
    """The embedding, float32 (C,), that pack_embedding made bytes of.

    Raises ValueError for bytes that it cannot have made: another length, a scale that is negative or no number, the
    byte -128.
    """
    count = len(packed) - _SCALE.itemsize
    if not 1 <= count <= MAX_EMBEDDING_NUMBERS:
        raise ValueError("not the length of an embedding")
    scale = np.frombuffer(packed, _SCALE, count=1)[0]
    steps = np.frombuffer(packed, _VALUES, offset=_SCALE.itemsize)
    if np.signbit(scale) or not _reaches_finite(scale):
        raise ValueError("the scale of an embedding is not a finite number >= 0")
    if steps.min() < -_STEPS:
        raise ValueError("a number of an embedding is out of range")
    return steps.astype(np.float32) * np.float32(scale)


def _reaches_finite(scale: np.float32) -> bool:
    # Of NaN, every comparison is false.
    return float(scale) * _STEPS <= _LARGEST
