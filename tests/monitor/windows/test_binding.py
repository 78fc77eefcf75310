"""What a reference is bound to: the very weights, and how they are run."""

from dataclasses import replace

import pytest

from gateway.store.records import ModelVersion, Stage
from monitor.windows.binding import preprocessing_of, why_unfit
from tests.monitor.windows.summaries import START, draw_summary, reference_of

MODEL = ModelVersion(
    name="conveyor",
    version="1",
    stage=Stage.PRODUCTION,
    file_name="x",
    plaintext_sha256="ab" * 32,
    class_names=(),
    input_size=(320, 640),
    registered_at=START,
)


def test_preprocessing_is_words() -> None:
    """A literal: it is stored with references and compared with them."""
    expected = f"weights {'ab' * 32} input 320x640 precision f32 engine openvino"
    assert expected == preprocessing_of(MODEL)


@pytest.mark.parametrize(
    "change",
    [
        {"plaintext_sha256": "cd" * 32},
        {"input_size": (640, 320)},
        {"precision": "int8"},
        {"engine": "onnxruntime"},
    ],
)
def test_another_preprocessing_is_unfit(change: dict[str, object]) -> None:
    """It moves features and confidences without any drift."""
    summary = replace(draw_summary(100), preprocessing=preprocessing_of(MODEL))
    reference = reference_of(summary)
    assert why_unfit(reference, MODEL) is None
    why = why_unfit(reference, replace(MODEL, **change))  # type: ignore[arg-type]
    assert why is not None
    assert "reference 1 was made by another model or preprocessing" in why


def test_another_version_is_unfit() -> None:
    """Whatever else is alike."""
    reference = reference_of(replace(draw_summary(100), preprocessing=""))
    why = why_unfit(reference, replace(MODEL, version="2"))
    assert "reference 1 was made for conveyor 1, not for conveyor 2" == why


def test_a_reference_that_does_not_tell_fits_its_version() -> None:
    """Those made before this was stored stay in use."""
    reference = reference_of(replace(draw_summary(100), preprocessing=""))
    assert why_unfit(reference, MODEL) is None
