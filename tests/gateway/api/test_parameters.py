"""Prediction parameters: every limit from both sides, and nothing but plain ASCII numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.parameters import PredictParameters, parse_parameters
from gateway.errors import Code, RequestError
from gateway.inference.postprocess import Thresholds


def refusal(**values: str) -> str:
    """The message that refuses these values."""
    with pytest.raises(RequestError) as caught:
        parse_parameters(values)
    assert caught.value.code is Code.PARAMETER_INVALID
    return caught.value.message


def test_defaults_are_those_of_the_platform() -> None:
    """A caller that says nothing gets what the protocol documents."""
    assert parse_parameters({}) == PredictParameters(
        confidence=0.25, iou=0.7, image_size_pixels=None, is_normalized=False, decimals=5
    )


def test_every_parameter_is_taken() -> None:
    """Each name lands in its own field."""
    values = {"conf": "0.5", "iou": "0.45", "imgsz": "640", "normalize": "true", "decimals": "2"}
    assert parse_parameters(values) == PredictParameters(
        confidence=0.5, iou=0.45, image_size_pixels=640, is_normalized=True, decimals=2
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conf", "0.01"),
        ("conf", "1"),
        ("conf", "1.0"),
        ("conf", ".5"),
        ("conf", "0.30000000000000004"),
        ("iou", "0"),
        ("iou", "0.95"),
        ("imgsz", "32"),
        ("imgsz", "1280"),
        ("decimals", "0"),
        ("decimals", "10"),
    ],
)
def test_the_limits_themselves_are_taken(name: str, text: str) -> None:
    """Both ends of each range belong to it."""
    parse_parameters({name: text})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("conf", "0.009", "parameter 'conf': must be a number from 0.01 to 1"),
        ("conf", "1.0001", "parameter 'conf': must be a number from 0.01 to 1"),
        ("iou", "0.951", "parameter 'iou': must be a number from 0 to 0.95"),
        ("imgsz", "31", "parameter 'imgsz': must be a whole number from 32 to 1280"),
        ("imgsz", "1281", "parameter 'imgsz': must be a whole number from 32 to 1280"),
        ("decimals", "11", "parameter 'decimals': must be a whole number from 0 to 10"),
        ("normalize", "yes", "parameter 'normalize': must be true or false"),
    ],
)
def test_beyond_the_limits_is_refused(name: str, text: str, message: str) -> None:
    """One step outside a range is refused with the range."""
    assert message == refusal(**{name: text})


@pytest.mark.parametrize(
    "text",
    ["", "1e-1", " 0.5", "0.5 ", "0.5\n", "+0.5", "-0.5", "\uff10.5", "0,5", "0_1", "NaN", "nan",
     "inf", "Infinity", "0x1", ".", "0.5.", "0." + "0" * 20 + "5", "9" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("name", ["conf", "iou"])
def test_exotic_spellings_of_numbers_are_refused(name: str, text: str) -> None:
    """What another parser could read differently is not read at all."""
    assert "must be a number" in refusal(**{name: text})


@pytest.mark.parametrize(
    "text",
    ["", "+5", "-5", " 5", "5 ", "5\n", "5.0", "5e0", "\uff15", "\u0665", "0x5", "5_0", "9" * 5000],
)
def test_exotic_spellings_of_whole_numbers_are_refused(text: str) -> None:
    """The same for whole numbers."""
    assert "must be a whole number" in refusal(decimals=text)
    assert "must be a whole number" in refusal(imgsz=text + "0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("True", True), ("1", True), ("false", False), ("FALSE", False), ("0", False)],
)
def test_truth_is_spelt_as_clients_spell_it(text: str, expected: bool) -> None:
    """Python's, JSON's and C's words for it are taken."""
    assert expected is parse_parameters({"normalize": text}).is_normalized


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """A misspelt threshold must not pass silently; names ignore no case."""
    known = "unknown; known are conf, decimals, imgsz, iou, normalize"
    assert f"parameter 'confidence': {known}" == refusal(confidence="0.5")
    assert f"parameter 'Conf': {known}" == refusal(Conf="0.5")


def test_a_long_unknown_name_is_cut() -> None:
    """A caller cannot make the answer large."""
    assert len(refusal(**{"x" * 100_000: "1"})) < 200


def test_a_source_to_fetch_is_refused() -> None:
    """The gateway fetches no addresses on a caller's word."""
    assert "the gateway fetches nothing" in refusal(source="http://169.254.169.254/")


@given(
    st.dictionaries(
        st.sampled_from(["conf", "iou", "imgsz", "normalize", "decimals"]) | st.text(),
        st.text()
        | st.from_regex(r"[0-9.]{1,6}", fullmatch=True)
        | st.floats(0.01, 0.95).map(lambda number: f"{number:.6f}"),
    )
)
def test_whatever_is_taken_is_inside_the_limits(values: dict[str, str]) -> None:
    """Any strings give parameters that the detector takes, or a RequestError."""
    try:
        taken = parse_parameters(values)
    except RequestError:
        return
    Thresholds(confidence=taken.confidence, iou=taken.iou)
    assert taken.image_size_pixels is None or 32 <= taken.image_size_pixels <= 1280
    assert 0 <= taken.decimals <= 10
