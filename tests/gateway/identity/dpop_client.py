"""The client's side of DPoP, for tests: proofs that are right, or wrong in one named way (RFC 9449 section 4.2)."""

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

Key = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

DROP = object()  # As the value of a member: leave it out.
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_EC_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def b64(content: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwk_of(key: Key) -> dict[str, str]:
    """The public half as a JSON Web Key."""
    if isinstance(key, Ed25519PrivateKey):
        x = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(x)}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        point = key.public_key().public_numbers()
        size = (key.curve.key_size + 7) // 8
        coordinates = {"x": b64(point.x.to_bytes(size)), "y": b64(point.y.to_bytes(size))}
        return {"kty": "EC", "crv": _CURVES[key.curve.name], **coordinates}
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "n": b64(numbers.n.to_bytes(key.key_size // 8)), "e": "AQAB"}


def thumbprint_of(jwk: Mapping[str, str]) -> str:
    """What an issuer puts into `cnf.jkt` for a key (RFC 7638)."""
    members = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
    return b64(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def algorithm_of(key: Key) -> str:
    """The algorithm a client would use with this key."""
    if isinstance(key, Ed25519PrivateKey):
        return "EdDSA"
    return (
        _EC_ALGORITHMS[key.curve.name] if isinstance(key, ec.EllipticCurvePrivateKey) else "PS256"
    )


def make_proof(
    key: Key,
    method: str,
    url: str,
    token: str,
    nonce: str | None,
    now: datetime,
    *,
    algorithm: str | None = None,
    header: Mapping[str, Any] | None = None,
    **claims: Any,
) -> str:
    """A proof that whoever calls method on url with this token has the key.

    nonce None: a first call, before the gateway has named one. header, claims: members to set, or to leave out where
    the value is DROP; the algorithm used stays the named one whatever the header says.
    """
    algorithm = algorithm or algorithm_of(key)
    good_header = {"typ": "dpop+jwt", "alg": algorithm, "jwk": jwk_of(key)}
    good_claims = {
        "jti": str(uuid.uuid4()),
        "htm": method,
        "htu": url,
        "iat": int(now.timestamp()),
        "ath": b64(hashlib.sha256(token.encode()).digest()),
        "nonce": DROP if nonce is None else nonce,
    }
    return signed(key, algorithm, changed(good_header, header or {}), changed(good_claims, claims))


def changed(members: Mapping[str, Any], changes: Mapping[str, Any]) -> bytes:
    """JSON of an object with some members set, or dropped where the value is DROP."""
    merged = {**members, **changes}
    return json.dumps({k: v for k, v in merged.items() if v is not DROP}).encode()


def signed(key: Key, algorithm: str, header: bytes, payload: bytes) -> str:
    """A compact JSON Web Signature over exactly these octets."""
    name = "EdDSA" if algorithm == "Ed25519" else algorithm
    message = f"{b64(header)}.{b64(payload)}"
    return f"{message}.{b64(get_default_algorithms()[name].sign(message.encode(), key))}"
