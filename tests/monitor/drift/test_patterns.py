"""The nearest known pattern of a change, by the effects of its features."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.drift.patterns import _SIGNATURES, MIN_SIMILARITY, nearest_pattern

NAMES = sorted({name for each in _SIGNATURES for name in each.directed})
EFFECTS = st.dictionaries(
    st.sampled_from([*NAMES, "red_cast", "class_count_3", "embedding_2", "glare"]),
    st.floats(-1, 1),
)

# Effects on 25 photographs under benchmarks/corruptions.py, against the same photographs.
MEASURED = {
    "compression": {
        "bits_per_pixel": -1.0, "blockiness": 1.0, "noise": -0.6, "entropy": -0.4, "sharpness": -0.26,
        "detection_count": -0.21, "max_confidence": -0.29,
    },
    "noise": {
        "bits_per_pixel": 1, "noise": 1, "sharpness": 0.92, "saturation": 0.47, "entropy": 0.36, "blockiness": -0.46,
    },
    "blur": {"sharpness": -1, "noise": -1, "bits_per_pixel": -0.92, "blockiness": -0.52, "dark_share": -0.31},
    "brightness": {"brightness": 0.45, "dark_share": -0.67, "bright_share": 0.36},
    "darkness": {
        "brightness": -0.65, "contrast": -0.65, "bright_share": -0.96, "entropy": -0.8, "dark_share": 0.29,
        "sharpness": -0.42, "bits_per_pixel": -0.34, "noise": -0.27,
    },
    "low_contrast": {
        "contrast": -1, "dark_share": -1, "bright_share": -0.96, "entropy": -1, "sharpness": -0.81, "noise": -0.66,
        "bits_per_pixel": -0.8, "saturation": -0.18,
    },
    "fog": {
        "contrast": -0.88, "dark_share": -0.94, "bright_share": -0.91, "entropy": -0.72, "saturation": -0.89,
        "red_cast": -0.49, "blue_cast": 0.62, "sharpness": -0.93, "noise": -0.73, "bits_per_pixel": -0.81,
        "blockiness": -0.29,
    },
    "resolution": {"width": -0.96, "height": -1, "bits_per_pixel": 0.31, "sharpness": -0.22, "blockiness": -0.47},
}  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_measured_effects_have_their_name(name: str) -> None:
    """What one corruption did to photographs looks like it."""
    found = nearest_pattern(MEASURED[name])
    assert found is not None
    assert name == found.name
    assert MIN_SIMILARITY <= found.similarity <= 1.0


@pytest.mark.parametrize(("red", "blue"), [(1, -1), (-0.9, 0.7), (-1, -0.9), (1, 0.9), (0.9, 0)])
def test_a_cast_of_any_colour_is_a_colour_cast(red: float, blue: float) -> None:
    """Orange, blue, green, magenta and red light."""
    found = nearest_pattern({"red_cast": red, "blue_cast": blue, "saturation": 0.5})
    assert found is not None
    assert "colour_cast" == found.name


def test_how_strong_a_change_is_does_not_matter() -> None:
    """A fifth of the samples blurred is blur."""
    weak = {name: 0.25 * effect for name, effect in MEASURED["blur"].items()}
    found = nearest_pattern(weak)
    assert found is not None
    assert "blur" == found.name


def test_boxes_and_embeddings_do_not_hide_a_pattern_of_the_picture() -> None:
    """They move with every corruption that is strong enough."""
    moved = {
        "embedding_distance": 1.0,
        "embedding_1": -0.8,
        "class_count_0": -0.9,
        "mean_box_x": 0.3,
    }
    found = nearest_pattern(MEASURED["noise"] | moved)
    assert found is not None
    assert "noise" == found.name


def test_embeddings_off_the_known_directions_are_new_content() -> None:
    """The picture's own numbers stay."""
    effects = {
        "embedding_residual": 0.8,
        "embedding_distance": 0.7,
        "class_surprise": 0.4,
        "embedding_3": -0.5,
    }
    found = nearest_pattern(effects | {"brightness": 0.2})
    assert found is not None
    assert "new_content" == found.name


def test_known_objects_in_other_numbers_are_another_mix() -> None:
    """Any class up or down, the strongest counts."""
    effects = {
        "class_count_0": -0.9,
        "class_count_7": 0.4,
        "class_surprise": 0.5,
        "embedding_1": 0.5,
    }
    found = nearest_pattern(effects)
    assert found is not None
    assert "class_mix" == found.name


def test_objects_elsewhere_are_a_moved_camera() -> None:
    """Further right and up, and farther away."""
    found = nearest_pattern({"mean_box_x": 0.7, "mean_box_y": -0.6, "mean_box_area": -0.5})
    assert found is not None
    assert "camera_moved" == found.name


@pytest.mark.parametrize(
    "effects",
    [
        {},
        {"glare": 1.0},
        {"sharpness": -0.15, "noise": -0.15, "bits_per_pixel": -0.1},  # too weak to have a direction
        {"aspect_ratio": 1.0, "brightness": 0.5},
        dict.fromkeys(NAMES, 1.0),
    ],
)  # fmt: skip
def test_what_looks_like_nothing_known_is_none(effects: dict[str, float]) -> None:
    """A wrong name is worse than none."""
    assert nearest_pattern(effects) is None


def test_content_is_not_named_where_the_picture_moved_more() -> None:
    """An unknown corruption moves the embedding, too, and is no new scene."""
    unknown = {
        "aspect_ratio": 1.0,
        "brightness": 0.5,
        "embedding_residual": 0.7,
        "embedding_distance": 0.6,
    }
    assert nearest_pattern(unknown) is None


def test_names_are_told_once() -> None:
    """Metrics and details go by name."""
    assert len({each.name for each in _SIGNATURES}) == len(_SIGNATURES)


@given(EFFECTS)
def test_any_effects_have_an_answer(effects: dict[str, float]) -> None:
    """No effect divides by zero, and a similarity is a cosine."""
    found = nearest_pattern(effects)
    assert found is None or MIN_SIMILARITY <= found.similarity <= 1.0
