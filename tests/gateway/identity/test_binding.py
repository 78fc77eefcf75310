"""A bound token is bound: no form of `cnf` and no other certificate frees it."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AuthnError, Code
from gateway.identity.binding import check_certificate, is_same_thumbprint, parse_confirmation
from gateway.identity.principal import Principal
from gateway.identity.refusals import Refusal
from gateway.identity.wire import encode_base64url

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
ONE = encode_base64url(b"\x01" * 32)
TWO = encode_base64url(b"\x02" * 32)
UNBOUND = Principal(
    issuer="https://issuer.example",
    subject="camera-7",
    client_id="conveyor",
    roles=frozenset({"client"}),
    token_id="token-1",
    issued_at=NOW,
    expires_at=NOW + timedelta(seconds=300),
)
BOUND = dataclasses.replace(UNBOUND, certificate_thumbprint=ONE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"x5t#S256": ONE}, (ONE, None)),
        ({"jkt": TWO}, (None, TWO)),
        ({"x5t#S256": ONE, "jkt": TWO}, (ONE, TWO)),
        ({"jkt": TWO, "kid": "k"}, (None, TWO)),
    ],
)
def test_a_known_binding_is_read(
    value: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    """Certificate first, key second; what is not understood beside it is left alone (RFC 7800 section 3.1)."""
    assert expected == parse_confirmation(value)


def test_the_published_examples_are_read() -> None:
    """RFC 8705 section 3.1 and RFC 9449 section 6.1."""
    certificate = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"
    key = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    assert (None, key) == parse_confirmation({"jkt": key})
    # The RFC's example is no canonical base64url: its last character has bits that belong to no byte.
    with pytest.raises(AuthnError):
        parse_confirmation({"x5t#S256": certificate})
    assert (certificate[:-1] + "0", None) == parse_confirmation(
        {"x5t#S256": certificate[:-1] + "0"}
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        ONE,
        [],
        [{"jkt": ONE}],
        {},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": ONE}},
        {"jku": "https://keys.example", "kid": "k"},
        {"kid": "k"},
        {"x5t": "AAAA"},
        {"x5t#s256": ONE},
        {"JKT": ONE},
        {"jwe": "a.b.c.d.e"},
        {"jkt": None},
        {"jkt": ""},
        {"jkt": 5},
        {"jkt": [ONE]},
        {"jkt": ONE[:-1]},
        {"jkt": ONE + "A"},
        {"jkt": ONE + "="},
        {"jkt": ONE[:-1] + "\n"},
        {"jkt": "+" + ONE[1:]},
        {"jkt": ONE[:-1] + "F"},
        {"x5t#S256": ONE[:-1] + "F"},
        {"x5t#S256": None, "jkt": ONE},
        {"x5t#S256": ONE, "jkt": None},
    ],
)
def test_any_other_confirmation_is_refused(value: object) -> None:
    """Left out of account, it would make the token good for whoever stole it."""
    with pytest.raises(AuthnError) as caught:
        parse_confirmation(value)
    assert Refusal.CONFIRMATION == caught.value.reason
    assert Code.AUTHN_INVALID is caught.value.code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["jkt", "x5t#S256", "jwk", "kid"]), inner)
    ),
)


@given(JSON)
def test_any_value_binds_or_is_refused(value: object) -> None:
    """Nothing but AuthnError, and never neither of the two."""
    try:
        bound = parse_confirmation(value)
    except AuthnError:
        return
    assert (None, None) != bound


@given(st.binary(min_size=32, max_size=32))
def test_every_thumbprint_is_taken(thumbprint: bytes) -> None:
    """Any 32 bytes may be a hash."""
    text = encode_base64url(thumbprint)
    assert (text, None) == parse_confirmation({"x5t#S256": text})


def test_the_bound_certificate_passes() -> None:
    """Token and connection agree."""
    check_certificate(BOUND, ONE)


@pytest.mark.parametrize("shown", [None, ONE, TWO])
def test_an_unbound_token_passes_with_any_certificate(shown: str | None) -> None:
    """A certificate that TLS asked for says nothing of tokens that are not bound to one."""
    check_certificate(UNBOUND, shown)


@pytest.mark.parametrize("shown", [None, TWO, "", ONE[:-1], ONE + "="])
def test_a_bound_token_without_its_certificate_is_refused(shown: str | None) -> None:
    """The thief of a token has not the key of the certificate (RFC 8705 section 3)."""
    with pytest.raises(AuthnError) as caught:
        check_certificate(BOUND, shown)
    assert Refusal.CERTIFICATE == caught.value.reason


def test_thumbprints_are_the_same_or_not() -> None:
    """None is never the same."""
    assert is_same_thumbprint(ONE, ONE)
    assert not is_same_thumbprint(ONE, TWO)
    assert not is_same_thumbprint(ONE, None)
