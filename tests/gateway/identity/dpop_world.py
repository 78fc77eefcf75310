"""One request, its token and its good proof, for the tests of DPoP."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.errors import AuthnError, Code, DpopNonceError
from gateway.identity.dpop import DpopVerifier
from gateway.identity.principal import Credentials, Principal
from tests.gateway.identity.dpop_client import Key, jwk_of, make_proof, thumbprint_of

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())
ORIGIN = "https://gateway.example:8443"
PATH = "/v1/models/conveyor/predict"
URL = ORIGIN + PATH
TOKEN = "eyJh.eyJi.c2ln"
KEY = ec.derive_private_key(0x1234_5678_9ABC_DEF0, ec.SECP256R1())
OTHER = ec.derive_private_key(0x0FED_CBA9_8765_4321, ec.SECP256R1())
PRINCIPAL = Principal(
    issuer="https://issuer.example",
    subject="camera-7",
    client_id="conveyor",
    roles=frozenset({"client"}),
    token_id="token-1",
    issued_at=NOW,
    expires_at=NOW + timedelta(seconds=300),
    key_thumbprint=thumbprint_of(jwk_of(KEY)),
)


def bound_to(key: Key) -> Principal:
    """The principal of a token that is bound to this key."""
    return dataclasses.replace(PRINCIPAL, key_thumbprint=thumbprint_of(jwk_of(key)))


def sent(*proofs: str, method: str = "POST", path: str = PATH) -> Credentials:
    """A request with these DPoP headers."""
    return Credentials(
        unverified_authorization=(f"DPoP {TOKEN}",),
        unverified_dpop=proofs,
        method=method,
        path=path,
        address="192.0.2.7",
    )


def proof(verifier: DpopVerifier, key: Key = KEY, **changes: Any) -> str:
    """A good proof but for these changes."""
    nonce = changes.pop("nonce", verifier.next_nonce(NOW))
    return make_proof(key, "POST", URL, TOKEN, nonce, NOW, **changes)


def refusal_of(
    verifier: DpopVerifier,
    credentials: Credentials,
    *,
    token: str = TOKEN,
    now: datetime = NOW,
    principal: Principal = PRINCIPAL,
) -> str:
    """The reason why these credentials are refused."""
    with pytest.raises(AuthnError) as caught:
        verifier.verify(credentials, token, now, principal=principal)
    assert not isinstance(caught.value, DpopNonceError)
    assert Code.AUTHN_INVALID is caught.value.code
    return caught.value.reason
