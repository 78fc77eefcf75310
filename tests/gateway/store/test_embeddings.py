"""Embeddings as bytes: what goes in comes back, and nothing else is taken for one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from gateway.store.embeddings import MAX_EMBEDDING_NUMBERS, pack_embedding, unpack_embedding

ROWS = hnp.arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(ROWS)
def test_an_embedding_comes_back_within_half_a_scale(row: NDArray[np.float32]) -> None:
    """Every finite row, from the smallest numbers to the largest."""
    packed = pack_embedding(row)
    found = unpack_embedding(packed)
    assert len(row) + 4 == len(packed)
    assert (np.dtype(np.float32), row.shape) == (found.dtype, found.shape)
    largest = float(np.abs(row.astype(np.float64)).max())
    error = float(np.abs(found.astype(np.float64) - row.astype(np.float64)).max())
    # Near the smallest number that float32 knows, a scale of 0 or 1 of them is all there is.
    assert error <= largest / 253 + 127 * 2**-149


@given(ROWS)
def test_what_was_unpacked_packs_to_the_same_numbers(row: NDArray[np.float32]) -> None:
    """Storing what was read loses nothing more."""
    once = unpack_embedding(pack_embedding(row))
    twice = unpack_embedding(pack_embedding(once))
    np.testing.assert_allclose(twice, once, rtol=1e-6, atol=2**-140)


@given(st.binary(max_size=64))
def test_any_bytes_are_an_embedding_or_refused(unverified: bytes) -> None:
    """Nothing but ValueError leaves the parser, and nothing but finite numbers."""
    try:
        found = unpack_embedding(unverified)
    except ValueError:
        return
    assert np.isfinite(found).all()
    assert len(unverified) - 4 == len(found)


def test_the_form_is_a_scale_and_bytes() -> None:
    """Other programs may read it: float32 little-endian, then int8."""
    assert b"\x00\x00\x80\x3f\x7f\x81\x00\x01" == pack_embedding(
        np.array([127, -127, 0.4, 0.6], np.float32)
    )


def test_a_row_of_zeros_stays_one() -> None:
    """A dead network's answer is data, too."""
    packed = pack_embedding(np.zeros(3, np.float32))
    assert b"\x00" * 7 == packed
    assert [0.0, 0.0, 0.0] == unpack_embedding(packed).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    """They would poison every distance."""
    with pytest.raises(ValueError, match="finite"):
        pack_embedding(np.array([1, bad], np.float32))


@pytest.mark.parametrize("shape", [(0,), (MAX_EMBEDDING_NUMBERS + 1,), (1, 4), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """Only a row, and no longer than a row of the table should be."""
    with pytest.raises(ValueError, match="row of 1 to 4096"):
        pack_embedding(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x00\x00\x80\x3f",
        b"\x00\x00\x80\x3f" + b"\x00" * (MAX_EMBEDDING_NUMBERS + 1),
        b"\x00\x00\x80\xbf\x01",
        b"\x00\x00\x00\x80\x01",
        b"\x00\x00\xc0\x7f\x01",
        b"\x00\x00\x80\x7f\x01",
        b"\xff\xff\x7f\x7f\x01",
        b"\x00\x00\x80\x3f\x80",
    ],
    ids=["empty", "no_numbers", "long", "negative", "minus_zero", "nan", "inf", "large", "-128"],
)
def test_bytes_that_were_never_packed_are_refused(broken: bytes) -> None:
    """A broken row is found where it is read, and not in a sum."""
    with pytest.raises(ValueError, match="embedding"):
        unpack_embedding(broken)
