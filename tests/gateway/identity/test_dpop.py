"""Proofs of possession: a good one passes once, for its request, its token and its key; nothing else passes."""

import dataclasses
import functools
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import AuthnError
from gateway.identity.dpop import DpopVerifier, check_binding
from gateway.identity.refusals import Refusal
from tests.gateway.identity.dpop_client import (
    DROP,
    Key,
    b64,
    jwk_of,
    thumbprint_of,
)
from tests.gateway.identity.dpop_world import (
    KEY,
    NOW,
    ORIGIN,
    OTHER,
    PRINCIPAL,
    TOKEN,
    bound_to,
    proof,
    refusal_of,
    sent,
)


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One RSA key, made when first needed."""
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def verifier() -> DpopVerifier:
    """The verifier of one process."""
    return DpopVerifier(public_url=ORIGIN, random=secrets.token_bytes)


@pytest.mark.parametrize(
    "algorithm",
    ["ES256", "ES384", "ES512", "EdDSA", "Ed25519", "RS256", "RS384", "PS256", "PS384", "PS512"],
)
def test_a_good_proof_gives_the_thumbprint_of_its_key(
    verifier: DpopVerifier, algorithm: str
) -> None:
    """By every algorithm that a client may have."""
    keys: Mapping[str, Key] = {
        "ES256": KEY,
        "ES384": ec.derive_private_key(78, ec.SECP384R1()),
        "ES512": ec.derive_private_key(79, ec.SECP521R1()),
        "EdDSA": Ed25519PrivateKey.from_private_bytes(b"\x07" * 32),
        "Ed25519": Ed25519PrivateKey.from_private_bytes(b"\x07" * 32),
    }
    key = keys.get(algorithm) or rsa_key()
    credentials = sent(proof(verifier, key, algorithm=algorithm))
    expected = thumbprint_of(jwk_of(key))
    assert expected == verifier.verify(credentials, TOKEN, NOW, principal=bound_to(key))


# RFC 9449 section 7.1, figures 12 to 14, and section 6.1 for the thumbprint.
RFC_TOKEN = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
RFC_THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
RFC_PROOF = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNo"
    "UklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERW"
    "clUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR"
    "1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCw"
    "iYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-E"
    "y71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)


@pytest.mark.parametrize(
    ("token", "thumbprint", "expected"),
    [
        (RFC_TOKEN, RFC_THUMBPRINT, Refusal.DPOP_NONCE),
        (RFC_TOKEN + "x", RFC_THUMBPRINT, Refusal.DPOP_TOKEN_HASH),
        (RFC_TOKEN, PRINCIPAL.key_thumbprint, Refusal.DPOP_BINDING),
    ],
)
def test_the_published_example(token: str, thumbprint: str, expected: Refusal) -> None:
    """It passes every check but that of the nonce, which it has none of; other tokens and keys do not."""
    verifier = DpopVerifier(public_url="https://resource.example.org", random=secrets.token_bytes)
    credentials = sent(RFC_PROOF, method="GET", path="/protectedresource")
    principal = dataclasses.replace(PRINCIPAL, key_thumbprint=thumbprint)
    with pytest.raises(AuthnError) as caught:
        verifier.verify(
            credentials, token, datetime.fromtimestamp(1562262618, UTC), principal=principal
        )
    assert expected == caught.value.reason


def test_no_proof_and_several_proofs_are_refused(verifier: DpopVerifier) -> None:
    """Another program on the way may have checked the one that we would not use (RFC 9449 section 4.3)."""
    assert Refusal.DPOP_MISSING == refusal_of(verifier, sent())
    two = sent(proof(verifier), proof(verifier))
    assert Refusal.DPOP_SEVERAL == refusal_of(verifier, two)
    assert Refusal.DPOP_SEVERAL == refusal_of(verifier, sent(proof(verifier), ""))
    joined = sent(f"{proof(verifier)}, {proof(verifier)}")
    assert Refusal.DPOP_FORM == refusal_of(verifier, joined)


def test_the_size_bound_is_exact(verifier: DpopVerifier) -> None:
    """At 4 KiB a proof is looked at, beyond it is not."""
    assert Refusal.DPOP_TYPE == refusal_of(verifier, sent("e30." + "A" * 4088 + ".AAA"))
    assert Refusal.DPOP_FORM == refusal_of(verifier, sent(proof(verifier, jti="j" * 4096)))
    assert Refusal.DPOP_FORM == refusal_of(verifier, sent("A" * 10_000_000))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b",
        "e30.e30.",
        "e30..AAAA",
        ".e30.AAAA",
        "e30.e30.AAAA.AAAA",
        "e30.e30.AAAA\n",
        " e30.e30.AAAA",
        "e30=.e30.AAAA",
        "e31.e30.AAAA",
        "e30.e30.AAA+",
        "\u00e930.e30.AAAA",
        "e30.e30.\ud800",
        b64(b"[]") + ".e30.AAAA",
        b64(b"\xef\xbb\xbf{}") + ".e30.AAAA",
        b64(b'{"typ":"dpop+jwt","typ":"dpop+jwt"}') + ".e30.AAAA",
    ],
)
def test_another_form_is_refused(verifier: DpopVerifier, text: str) -> None:
    """One spelling: compact, canonical base64url, strict JSON with each member once."""
    assert Refusal.DPOP_FORM == refusal_of(verifier, sent(text))


def test_another_spelling_of_a_good_signature_is_refused(verifier: DpopVerifier) -> None:
    """Unused bits of the last character would make a second proof out of one."""
    good = proof(verifier)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    bent = good[:-1] + alphabet[alphabet.index(good[-1]) ^ 1]
    assert Refusal.DPOP_FORM == refusal_of(verifier, sent(bent))


JWK = jwk_of(KEY)
RSA_JWK = {"kty": "RSA", "n": b64(b"\xff" * 256), "e": "AQAB"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"typ": DROP}, Refusal.DPOP_TYPE),
        ({"typ": "JWT"}, Refusal.DPOP_TYPE),
        ({"typ": "at+jwt"}, Refusal.DPOP_TYPE),
        ({"typ": "DPOP+JWT"}, Refusal.DPOP_TYPE),
        ({"typ": ["dpop+jwt"]}, Refusal.DPOP_TYPE),
        ({"crit": ["exp"]}, Refusal.DPOP_FORM),
        ({"crit": []}, Refusal.DPOP_FORM),
        ({"jku": "https://attacker.example/jwks"}, Refusal.DPOP_FORM),
        ({"x5u": "https://attacker.example/x.pem"}, Refusal.DPOP_FORM),
        ({"x5c": ["MIIB"]}, Refusal.DPOP_FORM),
        ({"zip": "DEF"}, Refusal.DPOP_FORM),
        ({"b64": False}, Refusal.DPOP_FORM),
        ({"cty": "JWT"}, Refusal.DPOP_FORM),
        ({"alg": DROP}, Refusal.DPOP_ALGORITHM),
        ({"alg": None}, Refusal.DPOP_ALGORITHM),
        ({"alg": "none"}, Refusal.DPOP_ALGORITHM),
        ({"alg": "HS256"}, Refusal.DPOP_ALGORITHM),
        ({"alg": "ES256K"}, Refusal.DPOP_ALGORITHM),
        ({"alg": "es256"}, Refusal.DPOP_ALGORITHM),
        ({"alg": ["ES256"]}, Refusal.DPOP_ALGORITHM),
        ({"jwk": DROP}, Refusal.DPOP_KEY),
        ({"jwk": json.dumps(JWK)}, Refusal.DPOP_KEY),
        ({"jwk": [JWK]}, Refusal.DPOP_KEY),
        ({"jwk": {}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "d": "AAAA"}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "k": "AAAA"}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "priv": ""}}, Refusal.DPOP_KEY),
        ({"jwk": {"kty": "oct", "k": "AAAA"}, "alg": "HS256"}, Refusal.DPOP_ALGORITHM),
        ({"jwk": {**JWK, "kty": "OKP"}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "kty": ["EC"]}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "crv": "P-384"}}, Refusal.DPOP_KEY),
        ({"alg": "ES384"}, Refusal.DPOP_KEY),
        ({"alg": "RS256"}, Refusal.DPOP_KEY),
        ({"jwk": RSA_JWK}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "alg": "ES384"}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "alg": None}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "use": "enc"}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "key_ops": ["sign"]}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "key_ops": "verify"}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "x": DROP}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "x": 5}}, Refusal.DPOP_KEY),
        ({"jwk": {**JWK, "y": JWK["x"]}}, Refusal.DPOP_BINDING),
        ({"jwk": {**JWK, "x": JWK["x"] + "="}}, Refusal.DPOP_BINDING),
        ({"jwk": {**JWK, "x": "\ud800"}}, Refusal.DPOP_BINDING),
    ],
)
def test_another_header_is_refused(
    verifier: DpopVerifier, header: dict[str, Any], expected: Refusal
) -> None:
    """Each is signed by the bound key, so that only the check in question can refuse it."""
    if isinstance(header.get("jwk"), dict):
        header = {**header, "jwk": {k: v for k, v in header["jwk"].items() if v is not DROP}}
    assert expected == refusal_of(verifier, sent(proof(verifier, header=header)))


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "key-1"},
        {"jwk": {**JWK, "alg": "ES256", "use": "sig", "key_ops": ["verify"], "kid": "key-1"}},
        {"jwk": {**JWK, "ext": True, "key_ops": ["verify"]}},
    ],
)
def test_harmless_members_are_ignored(verifier: DpopVerifier, header: dict[str, Any]) -> None:
    """What libraries and browsers add, and RFC 7515 section 4 has ignored."""
    assert verifier.verify(sent(proof(verifier, header=header)), TOKEN, NOW, principal=PRINCIPAL)


def test_both_names_of_an_algorithm_agree(verifier: DpopVerifier) -> None:
    """A key that says Ed25519 signs proofs that say EdDSA: RFC 9864 renamed it."""
    key = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    header = {"jwk": {**jwk_of(key), "alg": "Ed25519"}}
    credentials = sent(proof(verifier, key, header=header))
    assert verifier.verify(credentials, TOKEN, NOW, principal=bound_to(key))


@pytest.mark.parametrize(
    ("algorithm", "jwk"),
    [
        ("ES256", {**JWK, "y": JWK["x"]}),
        ("ES256", {**JWK, "x": b64(b"\0" + b"\x01" * 32)}),
        ("RS256", {**RSA_JWK, "n": b64(b"\xff" * 255)}),
        ("RS256", {**RSA_JWK, "n": b64(b"\xff" * 1025)}),
        ("RS256", {**RSA_JWK, "e": "Aw"}),
        ("RS256", {**RSA_JWK, "n": b64(b"\0" + b"\xff" * 256)}),
        ("EdDSA", {"kty": "OKP", "crv": "Ed25519", "x": b64(b"\x01" * 31)}),
    ],
)
def test_a_bad_key_is_refused_though_an_issuer_bound_it(
    verifier: DpopVerifier, algorithm: str, jwk: dict[str, str]
) -> None:
    """Issuers hash keys that they need not understand; here weak and broken ones end."""
    header = {"alg": algorithm, "jwk": jwk}
    principal = dataclasses.replace(PRINCIPAL, key_thumbprint=thumbprint_of(jwk))
    credentials = sent(proof(verifier, header=header))
    assert Refusal.DPOP_KEY == refusal_of(verifier, credentials, principal=principal)


def test_a_signature_by_another_key_is_refused(verifier: DpopVerifier) -> None:
    """The thief of a token can copy the public key and not sign with it."""
    forged = proof(verifier, OTHER, header={"jwk": JWK})
    assert Refusal.DPOP_SIGNATURE == refusal_of(verifier, sent(forged))


@pytest.mark.parametrize("signature", [b"\0", b"\0" * 64, b"\xff" * 64, b"\0" * 63, b"\0" * 65])
def test_a_constant_signature_is_refused(verifier: DpopVerifier, signature: bytes) -> None:
    """Zeros among them: CVE-2022-21449."""
    good = proof(verifier).rpartition(".")[0]
    assert Refusal.DPOP_SIGNATURE == refusal_of(verifier, sent(f"{good}.{b64(signature)}"))


def test_a_proof_by_the_callers_own_key_is_refused(verifier: DpopVerifier) -> None:
    """Perfect, but for another key than the token's."""
    assert Refusal.DPOP_BINDING == refusal_of(verifier, sent(proof(verifier, OTHER)))


def test_the_key_is_compared_before_it_is_computed_with(verifier: DpopVerifier) -> None:
    """A key that the issuer has not vouched for costs no signature check, nor tells whether it would pass."""
    bent = proof(verifier, OTHER, header={"jwk": {**jwk_of(OTHER), "x": "AAAA"}})
    assert Refusal.DPOP_BINDING == refusal_of(verifier, sent(bent))


def test_a_token_that_is_bound_to_no_key_is_refused(verifier: DpopVerifier) -> None:
    """A proof by some key would only seem to protect it."""
    unbound = dataclasses.replace(PRINCIPAL, key_thumbprint=None)
    credentials = sent(proof(verifier))
    assert Refusal.DPOP_UNBOUND == refusal_of(verifier, credentials, principal=unbound)


def test_the_binding_helper_compares() -> None:
    """Same, other, none."""
    check_binding(PRINCIPAL, thumbprint_of(JWK))
    with pytest.raises(AuthnError) as caught:
        check_binding(PRINCIPAL, thumbprint_of(jwk_of(OTHER)))
    assert Refusal.DPOP_BINDING == caught.value.reason
    with pytest.raises(AuthnError) as caught:
        check_binding(dataclasses.replace(PRINCIPAL, key_thumbprint=None), thumbprint_of(JWK))
    assert Refusal.DPOP_UNBOUND == caught.value.reason
