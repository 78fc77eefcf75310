"""Which camera an image is of."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sampling.sources import SourceFault, choose_source, trusted_header


def test_a_source_nobody_named_is_none_and_no_fault() -> None:
    """Most callers name none."""
    assert (None, None) == choose_source(None, ())


@pytest.mark.parametrize("name", ["cam3", "A", "hall_2.belt-1:left", "7", "a" * 64])
def test_a_name_is_taken_from_either(name: str) -> None:
    """As it was written."""
    assert (name, None) == choose_source(name, ())
    assert (name, None) == choose_source(None, (name,))


def test_a_claim_wins_over_a_header() -> None:
    """The issuer signed it; the header is the caller's word."""
    assert ("belt-2", None) == choose_source("belt-2", ("cam-3",))
    assert ("belt-2", None) == choose_source("belt-2", ("not a name", "cam-3"))


def test_a_broken_claim_lets_no_header_take_its_place() -> None:
    """Otherwise whoever can spoil the claim names the camera."""
    assert (None, SourceFault.CLAIM_FORM) == choose_source("", ("cam-3",))
    assert (None, SourceFault.CLAIM_FORM) == choose_source("belt 2", ("cam-3",))


def test_where_a_claim_names_cameras_no_header_does() -> None:
    """Also for tokens without it: whoever lacks the signature must not name a camera instead."""
    assert "" == trusted_header(source_header="X-Camera", source_claim="camera")
    assert "X-Camera" == trusted_header(source_header="X-Camera", source_claim="")


def test_a_repeated_header_names_nobody() -> None:
    """Also where both say the same."""
    assert (None, SourceFault.HEADER_REPEATED) == choose_source(None, ("cam-3", "cam-3"))


@pytest.mark.parametrize(
    "text", ["", " ", "cam 3", "cam-3\n", "caf\u00e9", "a" * 65, "a,b", "a/b", "=1", "<a>"]
)
def test_other_texts_are_no_names(text: str) -> None:
    """They become labels, words of commands and names in reports."""
    assert (None, SourceFault.HEADER_FORM) == choose_source(None, (text,))


@given(st.none() | st.text(), st.lists(st.text(), max_size=3))
def test_whatever_is_said_a_source_is_a_name(claim: str | None, headers: list[str]) -> None:
    """Or None, and then a fault says why, if anything was said."""
    source, fault = choose_source(claim, headers)
    if source is not None:
        assert re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", source)
        assert fault is None
    else:
        assert (fault is None) == (claim is None and not headers)
