"""From header values to a principal, or to the right error."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AuthnError, Code
from gateway.identity.authenticate import Authenticator
from gateway.identity.cache import TokenCache
from gateway.identity.issue import issue_token, jwks_of
from gateway.identity.keysets import load_keyset
from gateway.identity.principal import Principal
from gateway.identity.refusals import Refusal
from gateway.identity.tokens import TrustedIssuer

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
ISSUER = TrustedIssuer(
    issuer="https://issuer.example",
    audience="gatewatch",
    keyset=load_keyset(jwks_of([KEY.public_key()])),
    max_lifetime_seconds=3600,
)


def token(signing_key: Ed25519PrivateKey = KEY) -> str:
    """An access token of five minutes."""
    return issue_token(
        signing_key=signing_key,
        issuer="https://issuer.example",
        audience="gatewatch",
        subject="camera-7",
        client_id="conveyor",
        roles=["client"],
        lifetime_seconds=300,
        now=NOW,
        token_id="token-1",
    )


@pytest.fixture
def cache() -> TokenCache:
    """An empty cache."""
    return TokenCache(max_entries=10)


@pytest.fixture
def authenticator(cache: TokenCache) -> Authenticator:
    """An authenticator that trusts KEY."""
    return Authenticator(issuer=ISSUER, cache=cache)


def test_a_good_token_gives_its_principal(authenticator: Authenticator) -> None:
    """Everything the pipeline needs is in the principal."""
    assert authenticator.authenticate([f"Bearer {token()}"], NOW) == Principal(
        issuer="https://issuer.example",
        subject="camera-7",
        client_id="conveyor",
        roles=frozenset({"client"}),
        token_id="token-1",
        expires_at=datetime(2030, 1, 1, 12, 5, tzinfo=UTC),
    )


def test_the_scheme_ignores_case(authenticator: Authenticator) -> None:
    """RFC 9110 section 11.1."""
    assert authenticator.authenticate([f"bEARER {token()}"], NOW).subject == "camera-7"


def test_no_header_is_missing_credentials(authenticator: Authenticator) -> None:
    """The caller learns how to send a token."""
    with pytest.raises(AuthnError, match="Authorization: Bearer") as caught:
        authenticator.authenticate([], NOW)
    assert caught.value.code is Code.AUTHN_MISSING


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([f"Bearer {token()}"] * 2, Refusal.CREDENTIALS_SEVERAL),
        ([f"Bearer {token()}", ""], Refusal.CREDENTIALS_SEVERAL),
        ([""], Refusal.CREDENTIALS_FORM),
        (["Bearer"], Refusal.CREDENTIALS_FORM),
        ([token()], Refusal.CREDENTIALS_FORM),
        (["Basic dXNlcjpwYXNz"], Refusal.CREDENTIALS_FORM),
        ([f"DPoP {token()}"], Refusal.CREDENTIALS_FORM),
        ([f" Bearer {token()}"], Refusal.CREDENTIALS_FORM),
        ([f"Bearer\t{token()}"], Refusal.CREDENTIALS_FORM),
        ([f"Bearer\u00a0{token()}"], Refusal.CREDENTIALS_FORM),
        ([f"Bearer {token()}\u00e9"], Refusal.CREDENTIALS_FORM),
        ([f"Bearer {token()}\ud800"], Refusal.CREDENTIALS_FORM),
        ([f"Bearer  {token()}"], Refusal.TOKEN_FORM),
        ([f"Bearer {token()} "], Refusal.TOKEN_FORM),
        ([f"Bearer {token()}, Bearer {token()}"], Refusal.TOKEN_FORM),
        (["Bearer "], Refusal.TOKEN_FORM),
        (["Bearer " + "A" * 8192], Refusal.TOKEN_FORM),
        (["Bearer " + "A" * 8193], Refusal.TOKEN_SIZE),
        (["Bearer " + "\u00e9" * 10_000_000], Refusal.TOKEN_SIZE),
        ([f"Bearer {token(OTHER)}"], Refusal.KEY_UNKNOWN),
    ],
)
def test_other_credentials_are_refused(
    authenticator: Authenticator, values: list[str], expected: Refusal
) -> None:
    """One constant error with the reason for the audit record."""
    with pytest.raises(AuthnError) as caught:
        authenticator.authenticate(values, NOW)
    assert caught.value.code is Code.AUTHN_INVALID
    assert caught.value.reason == expected


def test_a_second_call_is_answered_from_the_cache(
    authenticator: Authenticator, cache: TokenCache
) -> None:
    """The cached principal is the very object."""
    first = authenticator.authenticate([f"Bearer {token()}"], NOW)
    assert authenticator.authenticate([f"Bearer {token()}"], NOW) is first
    assert len(cache) == 1


def test_a_cached_token_still_ends(authenticator: Authenticator) -> None:
    """After exp and skew the cache does not keep it alive."""
    authenticator.authenticate([f"Bearer {token()}"], NOW)
    with pytest.raises(AuthnError) as caught:
        authenticator.authenticate([f"Bearer {token()}"], NOW + timedelta(seconds=360))
    assert caught.value.reason == Refusal.EXPIRED


def test_a_refused_token_is_not_remembered(authenticator: Authenticator, cache: TokenCache) -> None:
    """An attacker cannot push good entries out with bad tokens."""
    with pytest.raises(AuthnError):
        authenticator.authenticate([f"Bearer {token(OTHER)}"], NOW)
    assert len(cache) == 0


@given(st.lists(st.text(max_size=40) | st.text(max_size=40).map(lambda t: f"Bearer {t}")))
def test_any_values_are_refused(values: list[str]) -> None:
    """Whatever arrives raises nothing but AuthnError."""
    with pytest.raises(AuthnError):
        Authenticator(issuer=ISSUER, cache=TokenCache(max_entries=1)).authenticate(values, NOW)
