"""The words cover what the gateway measures."""

from gateway.sampling.features import FEATURES, FeatureKind
from monitor.drift.words import IMAGE_WORDS, OUTPUT_WORDS


def test_every_image_feature_of_the_gateway_has_words() -> None:
    """A feature added to the gateway would otherwise be reported under its bare name."""
    assert {f.name for f in FEATURES if f.kind is FeatureKind.IMAGE} == set(IMAGE_WORDS)


def test_every_detection_feature_of_the_gateway_has_words() -> None:
    """The same for features of the detections."""
    assert {f.name for f in FEATURES if f.kind is FeatureKind.DETECTIONS} == set(OUTPUT_WORDS)
