"""Whatever is done to a good proof, it passes no more, and nothing but AuthnError is raised."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import AuthnError
from gateway.identity.dpop import DpopVerifier
from tests.gateway.identity.dpop_client import b64, jwk_of
from tests.gateway.identity.dpop_world import (
    KEY,
    NOW,
    ORIGIN,
    PRINCIPAL,
    TOKEN,
    proof,
    sent,
)

FUZZED = DpopVerifier(public_url=ORIGIN, random=lambda count: b"\x05" * count)
GOOD = proof(FUZZED)


def never_passes(text: str) -> None:
    """Refused, by nothing but AuthnError."""
    with pytest.raises(AuthnError):
        FUZZED.verify(sent(text), TOKEN, NOW, principal=PRINCIPAL)


@given(st.integers(0, len(GOOD) - 1), st.characters())
@settings(max_examples=400)
def test_a_proof_with_one_other_character_never_passes(place: int, character: str) -> None:
    """Each character counts."""
    text = GOOD[:place] + character + GOOD[place + 1 :]
    if text != GOOD:
        never_passes(text)


@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.text(max_size=4))
def test_a_proof_with_a_piece_cut_out_never_passes(start: int, end: int, text: str) -> None:
    """Nor with another in its place."""
    changed = GOOD[: min(start, end)] + text + GOOD[max(start, end) :]
    if changed != GOOD:
        never_passes(changed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)
HEADER_NAMES = st.sampled_from(["typ", "alg", "jwk", "crit", "b64", "kid"])
JWK_NAMES = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "alg", "use", "key_ops"])
CLAIM_NAMES = st.sampled_from(["jti", "htm", "htu", "iat", "ath", "nonce", "exp", "nbf"])


@given(
    st.dictionaries(HEADER_NAMES, JSON),
    st.dictionaries(JWK_NAMES, JSON),
    st.dictionaries(CLAIM_NAMES, JSON),
)
@settings(max_examples=200)
@example({}, {}, {"iat": 10**400})
def test_any_signed_content_passes_or_is_refused(
    header: dict[str, Any], jwk: dict[str, Any], claims: dict[str, Any]
) -> None:
    """Whatever the holder of the key signs, nothing but AuthnError is raised, and what binds the proof stays."""
    header = {"jwk": {**jwk_of(KEY), **jwk}, **header}
    text = proof(FUZZED, header=header, **claims)
    try:
        FUZZED.verify(sent(text), TOKEN, NOW, principal=PRINCIPAL)
    except AuthnError:
        return
    assert not {"htm", "htu", "ath", "nonce"} & claims.keys()
    assert not {"typ", "alg", "crit", "b64"} & header.keys()


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", fullmatch=True))
def test_any_text_is_refused(text: str) -> None:
    """Whatever stands in the header."""
    never_passes(text)


@given(JSON, st.binary(max_size=40))
def test_any_signature_of_any_header_is_refused(header: object, signature: bytes) -> None:
    """Strict JSON and canonical base64url, so that the deeper checks are reached."""
    segments = (json.dumps(header).encode(), b"{}", signature or b"\0")
    never_passes(".".join(b64(segment) for segment in segments))
