"""Names of slices: what is written is read back, and what names none is refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.summaries import ALL_SAMPLES, Slice, SliceKind, parse_slice

KINDS = st.sampled_from([SliceKind.CLIENT, SliceKind.SOURCE])


@given(KINDS, st.text(min_size=1, max_size=190))
def test_what_is_written_is_read_back(kind: SliceKind, value: str) -> None:
    """Whatever the camera or client is called, an equals sign among it."""
    assert Slice(kind, value) == parse_slice(Slice(kind, value).text)


def test_all_samples_have_no_name() -> None:
    """Nor does what is stored about them."""
    assert ("", ALL_SAMPLES) == (ALL_SAMPLES.text, parse_slice(""))


def test_a_slice_is_named_by_its_kind() -> None:
    """A literal: it stands in tables and in labels of metrics."""
    assert "source=camera-3" == Slice(SliceKind.SOURCE, "camera-3").text
    assert (
        "client=https://issuer.test|line=1"
        == Slice(SliceKind.CLIENT, "https://issuer.test|line=1").text
    )


def test_a_long_name_is_cut() -> None:
    """It fits its column."""
    assert 200 == len(Slice(SliceKind.CLIENT, "x" * 640).text)


@pytest.mark.parametrize("text", ["camera-3", "source=", "=camera-3", "model=1", "source"])
def test_what_names_no_slice_is_refused(text: str) -> None:
    """And so is a kind that there is not."""
    with pytest.raises(ValueError, match=r"is no slice|not a valid SliceKind"):
        parse_slice(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No other error escapes."""
    with suppress(ValueError):
        assert text == parse_slice(text).text
