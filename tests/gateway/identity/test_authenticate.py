"""From what a request shows of its caller to a principal, or to the right error."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AuthnError, Code, DpopNonceError, IdentityUnavailableError
from gateway.identity.authenticate import Authenticator
from gateway.identity.cache import ProvenTokens, TokenCache
from gateway.identity.deny_list import DenyList
from gateway.identity.dpop import DpopVerifier
from gateway.identity.issue import issue_token, jwks_of
from gateway.identity.key_sources import FixedKeys
from gateway.identity.keysets import KeySet, load_keyset
from gateway.identity.principal import Credentials, Principal
from gateway.identity.refusals import Refusal, refused
from gateway.identity.tokens import TrustedIssuer
from tests.gateway.identity.dpop_client import jwk_of, make_proof, thumbprint_of

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
PROOF_KEY = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
URL = "https://gateway.example/v1/model"


def keyset_of(*keys: Ed25519PrivateKey) -> KeySet:
    """The public halves."""
    return load_keyset(jwks_of([key.public_key() for key in keys]))


def trusted(issuer: str, keys: Any) -> TrustedIssuer:
    """An issuer whose tokens are taken."""
    return TrustedIssuer(issuer, "gatewatch", keys, 3600)


class NobodyDenied:
    """A deny list that is read, and what it says."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.asked: list[str] = []

    def check(self, principal: Principal, now: datetime) -> None:
        """Note who was asked for."""
        assert now >= NOW
        self.asked.append(principal.token_id)
        if self.fails is not None:
            raise self.fails


class LateKeys:
    """Keys of an issuer that has just rotated: the new one is known after a refresh."""

    def __init__(self) -> None:
        self.keyset = keyset_of(OTHER)
        self.refreshed = 0
        self.is_stale = False

    def current(self) -> KeySet:
        """What is known."""
        if self.is_stale:
            raise IdentityUnavailableError(reason="keys_stale")
        return self.keyset

    async def refresh_for_unknown_key(self) -> None:
        """Fetch."""
        self.refreshed += 1
        self.keyset = keyset_of(OTHER, KEY)

    async def run(self) -> None:
        """Nothing."""


@pytest.fixture
def cache() -> TokenCache:
    """An empty cache."""
    return TokenCache(max_entries=10)


@pytest.fixture
def deny_list() -> NobodyDenied:
    """A deny list without entries."""
    return NobodyDenied()


def authenticator_of(
    cache: TokenCache, deny_list: NobodyDenied, *issuers: TrustedIssuer
) -> Authenticator:
    """An authenticator that trusts these, or the usual one."""
    usual = trusted("https://issuer.example", FixedKeys(keyset_of(KEY)))
    return Authenticator(
        issuers={issuer.issuer: issuer for issuer in issuers or (usual,)},
        cache=cache,
        proven=ProvenTokens(max_entries=10),
        deny_list=cast("DenyList", deny_list),
        dpop=DpopVerifier(public_url="https://gateway.example", random=lambda size: b"\5" * size),
    )


@pytest.fixture
def authenticator(cache: TokenCache, deny_list: NobodyDenied) -> Authenticator:
    """An authenticator that trusts KEY."""
    return authenticator_of(cache, deny_list)


def token(signing_key: Ed25519PrivateKey = KEY, **changes: Any) -> str:
    """An access token of five minutes."""
    facts: dict[str, Any] = {
        "signing_key": signing_key,
        "issuer": "https://issuer.example",
        "audience": "gatewatch",
        "subject": "camera-7",
        "client_id": "conveyor",
        "roles": ["client"],
        "lifetime_seconds": 300,
        "now": NOW,
        "token_id": "token-1",
    }
    return issue_token(**{**facts, **changes})


def shown(*authorization: str, **changes: Any) -> Credentials:
    """A request with these values of Authorization."""
    credentials = Credentials(authorization, (), "GET", "/v1/model", "192.0.2.7")
    return replace(credentials, **changes)


def run(authenticator: Authenticator, credentials: Credentials, now: datetime = NOW) -> Principal:
    """Who calls."""
    principal = asyncio.run(authenticator.identify(credentials, now))
    authenticator.prove(credentials, principal, now)
    return principal


def reason(authenticator: Authenticator, credentials: Credentials, now: datetime = NOW) -> str:
    """Why the caller is refused."""
    with pytest.raises(AuthnError) as caught:
        run(authenticator, credentials, now)
    assert caught.value.code is Code.AUTHN_INVALID
    return caught.value.reason


def test_a_good_token_gives_its_principal(authenticator: Authenticator) -> None:
    """Everything the pipeline needs is in the principal."""
    signed_in = NOW - timedelta(minutes=1)
    text = token(acr="gold", amr=["pwd", "mfa"], auth_time=signed_in)
    assert run(authenticator, shown(f"Bearer {text}")) == Principal(
        issuer="https://issuer.example",
        subject="camera-7",
        client_id="conveyor",
        roles=frozenset({"client"}),
        token_id="token-1",
        issued_at=datetime(2030, 1, 1, 12, 0, tzinfo=UTC),
        expires_at=datetime(2030, 1, 1, 12, 5, tzinfo=UTC),
        acr="gold",
        amr=frozenset({"pwd", "mfa"}),
        auth_time=datetime(2030, 1, 1, 11, 59, tzinfo=UTC),
    )


def test_the_scheme_ignores_case(authenticator: Authenticator) -> None:
    """RFC 9110 section 11.1."""
    assert "camera-7" == run(authenticator, shown(f"bEARER {token()}")).subject


def test_no_header_is_missing_credentials(authenticator: Authenticator) -> None:
    """The caller learns how to send a token."""
    with pytest.raises(AuthnError, match="Authorization: Bearer") as caught:
        run(authenticator, shown())
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
        ([f"DPoP {token()}"], Refusal.DPOP_MISSING),
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
        ([f"Bearer {token(issuer='https://evil.example')}"], Refusal.ISSUER),
    ],
)
def test_other_credentials_are_refused(
    authenticator: Authenticator, values: Sequence[str], expected: Refusal
) -> None:
    """One constant error with the reason for the audit record."""
    assert expected == reason(authenticator, shown(*values))


def test_a_second_call_is_answered_from_the_cache(
    authenticator: Authenticator, cache: TokenCache
) -> None:
    """The cached principal is the very object."""
    first = run(authenticator, shown(f"Bearer {token()}"))
    assert run(authenticator, shown(f"Bearer {token()}")) is first
    assert 1 == len(cache)


def test_only_a_token_that_was_good_is_known(authenticator: Authenticator) -> None:
    """Who guesses is not spared what guessing costs."""
    assert not authenticator.knows(shown(f"Bearer {token()}"), NOW)
    run(authenticator, shown(f"Bearer {token()}"))
    assert authenticator.knows(shown(f"Bearer {token()}"), NOW)
    assert not authenticator.knows(shown("Bearer guess"), NOW)
    assert not authenticator.knows(shown(), NOW)


def test_a_token_that_is_refused_is_known_no_longer(
    authenticator: Authenticator, deny_list: NobodyDenied
) -> None:
    """Revoked, or in the hands of a thief without its key: whoever goes on sending it guesses."""
    good = shown(f"Bearer {token()}")
    run(authenticator, good)
    deny_list.fails = refused(Refusal.DENIED)
    reason(authenticator, good)
    assert not authenticator.knows(good, NOW)
    deny_list.fails = None
    bound = f"Bearer {token(certificate_thumbprint='A' * 43, token_id='token-2')}"
    run(authenticator, shown(bound, certificate_thumbprint="A" * 43))
    assert authenticator.knows(shown(bound), NOW)
    reason(authenticator, shown(bound))
    assert not authenticator.knows(shown(bound), NOW)


def test_new_keys_and_denials_make_nobody_unknown(
    authenticator: Authenticator, cache: TokenCache
) -> None:
    """They empty the cache; good neighbours of those who guess still must not notice."""
    run(authenticator, shown(f"Bearer {token()}"))
    cache.clear()
    assert authenticator.knows(shown(f"Bearer {token()}"), NOW)


def test_what_happens_while_a_call_is_read_counts(
    authenticator: Authenticator, deny_list: NobodyDenied
) -> None:
    """A token that ended or was denied meanwhile is refused before anything is done for it."""
    principal = run(authenticator, shown(f"Bearer {token()}"))
    authenticator.confirm(principal, NOW + timedelta(seconds=359))
    with pytest.raises(AuthnError) as caught:
        authenticator.confirm(principal, NOW + timedelta(seconds=360))
    assert Refusal.EXPIRED == caught.value.reason
    deny_list.fails = refused(Refusal.DENIED)
    with pytest.raises(AuthnError) as caught:
        authenticator.confirm(principal, NOW)
    assert Refusal.DENIED == caught.value.reason


def test_a_cached_token_still_ends(authenticator: Authenticator) -> None:
    """After exp and skew the cache does not keep it alive."""
    run(authenticator, shown(f"Bearer {token()}"))
    ended = NOW + timedelta(seconds=360)
    assert Refusal.EXPIRED == reason(authenticator, shown(f"Bearer {token()}"), ended)


def test_a_refused_token_is_not_remembered(authenticator: Authenticator, cache: TokenCache) -> None:
    """An attacker cannot push good entries out with bad tokens."""
    reason(authenticator, shown(f"Bearer {token(OTHER)}"))
    assert 0 == len(cache)


def test_each_issuer_has_its_own_keys(cache: TokenCache, deny_list: NobodyDenied) -> None:
    """One issuer's key signs nothing for another, whatever `iss` says."""
    authenticator = authenticator_of(
        cache,
        deny_list,
        trusted("https://one.example", FixedKeys(keyset_of(KEY))),
        trusted("https://two.example", FixedKeys(keyset_of(OTHER))),
    )
    one = token(KEY, issuer="https://one.example")
    two = token(OTHER, issuer="https://two.example")
    assert "https://one.example" == run(authenticator, shown(f"Bearer {one}")).issuer
    assert "https://two.example" == run(authenticator, shown(f"Bearer {two}")).issuer
    crossed = token(KEY, issuer="https://two.example")
    assert Refusal.KEY_UNKNOWN == reason(authenticator, shown(f"Bearer {crossed}"))


def test_an_unknown_key_has_the_keys_fetched(cache: TokenCache, deny_list: NobodyDenied) -> None:
    """The first token by a new key passes; known keys cause no fetch."""
    keys = LateKeys()
    authenticator = authenticator_of(cache, deny_list, trusted("https://issuer.example", keys))
    run(authenticator, shown(f"Bearer {token()}"))
    assert 1 == keys.refreshed
    run(authenticator, shown(f"Bearer {token(token_id='token-2')}"))
    assert 1 == keys.refreshed


def test_a_remembered_token_ends_with_its_keys(cache: TokenCache, deny_list: NobodyDenied) -> None:
    """An issuer that could not be asked for too long may have withdrawn them."""
    keys = LateKeys()
    authenticator = authenticator_of(cache, deny_list, trusted("https://issuer.example", keys))
    run(authenticator, shown(f"Bearer {token()}"))
    keys.is_stale = True
    with pytest.raises(IdentityUnavailableError):
        run(authenticator, shown(f"Bearer {token()}"))


def test_a_denied_token_is_refused_although_it_is_remembered(
    authenticator: Authenticator, deny_list: NobodyDenied
) -> None:
    """The deny list is asked at every call."""
    run(authenticator, shown(f"Bearer {token()}"))
    deny_list.fails = refused(Refusal.DENIED)
    assert Refusal.DENIED == reason(authenticator, shown(f"Bearer {token()}"))
    assert ["token-1", "token-1"] == deny_list.asked


def test_a_deny_list_that_is_not_known_lets_nobody_in(
    authenticator: Authenticator, deny_list: NobodyDenied
) -> None:
    """Fail closed."""
    deny_list.fails = IdentityUnavailableError(reason="deny_list_stale")
    with pytest.raises(IdentityUnavailableError):
        run(authenticator, shown(f"Bearer {token()}"))


def test_a_bound_token_wants_its_certificate_at_every_call(authenticator: Authenticator) -> None:
    """That it was shown once proves nothing of the next caller."""
    bound = f"Bearer {token(certificate_thumbprint='A' * 43)}"
    assert "camera-7" == run(authenticator, shown(bound, certificate_thumbprint="A" * 43)).subject
    assert Refusal.CERTIFICATE == reason(authenticator, shown(bound))
    other = shown(bound, certificate_thumbprint="B" * 42 + "A")
    assert Refusal.CERTIFICATE == reason(authenticator, other)


def proved(authenticator: Authenticator, **changes: Any) -> Credentials:
    """A call with a token bound to PROOF_KEY and a proof that knows the nonce."""
    bound = token(key_thumbprint=thumbprint_of(jwk_of(PROOF_KEY)))
    nonce = authenticator.next_nonce(shown(unverified_dpop=("proof",)), NOW)
    key = changes.pop("key", PROOF_KEY)
    proof = make_proof(key, "GET", URL, bound, changes.pop("nonce", nonce), NOW)
    return shown(f"DPoP {bound}", unverified_dpop=(proof,), **changes)


def test_a_proof_opens_for_its_token(authenticator: Authenticator) -> None:
    """RFC 9449 section 7.1."""
    assert "camera-7" == run(authenticator, proved(authenticator)).subject


def test_a_proof_without_the_nonce_is_told_it(authenticator: Authenticator) -> None:
    """Remembered or not."""
    run(authenticator, proved(authenticator))
    with pytest.raises(DpopNonceError):
        run(authenticator, proved(authenticator, nonce=None))


def test_a_remembered_token_still_wants_its_proof(authenticator: Authenticator) -> None:
    """The cache holds whom a token names, not that its sender has the key."""
    run(authenticator, proved(authenticator))
    assert Refusal.DPOP_BINDING == reason(authenticator, proved(authenticator, key=OTHER))
    without = replace(proved(authenticator), unverified_dpop=())
    assert Refusal.DPOP_MISSING == reason(authenticator, without)
    scheme, _, text = without.unverified_authorization[0].partition(" ")
    assert "DPoP" == scheme
    assert Refusal.DPOP_MISSING == reason(authenticator, shown(f"Bearer {text}"))


def test_a_proof_for_an_unbound_token_proves_nothing(authenticator: Authenticator) -> None:
    """Whoever stole it could make one by a key of his own, RFC 9449 section 7.1."""
    proof = make_proof(OTHER, "GET", URL, token(), None, NOW)
    sent = shown(f"DPoP {token()}", unverified_dpop=(proof,))
    assert Refusal.DPOP_UNBOUND == reason(authenticator, sent)


def test_only_who_sends_proofs_is_given_nonces(authenticator: Authenticator) -> None:
    """Others have no use for them."""
    assert authenticator.next_nonce(shown(), NOW) is None
    assert authenticator.next_nonce(shown(unverified_dpop=("proof",)), NOW)


@given(st.lists(st.text(max_size=40) | st.text(max_size=40).map(lambda t: f"Bearer {t}")))
def test_any_values_are_refused(values: list[str]) -> None:
    """Whatever arrives raises nothing but AuthnError."""
    authenticator = authenticator_of(TokenCache(max_entries=1), NobodyDenied())
    with pytest.raises(AuthnError):
        run(authenticator, shown(*values))
