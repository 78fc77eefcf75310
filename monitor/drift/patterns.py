"""What a change looks like: the known pattern whose signature is nearest to the effects of the features.

Rules: a signature says what a change does to each feature by physics, -1..1, and 0 where it does nothing; signature and
effects are compared by the cosine of the angle between them, so that how strong the change is does not matter; below
MIN_SIMILARITY it looks like nothing known. Signatures of the picture (blur, darkness) are compared over the features of
the picture alone, because boxes, classes and embeddings move with every one of them; signatures of the content over the
features of the content, and only where these moved more than the picture did. Of some features a signature says that
they move and not which way: a red, a blue and a green lamp all cast colour.

Not told apart: defocus, motion and pictures enlarged from fewer pixels are all blur; no feature sees directions.
A moved camera is named only where boxes moved by much more than the picture did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

MIN_SIMILARITY = 0.8
# Weaker effects have no direction to speak of.
_MIN_STRENGTH = 0.3

_PICTURE = (
    "width", "height", "aspect_ratio", "bits_per_pixel", "brightness", "contrast", "dark_share", "bright_share",
    "entropy", "saturation", "red_cast", "blue_cast", "sharpness", "noise", "blockiness",
)  # fmt: skip
_CLASS_COUNT_PREFIX = "class_count_"
_DIRECTION_PREFIX = "embedding_"
_CLASS_COUNTS, _DIRECTIONS = "class_counts", "embedding_directions"
_CONTENT = (
    _CLASS_COUNTS, "class_surprise", _DIRECTIONS, "embedding_distance", "embedding_residual", "mean_box_area",
    "mean_box_x", "mean_box_y", "mean_box_aspect",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pattern:
    """A known change. words: after "looks like". similarity: MIN_SIMILARITY..1, the cosine."""

    name: str
    words: str
    similarity: float


@dataclass(frozen=True, slots=True)
class _Signature:
    """directed: what a change does to a feature. free: groups of features that move either way, and how much."""

    name: str
    words: str
    directed: Mapping[str, float]
    free: Mapping[tuple[str, ...], float] = field(default_factory=dict)


_SIGNATURES = (
    # A low-pass takes away detail, and with it bits, steps between blocks and the darkest and lightest specks.
    _Signature(
        "blur",
        "blur (out of focus, motion or lost resolution)",
        {
            "sharpness": -1, "noise": -1, "bits_per_pixel": -0.9, "blockiness": -0.4, "dark_share": -0.3,
            "contrast": -0.2, "bright_share": -0.2, "entropy": -0.2,
        },
    ),
    # Independent noise in each channel: detail that is none, colour that is none, levels that were not used.
    _Signature(
        "noise",
        "noise of the sensor",
        {
            "noise": 1, "sharpness": 1, "bits_per_pixel": 1, "saturation": 0.7, "entropy": 0.6, "blockiness": -0.4,
            "dark_share": 0.3, "contrast": 0.2, "bright_share": 0.1,
        },
    ),
    # Less light scales every level: mean, deviation and steps together.
    _Signature(
        "darkness",
        "too little light",
        {
            "brightness": -1, "bright_share": -1, "contrast": -0.9, "entropy": -0.9, "dark_share": 0.6,
            "sharpness": -0.6, "noise": -0.5, "bits_per_pixel": -0.6,
        },
    ),
    # More light lifts the shadows and clips the highlights, which levels what lies there.
    _Signature(
        "brightness",
        "too much light",
        {
            "brightness": 1, "dark_share": -0.9, "bright_share": 0.8, "entropy": -0.6, "contrast": -0.4,
            "blockiness": 0.3,
        },
    ),
    # Levels close in on their mean: both ends empty, steps shrink, the mean and the colours' ratios stay.
    _Signature(
        "low_contrast",
        "low contrast",
        {
            "contrast": -1, "dark_share": -1, "bright_share": -1, "entropy": -1, "sharpness": -0.9, "noise": -0.8,
            "bits_per_pixel": -0.9, "saturation": -0.2,
        },
    ),
    # A veil of grey light over all: low contrast that takes the colours as well and is not dark anywhere.
    _Signature(
        "fog",
        "fog or a dirty lens",
        {
            "contrast": -0.9, "dark_share": -1, "bright_share": -0.8, "entropy": -0.8, "saturation": -0.9,
            "sharpness": -0.8, "noise": -0.6, "bits_per_pixel": -0.7, "brightness": 0.3,
        },
        {("red_cast", "blue_cast"): 0.6},
    ),
    # Coefficients set to zero: fewer bits, borders of blocks, flat insides.
    _Signature(
        "compression",
        "stronger JPEG compression",
        {"bits_per_pixel": -1, "blockiness": 1, "noise": -0.7, "entropy": -0.7, "sharpness": -0.4},
    ),
    # Channels scaled apart: ratios of colours move, greys become colours, what was nearly white is not.
    _Signature(
        "colour_cast",
        "a colour cast",
        {"saturation": 0.5, "bright_share": -0.3},
        {("red_cast", "blue_cast"): 1.2},
    ),
    # Sides change together; detail per pixel changes with them, up or down.
    _Signature(
        "resolution",
        "another resolution",
        {},
        {("width", "height"): 1.4, ("sharpness", "noise", "bits_per_pixel", "blockiness"): 0.4},
    ),
    # What was never seen lies outside the reference's directions, in the embedding and in the classes.
    _Signature(
        "new_content",
        "a new scene or new objects",
        {"embedding_residual": 1, "embedding_distance": 0.8, "class_surprise": 0.4},
        {(_DIRECTIONS,): 0.6, (_CLASS_COUNTS,): 0.4},
    ),
    # Known objects in other numbers: along the reference's own directions, not outside them.
    _Signature(
        "class_mix",
        "another mix of objects",
        {},
        {(_CLASS_COUNTS,): 1, ("class_surprise",): 0.5, (_DIRECTIONS,): 0.4},
    ),
    # The same objects elsewhere, or nearer.
    _Signature(
        "camera_moved",
        "a camera that was moved",
        {},
        {
            ("mean_box_x", "mean_box_y"): 1, ("mean_box_area",): 0.5, ("mean_box_aspect",): 0.2,
            (_DIRECTIONS,): 0.3,
        },
    ),
)  # fmt: skip


def nearest_pattern(effects: Mapping[str, float]) -> Pattern | None:
    """The known pattern that effects look most like; None if they look like none, or are all small.

    effects: by feature, -1..1 (monitor.drift.scores.effect_of), those within chance left out.
    """
    grouped = _grouped(effects)
    of_picture, of_content = _norm(grouped, _PICTURE), _norm(grouped, _CONTENT)
    found = []
    for each in _SIGNATURES:
        is_of_picture = set(_names(each)) <= set(_PICTURE)
        strength = of_picture if is_of_picture else of_content
        if strength >= (_MIN_STRENGTH if is_of_picture else max(_MIN_STRENGTH, of_picture)):
            similarity = _similarity(each, grouped, strength=strength)
            found.append(Pattern(each.name, each.words, similarity))
    best = max(found, key=lambda pattern: pattern.similarity, default=None)
    return best if best is not None and best.similarity >= MIN_SIMILARITY else None


def _similarity(signature: _Signature, effects: Mapping[str, float], *, strength: float) -> float:
    """Cosine between effects, whose length is strength, and the nearest vector that a signature stands for."""
    # The nearest choice of a free group points where its effects do, so their length is what counts.
    shared = sum(weight * effects.get(name, 0.0) for name, weight in signature.directed.items())
    shared += sum(weight * _norm(effects, group) for group, weight in signature.free.items())
    weights = (*signature.directed.values(), *signature.free.values())
    # Rounding can leave 1.
    return min(1.0, shared / (strength * sqrt(sum(weight * weight for weight in weights))))


def _names(signature: _Signature) -> tuple[str, ...]:
    return (*signature.directed, *(name for group in signature.free for name in group))


def _grouped(effects: Mapping[str, float]) -> dict[str, float]:
    # However many classes and directions a reference has, they are one number each: the strongest.
    grouped = {name: effect for name, effect in effects.items() if name in (*_PICTURE, *_CONTENT)}
    counts = [e for name, e in effects.items() if name.startswith(_CLASS_COUNT_PREFIX)]
    directions = [
        effect
        for name, effect in effects.items()
        if name.removeprefix(_DIRECTION_PREFIX).isdecimal()
    ]
    grouped[_CLASS_COUNTS] = max(counts, key=abs, default=0.0)
    grouped[_DIRECTIONS] = max(directions, key=abs, default=0.0)
    return grouped


def _norm(effects: Mapping[str, float], names: tuple[str, ...]) -> float:
    return sqrt(sum(effects.get(name, 0.0) ** 2 for name in names))
