"""What a verified token says, and that no bent token is ever taken for one."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import AuthnError, SettingsError
from gateway.identity.issue import issue_token, jwks_of, thumbprint
from gateway.identity.key_sources import FixedKeys
from gateway.identity.keysets import load_keyset
from gateway.identity.tokens import (
    Claims,
    TrustedIssuer,
    read_token,
    verify_signature,
    verify_token,
)
from gateway.identity.wire import encode_base64url

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
KEYSET = load_keyset(jwks_of([KEY.public_key()]))
ISSUER = TrustedIssuer(
    issuer="https://issuer.example",
    audience="gatewatch",
    keys=FixedKeys(KEYSET),
    max_lifetime_seconds=3600,
)
TOKEN = issue_token(
    signing_key=KEY,
    issuer="https://issuer.example",
    audience="gatewatch",
    subject="camera-7",
    client_id="conveyor",
    roles=["client", "analyst"],
    lifetime_seconds=300,
    now=NOW,
    token_id="token-1",
)
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "replace", "delete", "cut", "double"]),
        st.integers(0, len(TOKEN)),
        st.sampled_from("ABCZabcz0189-_.=+/ \n\t\0?é\ud800"),
    ),
    min_size=1,
    max_size=4,
)


def mutate(token: str, kind: str, position: int, character: str) -> str:
    """One change of a token's text."""
    head, tail = token[:position], token[position:]
    forms = {
        "insert": head + character + tail,
        "replace": head + character + tail[1:],
        "delete": head + tail[1:],
        "cut": head,
        "double": head + tail[:7] + tail,
    }
    return forms[kind]


def signed(header: bytes, payload: bytes) -> str:
    """A token over any octets by the trusted key."""
    message = f"{encode_base64url(header)}.{encode_base64url(payload)}"
    return f"{message}.{encode_base64url(KEY.sign(message.encode()))}"


def test_the_claims_of_a_good_token() -> None:
    """Every claim that the gateway uses arrives, times in UTC."""
    assert verify_token(read_token(TOKEN), issuer=ISSUER, now=NOW) == Claims(
        issuer="https://issuer.example",
        subject="camera-7",
        client_id="conveyor",
        token_id="token-1",
        roles=frozenset({"client", "analyst"}),
        issued_at=datetime(2030, 1, 1, 12, 0, tzinfo=UTC),
        expires_at=datetime(2030, 1, 1, 12, 5, tzinfo=UTC),
        acr=None,
        amr=frozenset(),
        auth_time=None,
        certificate_thumbprint=None,
        key_thumbprint=None,
    )


@pytest.mark.parametrize(
    ("name", "value", "source"),
    [
        ("camera", "belt-2", "belt-2"),
        (
            "camera",
            "any text: its form is for whoever uses it",
            "any text: its form is for whoever uses it",
        ),
        ("camera", "a\nb", ""),
        ("camera", "", ""),
        ("camera", "a" * 257, ""),
        ("camera", 7, ""),
        ("camera", ["belt-2"], ""),
        ("camera", None, ""),
        ("other", "belt-2", None),
    ],
)
def test_a_claim_may_name_a_camera_and_refuses_nobody(
    name: str, value: object, source: str | None
) -> None:
    """What is no short text is empty, which is nobody's name; an absent one is None."""
    claims = {
        "iss": "https://issuer.example", "aud": "gatewatch", "sub": "s", "client_id": "c",
        "jti": "t", "roles": [], "iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 60,
        name: value,
    }  # fmt: skip
    header = {"alg": "EdDSA", "typ": "at+jwt", "kid": thumbprint(KEY.public_key())}
    token = signed(json.dumps(header).encode(), json.dumps(claims).encode())
    asks = dataclasses.replace(ISSUER, source_claim="camera")
    assert source == verify_token(read_token(token), issuer=asks, now=NOW).source
    # An issuer that is asked for none is believed none.
    assert verify_token(read_token(token), issuer=ISSUER, now=NOW).source is None


def test_an_issuer_can_be_held_to_bound_tokens() -> None:
    """A token that any thief can use is refused; one bound to a key passes, and its key is asked for later."""
    strict = dataclasses.replace(ISSUER, must_be_bound=True)
    with pytest.raises(AuthnError) as caught:
        verify_token(read_token(TOKEN), issuer=strict, now=NOW)
    assert "unbound" == caught.value.reason
    bound = issue_token(
        signing_key=KEY,
        issuer="https://issuer.example",
        audience="gatewatch",
        subject="camera-7",
        client_id="conveyor",
        roles=[],
        lifetime_seconds=300,
        now=NOW,
        token_id="token-2",
        key_thumbprint="A" * 43,
    )
    assert "A" * 43 == verify_token(read_token(bound), issuer=strict, now=NOW).key_thumbprint


def test_a_token_without_roles_has_none() -> None:
    """The claim is optional (RFC 9068 section 2.2.3.1); its absence gives nothing."""
    content = verify_signature(TOKEN, keyset=KEYSET)
    claims = json.loads(content.payload)
    del claims["roles"]
    token = signed(json.dumps(content.header).encode(), json.dumps(claims).encode())
    assert verify_token(read_token(token), issuer=ISSUER, now=NOW).roles == frozenset()


def test_a_token_ends_at_exp_and_skew_to_the_second() -> None:
    """Accepted in the last second of the skew, refused in the next."""
    last = NOW + timedelta(seconds=300 + 59)
    assert verify_token(read_token(TOKEN), issuer=ISSUER, now=last).subject == "camera-7"
    with pytest.raises(AuthnError):
        verify_token(read_token(TOKEN), issuer=ISSUER, now=last + timedelta(seconds=1))


def test_without_skew_a_token_ends_at_exp() -> None:
    """The issuer's setting is what counts."""
    strict = dataclasses.replace(ISSUER, clock_skew_seconds=0)
    with pytest.raises(AuthnError):
        verify_token(read_token(TOKEN), issuer=strict, now=NOW + timedelta(seconds=300))


def test_the_newer_name_of_the_algorithm_verifies() -> None:
    """Ed25519 (RFC 9864) is the same signature as EdDSA, pinned under its own name."""
    jwks = jwks_of([KEY.public_key()]).replace(b'"EdDSA"', b'"Ed25519"')
    header = {"alg": "Ed25519", "kid": thumbprint(KEY.public_key())}
    token = signed(json.dumps(header).encode(), b"payload")
    assert verify_signature(token, keyset=load_keyset(jwks)).payload == b"payload"


@pytest.mark.parametrize(("skew", "lifetime"), [(0, 1), (60, 86_400)])
def test_the_narrowest_and_widest_limits_are_taken(skew: int, lifetime: int) -> None:
    """The bounds of the settings are inclusive."""
    issuer = dataclasses.replace(ISSUER, clock_skew_seconds=skew, max_lifetime_seconds=lifetime)
    assert (issuer.clock_skew_seconds, issuer.max_lifetime_seconds) == (skew, lifetime)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"issuer": ""}, "must not be empty"),
        ({"audience": ""}, "must not be empty"),
        ({"max_lifetime_seconds": 0}, "at least 1 second"),
        ({"clock_skew_seconds": 61}, "0 to 60 seconds"),
        ({"clock_skew_seconds": -1}, "0 to 60 seconds"),
    ],
)
def test_an_issuer_that_leaves_a_check_without_effect_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    """A wrong setting stops the start and names the fix."""
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(ISSUER, **changes)


@given(MUTATIONS)
@settings(max_examples=400, deadline=None)
@example([("replace", len(TOKEN) - 1, "B")])
def test_a_mutated_token_is_never_accepted(changes: list[tuple[str, int, str]]) -> None:
    """Any text but the issued one is refused, and with nothing but AuthnError."""
    token = TOKEN
    for kind, position, character in changes:
        token = mutate(token, kind, position, character)
    if token == TOKEN:
        assert verify_token(read_token(token), issuer=ISSUER, now=NOW).subject == "camera-7"
        return
    with pytest.raises(AuthnError):
        verify_token(read_token(token), issuer=ISSUER, now=NOW)


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_is_refused(text: str) -> None:
    """Text that is no token raises nothing but AuthnError."""
    with pytest.raises(AuthnError):
        verify_token(read_token(text), issuer=ISSUER, now=NOW)


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(deadline=None)
def test_any_octets_in_the_segments_are_refused(header: bytes, payload: bytes) -> None:
    """Well-formed segments of anything raise nothing but AuthnError."""
    with pytest.raises(AuthnError):
        verify_token(read_token(signed(header, payload)), issuer=ISSUER, now=NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.sampled_from(["iss", "aud", "exp", "iat", "nbf", "sub", "client_id", "jti", "roles"]), JSON
)
@settings(max_examples=300, deadline=None)
def test_any_value_of_a_claim_is_read_or_refused(name: str, value: object) -> None:
    """A signed token with any JSON in one claim gives typed claims or AuthnError."""
    content = verify_signature(TOKEN, keyset=KEYSET)
    claims = {**json.loads(content.payload), name: value}
    token = signed(json.dumps(content.header).encode(), json.dumps(claims).encode())
    try:
        verified = verify_token(read_token(token), issuer=ISSUER, now=NOW)
    except AuthnError:
        return
    texts = [verified.subject, verified.client_id, verified.token_id, *verified.roles]
    assert all(text.isprintable() and 0 < len(text) <= 256 for text in texts)
    assert verified.issuer == "https://issuer.example"
