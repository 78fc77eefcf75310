"""Random pieces of a secret, and the search for them in whatever lies about: files, databases, core dumps."""

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WINDOW_BYTES = 32
_BLOCK_BYTES = 1 << 24


def windows_of(content: bytes, *, count: int) -> list[bytes]:
    """Random pieces of 32 bytes that are no repetition of a few values."""
    rng = random.Random(7)
    found: list[bytes] = []
    while len(found) < count:
        start = rng.randrange(len(content) - WINDOW_BYTES)
        piece = content[start : start + WINDOW_BYTES]
        # Memory is full of zeros; pieces that begin with them would make the search slow and nothing else.
        if len(set(piece)) > 16 and all(piece[:2]):
            found.append(piece)
    return found


def count_held(file: Path, pieces: Iterable[bytes]) -> int:
    """How many of the pieces occur in the file, at any offset."""
    wanted = set(pieces)
    begins = np.zeros(1 << 16, np.bool_)
    begins[[int.from_bytes(piece[:2], "little") for piece in wanted]] = True
    held: set[bytes] = set()
    with file.open("rb") as stream:
        kept = b""
        while block := stream.read(_BLOCK_BYTES):
            # The end of a block is looked at again together with the next one, for pieces across the border.
            block = kept + block
            held |= wanted.intersection(_candidates(block, begins))
            kept = block[-(WINDOW_BYTES - 1) :]
    return len(held)


def holding(files: Iterable[Path], pieces: Iterable[bytes]) -> list[Path]:
    """The files in which any of the pieces occurs."""
    wanted = set(pieces)
    return [file for file in files if file.is_file() and count_held(file, wanted)]


def _candidates(block: bytes, begins: NDArray[np.bool_]) -> Iterable[bytes]:
    if len(block) < WINDOW_BYTES:
        return
    values = np.frombuffer(block, np.uint8)[: len(block) - WINDOW_BYTES + 2].astype(np.uint16)
    for start in np.flatnonzero(begins[values[:-1] | values[1:] << 8]).tolist():
        yield block[start : start + WINDOW_BYTES]
