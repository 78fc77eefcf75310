"""Nonces are fresh for a slot or two, and only from the process that hands them out."""

import base64
import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.dpop_nonces import DpopNonces

SLOT_START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)  # A multiple of 300 seconds.


@pytest.fixture
def nonces() -> DpopNonces:
    """The nonces of one process."""
    return DpopNonces(random=lambda count: b"\x01" * count)


def test_a_nonce_is_base64url_of_256_bits(nonces: DpopNonces) -> None:
    """It stands in a header as it is (RFC 9449 section 8.1)."""
    assert 43 == len(nonces.current(SLOT_START))


def test_a_nonce_is_the_same_for_a_slot(nonces: DpopNonces) -> None:
    """Nothing is stored: the slot makes the nonce."""
    first = nonces.current(SLOT_START)
    assert first == nonces.current(SLOT_START + timedelta(seconds=299))
    assert first != nonces.current(SLOT_START + timedelta(seconds=300))
    assert first != nonces.current(SLOT_START - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-1, False), (0, True), (299, True), (599, True), (600, False)]
)
def test_a_nonce_is_fresh_in_its_slot_and_the_next(
    nonces: DpopNonces, seconds: int, expected: bool
) -> None:
    """Not before it was handed out, and not for ever."""
    nonce = nonces.current(SLOT_START)
    assert expected is nonces.is_fresh(nonce, SLOT_START + timedelta(seconds=seconds))


def test_the_key_is_drawn_once_and_whole() -> None:
    """A shorter key could be guessed; another one at each call would refuse everybody."""
    drawn: list[int] = []

    def random(count: int) -> bytes:
        drawn.append(count)
        return secrets.token_bytes(count)

    nonces = DpopNonces(random=random)
    assert nonces.is_fresh(nonces.current(SLOT_START), SLOT_START)
    assert [32] == drawn


def test_a_nonce_of_another_process_is_not_fresh(nonces: DpopNonces) -> None:
    """Its replays would be noted there and not here."""
    other = DpopNonces(random=lambda count: b"\x02" * count)
    assert not nonces.is_fresh(other.current(SLOT_START), SLOT_START)


def test_a_nonce_is_what_its_definition_says(nonces: DpopNonces) -> None:
    """HMAC-SHA256 over the slot as eight octets, by an implementation of its own."""
    slot = (1893499200 // 300).to_bytes(8, "big")
    code = hmac.new(b"\x01" * 32, slot, hashlib.sha256).digest()
    assert base64.urlsafe_b64encode(code).decode().rstrip("=") == nonces.current(SLOT_START)


@given(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()) | st.binary())
def test_any_other_value_is_not_fresh(value: object) -> None:
    """Whatever stands in the claim raises nothing."""
    assert not DpopNonces(random=secrets.token_bytes).is_fresh(value, SLOT_START)


@given(
    st.text(min_size=43, max_size=43)
    | st.integers(0, 42).map(lambda n: "A" * n + "\ud800" * (43 - n))
)
def test_any_text_of_the_right_length_is_not_fresh(text: str) -> None:
    """Not even one that cannot be written as UTF-8."""
    assert not DpopNonces(random=secrets.token_bytes).is_fresh(text, SLOT_START)
