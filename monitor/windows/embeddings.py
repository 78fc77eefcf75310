"""The network's pooled feature, reduced to a few numbers by a projection that a reference fixes. Pure numpy.

Rules: a projection is made of numbers that are stored exactly, so that a reference and its later samples are projected
alike; coordinates are rounded to a grid far below what means anything, so that how many samples are projected at once
cannot tell equal ones apart.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from monitor.summaries import EmbeddingFit

Embedding: TypeAlias = NDArray[np.float32]
Numbers: TypeAlias = NDArray[np.float64]

EMBEDDING_PREFIX = "embedding_"
DISTANCE = "embedding_distance"
RESIDUAL = "embedding_residual"
SHOWN_COORDINATES = 4

MAX_DIRECTIONS = 16
# Fewer samples a direction would fit the noise of these samples: what is normal would look strange.
SAMPLES_PER_DIRECTION = 8
# More hardly move the directions, and of wide embeddings the decomposition takes seconds.
MAX_FIT_SAMPLES = 512
# Of what is stored, so that wide embeddings leave room for the order statistics.
MAX_DIRECTION_NUMBERS = 12_288
# Of the usual length of an embedding: below it, what differs is how numbers were rounded.
_SMALLEST_SHARE = 1e-4
_SMALLEST = 1e-12
_GRID = 2.0**16
_CHUNK_SAMPLES = 1024
_LARGEST = float(np.finfo(np.float32).max)


def fit_embedding(embeddings: Sequence[Embedding | None]) -> EmbeddingFit | None:
    """The mean and the widest directions of some embeddings, by a singular value decomposition.

    None if more than half are missing, their lengths differ, or they are too few for a direction.
    """
    found = [each for each in embeddings if each is not None]
    if 2 * len(found) < len(embeddings) or len({each.shape for each in found}) != 1:
        return None
    chosen = found[:: -(-len(found) // MAX_FIT_SAMPLES)]
    rows = np.stack(chosen).astype(np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        return None
    width = rows.shape[1]
    most = min(MAX_DIRECTIONS, len(rows) // SAMPLES_PER_DIRECTION, width)
    if most < 1 or width > MAX_DIRECTION_NUMBERS:
        return None
    return _fit(rows, most=min(most, MAX_DIRECTION_NUMBERS // width))


def embedding_names(fit: EmbeddingFit) -> tuple[str, ...]:
    """The features that a projection gives."""
    count = len(fit.directions)
    shown = tuple(f"{EMBEDDING_PREFIX}{n}" for n in range(1, min(SHOWN_COORDINATES, count) + 1))
    return (*shown, *((DISTANCE,) if count else ()), RESIDUAL)


def embedding_columns(
    embeddings: Sequence[Embedding | None], fit: EmbeddingFit
) -> dict[str, Numbers]:
    """Each feature of embedding_names as one column, NaN for an embedding that is missing or of another length.

    Coordinates in standard deviations of the reference; the distance is their root mean square, the residual the
    length of what lies outside the directions, as a multiple of what is usual.
    """
    usable = [
        row
        for row, each in enumerate(embeddings)
        if each is not None and each.shape == fit.mean.shape and np.isfinite(each).all()
    ]
    names = embedding_names(fit)
    table = np.full((len(embeddings), len(names)), np.nan)
    for first in range(0, len(usable), _CHUNK_SAMPLES):
        chunk = usable[first : first + _CHUNK_SAMPLES]
        rows = np.stack([embeddings[row] for row in chunk]).astype(np.float64)  # type: ignore[misc]
        table[chunk] = _project(rows, fit)
    return {name: table[:, column] for column, name in enumerate(names)}


def _fit(rows: Numbers, *, most: int) -> EmbeddingFit:
    mean = rows.mean(axis=0).astype(np.float32)
    centred = rows - mean
    usual = float(np.sqrt(np.mean(np.sum(rows * rows, axis=1))))
    smallest = max(_SMALLEST_SHARE * usual, _SMALLEST)
    _, spreads, directions = np.linalg.svd(centred, full_matrices=False)
    wide = np.flatnonzero(spreads[:most] / np.sqrt(len(rows)) > smallest)
    # Half precision stores twice as many, and whatever is stored is what is projected on, here and later.
    kept = _with_fixed_signs(directions[wide]).astype(np.float16).astype(np.float32)
    along = centred @ kept.T.astype(np.float64)
    outside = centred - along @ kept
    residual = float(np.sqrt(np.mean(np.sum(outside * outside, axis=1))))
    scales = np.clip(along.std(axis=0), smallest, _LARGEST).astype(np.float32)
    return EmbeddingFit(mean, kept, scales, max(residual, smallest))


def _with_fixed_signs(directions: Numbers) -> Numbers:
    # A decomposition is free to turn them around.
    if not len(directions):
        return directions
    largest = np.abs(directions).argmax(axis=1)
    signs: Numbers = np.sign(directions[np.arange(len(directions)), largest])
    return directions * signs[:, None]


def _project(rows: Numbers, fit: EmbeddingFit) -> Numbers:
    centred = rows - fit.mean
    along = centred @ fit.directions.T.astype(np.float64)
    outside = centred - along @ fit.directions
    scaled = along / fit.scales
    residual = np.sqrt(np.sum(outside * outside, axis=1, keepdims=True)) / fit.residual_scale
    columns = [scaled[:, :SHOWN_COORDINATES]]
    if len(fit.directions):
        columns.append(np.sqrt(np.mean(scaled * scaled, axis=1, keepdims=True)))
    return np.round(np.hstack([*columns, residual]) * _GRID) / _GRID
