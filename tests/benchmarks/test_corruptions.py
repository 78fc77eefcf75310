"""The corruptions of the drift benchmark."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.corruptions import SEVERITIES, Corruption, corrupt, plasma

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photograph() -> Image:
    """Soft shapes with sharp edges and some texture, as a photograph has them; 96 x 131 pixels."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[0:96, 0:131]
    layers = [60 + columns, 40 + rows, 120 + 50 * np.sin(columns / 9)]
    image = np.stack(layers, axis=2) + rng.normal(0, 4, (96, 131, 3))
    image[30:60, 40:90] *= 0.5
    return image.clip(0, 255).astype(np.uint8)


def corrupted(image: Image, corruption: Corruption, severity: int, seed: int = 0) -> Image:
    """The corruption with a seed."""
    return corrupt(image, corruption, severity=severity, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("corruption", Corruption)
def test_a_corruption_keeps_the_form(corruption: Corruption, photograph: Image) -> None:
    """Shape and type stay, and the image passed in is left alone."""
    before = photograph.copy()
    for severity in SEVERITIES:
        after = corrupted(photograph, corruption, severity)
        assert (96, 131, 3) == after.shape
        assert np.uint8 == after.dtype
    assert np.array_equal(before, photograph)


@pytest.mark.parametrize("corruption", Corruption)
def test_a_corruption_grows_with_its_severity(corruption: Corruption, photograph: Image) -> None:
    """The mean distance to the image grows, from more than nothing."""
    distances = [
        np.abs(corrupted(photograph, corruption, severity).astype(int) - photograph).mean()
        for severity in SEVERITIES
    ]
    assert distances[0] > 0
    assert sorted(distances) == distances


@pytest.mark.parametrize("corruption", Corruption)
def test_a_seed_gives_one_image(corruption: Corruption, photograph: Image) -> None:
    """The same generator's state, the same pixels."""
    assert np.array_equal(
        corrupted(photograph, corruption, 3, seed=7), corrupted(photograph, corruption, 3, seed=7)
    )


@pytest.mark.parametrize("corruption", [Corruption.NOISE, Corruption.MOTION, Corruption.FOG])
def test_what_is_random_differs_between_seeds(corruption: Corruption, photograph: Image) -> None:
    """Two photographs of a stream do not get the same grain, shake or cloud."""
    assert not np.array_equal(
        corrupted(photograph, corruption, 3, seed=1), corrupted(photograph, corruption, 3, seed=2)
    )


@pytest.mark.parametrize("corruption", Corruption)
def test_one_pixel_can_be_corrupted(corruption: Corruption) -> None:
    """The smallest image of all has a defined result."""
    assert (1, 1, 3) == corrupted(np.full((1, 1, 3), 99, np.uint8), corruption, 5).shape


def test_light_is_lost_in_stops(photograph: Image) -> None:
    """Two and a half stops leave 2 ** (-2.5 / 2.2) of what the camera encodes."""
    dark = corrupted(photograph, Corruption.DARKNESS, 3)
    assert 0.455 == pytest.approx(dark.mean() / photograph.mean(), abs=0.005)


def test_a_cloud_spans_its_range() -> None:
    """From 0 to 1, at least as large as asked for, and smoother the faster detail decays."""
    clouds = {d: plasma(100, decay=d, rng=np.random.default_rng(1)) for d in (1.4, 2.5)}
    assert (128, 128) == clouds[1.4].shape
    assert (0.0, 1.0) == (clouds[1.4].min(), clouds[1.4].max())
    roughness = {d: float(np.abs(np.diff(cloud)).mean()) for d, cloud in clouds.items()}
    assert roughness[2.5] < roughness[1.4]
