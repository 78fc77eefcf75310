"""The words cover what the gateway measures."""

from gateway.sampling.features import FEATURES, FeatureKind
from monitor.drift.words import (
    COUNTS,
    FITTED_WORDS,
    IMAGE_WORDS,
    NEEDS_OBJECTS,
    NOUNS,
    OUTPUT_WORDS,
    UNITS,
)


def test_every_image_feature_of_the_gateway_has_words() -> None:
    """A feature added to the gateway would otherwise be reported under its bare name."""
    assert {f.name for f in FEATURES if f.kind is FeatureKind.IMAGE} == set(IMAGE_WORDS)


def test_every_detection_feature_of_the_gateway_has_words() -> None:
    """The same for features of the detections."""
    assert {f.name for f in FEATURES if f.kind is FeatureKind.DETECTIONS} == set(OUTPUT_WORDS)


def test_what_needs_objects_is_what_the_gateway_calls_optional() -> None:
    """All but the candidates, which engines may not tell, and the surprise, which references define."""
    optional = {f.name for f in FEATURES if f.is_optional}
    assert optional - {"candidate_count"} | {"class_surprise"} == NEEDS_OBJECTS


def test_nouns_and_units_are_of_features_that_exist() -> None:
    """A feature that is renamed would keep its old words otherwise."""
    assert {*NOUNS, *UNITS, *COUNTS} <= {f.name for f in FEATURES} | set(FITTED_WORDS)
