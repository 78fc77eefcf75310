"""Projections of embeddings: along the widest directions, alike however many are projected."""

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.windows.embeddings import embedding_columns, embedding_names, fit_embedding

Rows = list[NDArray[np.float32] | None]


def test_the_widest_direction_comes_first() -> None:
    """Its coordinate is in standard deviations, and what moves along no direction is residual."""
    rows = _spread(scales=(100.0, 10.0, 1e-6, 1e-6))
    fit = fit_embedding(rows)
    assert fit is not None
    assert [100.0, 10.0] == pytest.approx(fit.scales.tolist(), rel=0.2)
    moved = np.array([3 * float(fit.scales[0]), 0, 0, 0], np.float32) + fit.mean
    aside = np.array([0, 0, 7.0, 0], np.float32) + fit.mean
    found = embedding_columns([moved, aside], fit)
    assert [3.0, 0.0] == pytest.approx(abs(found["embedding_1"]), abs=0.05)
    assert 3 / np.sqrt(2) == pytest.approx(found["embedding_distance"][0], rel=0.05)
    assert found["embedding_residual"][1] > 100 > found["embedding_residual"][0]


def test_directions_are_orthonormal_and_turned_one_way() -> None:
    """To within the rounding of what is stored; a decomposition is free to turn them around."""
    fit = fit_embedding(_spread(scales=(5.0, 4.0, 3.0, 2.0)))
    turned = fit_embedding([-row for row in _spread(scales=(5.0, 4.0, 3.0, 2.0))])
    assert fit is not None
    assert turned is not None
    assert fit.directions @ fit.directions.T == pytest.approx(np.eye(4), abs=2e-3)
    assert (np.take_along_axis(fit.directions, abs(fit.directions).argmax(1)[:, None], 1) > 0).all()
    assert fit.directions.tobytes() == turned.directions.tobytes()


def test_few_samples_have_few_directions() -> None:
    """Eight for each: more would fit the noise of these samples."""
    rng = np.random.default_rng(2)
    rows: Rows = [rng.normal(size=300).astype(np.float32) for _ in range(400)]
    counts = []
    for count in (8, 31, 32, 400):
        fit = fit_embedding(rows[:count])
        assert fit is not None
        counts.append(len(fit.directions))
    assert [1, 3, 4, 16] == counts
    assert fit_embedding(rows[:7]) is None


def test_wide_embeddings_leave_room_for_the_rest() -> None:
    """The stored directions are bounded, whatever the network."""
    rng = np.random.default_rng(3)
    fit = fit_embedding([rng.normal(size=4096).astype(np.float32) for _ in range(200)])
    assert fit is not None
    assert 3 == len(fit.directions)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [None, None, np.zeros(2, np.float32)],
        [np.zeros(2, np.float32)] * 20 + [np.zeros(3, np.float32)],
        [np.full(2, np.nan, np.float32)] * 20,
        [np.zeros((2, 2), np.float32)] * 20,
    ],
    ids=["none", "mostly missing", "of two lengths", "no numbers", "no rows"],
)
def test_what_cannot_be_fitted_is_left_out(rows: Rows) -> None:
    """And the features with it."""
    assert fit_embedding(rows) is None


def test_half_of_the_embeddings_may_be_missing() -> None:
    """Those that are there tell."""
    rows = _spread(scales=(2.0, 1.0))
    assert fit_embedding([*rows, *[None] * len(rows)]) is not None


@pytest.mark.parametrize("value", [0.0, 1.0, -3.3e7])
def test_constant_embeddings_have_no_directions(value: float) -> None:
    """Equal ones stay equal, alone or among many: rounding must not tell them apart, for every sample would be news."""
    rng = np.random.default_rng(4)
    constant = (value * np.arange(1, 8)).astype(np.float32)
    fit = fit_embedding([constant] * 64)
    assert fit is not None
    assert ("embedding_residual",) == embedding_names(fit)
    alone = embedding_columns([constant], fit)["embedding_residual"]
    many = embedding_columns([constant] * 2500, fit)["embedding_residual"]
    assert {float(alone[0])} == set(many.tolist())
    other = embedding_columns([(rng.normal(size=7) + 2 * constant).astype(np.float32)], fit)
    assert other["embedding_residual"][0] > 100


def test_a_sample_is_projected_alike_however_many_come_with_it() -> None:
    """Libraries sum in another order for one row than for many."""
    rng = np.random.default_rng(5)
    rows: Rows = [rng.normal(size=577).astype(np.float32) for _ in range(300)]
    fit = fit_embedding(rows)
    assert fit is not None
    together = embedding_columns(rows, fit)
    for name, column in together.items():
        alone = [float(embedding_columns([row], fit)[name][0]) for row in rows[:40]]
        assert alone == column[:40].tolist()


def _spread(*, scales: tuple[float, ...]) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return [(rng.normal(size=len(scales)) * scales).astype(np.float32) for _ in range(200)]
