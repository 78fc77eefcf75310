"""Access tokens of one's own, for development; in production an identity provider issues them.

Rules: Ed25519 only; the private key lies in a file of its own that is never overwritten; what is
issued here passes verify_token of a gateway that is configured for it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.errors import Code, KeyFileError, SettingsError
from gateway.identity.tokens import MAX_METHODS, MAX_TEXT_CHARACTERS, is_role_list
from gateway.identity.wire import (
    MalformedError,
    decode_base64url,
    encode_base64url,
    is_bounded_text,
)
from gateway.keyfiles import create_private_file, read_private_file

_SHA256_BYTES = 32
_LOCALHOST = re.compile(r"([a-z0-9_-]+\.)*localhost\.?")


def issue_token(
    *,
    signing_key: Ed25519PrivateKey,
    issuer: str,
    audience: str,
    subject: str,
    client_id: str,
    roles: Sequence[str],
    lifetime_seconds: int,
    now: datetime,
    token_id: str,
    acr: str | None = None,
    amr: Sequence[str] = (),
    auth_time: datetime | None = None,
    certificate_thumbprint: str | None = None,
    key_thumbprint: str | None = None,
) -> str:
    """A signed access token, valid from now (UTC) for lifetime_seconds.

    token_id: the `jti`, new for each token. acr, amr, auth_time: how and when (UTC) the caller proved who it is.
    certificate_thumbprint, key_thumbprint: what the token is bound to, base64url SHA-256. Raises SettingsError where a
    gateway would refuse the token whatever its configuration.
    Source: RFC 9068 section 2, RFC 8705 section 3.1, RFC 9449 section 6.1.
    """
    texts = (issuer, audience, subject, client_id, token_id, *(() if acr is None else (acr,)))
    if not all(is_bounded_text(text, max_characters=MAX_TEXT_CHARACTERS) for text in texts):
        raise _refused("each text must have 1 to 256 printable characters; correct it")
    if not is_role_list(list(roles)):
        raise _refused("at most 64 roles of 1 to 128 printable characters are taken; correct them")
    if lifetime_seconds < 1:
        raise _refused("the lifetime must be at least 1 second; raise it")
    issued_at = int(now.timestamp())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "client_id": client_id,
        "jti": token_id,
        "roles": list(roles),
        "iat": issued_at,
        "exp": issued_at + lifetime_seconds,
        **_authentication(acr, amr, auth_time),
        **_confirmation(certificate_thumbprint, key_thumbprint),
    }
    header = {"typ": "at+jwt", "kid": thumbprint(signing_key.public_key())}
    return jwt.encode(claims, signing_key, algorithm="EdDSA", headers=header)


def is_development_issuer(issuer: str) -> bool:
    """Whether an issuer's host is `localhost` or below it, a name that stands for nobody on any network.

    An issuer without a scheme is read as a host. Source: RFC 6761 section 6.3.
    """
    try:
        host = urlsplit(issuer if "//" in issuer else f"//{issuer}").hostname or ""
    except ValueError:
        return False
    return _LOCALHOST.fullmatch(host) is not None


def create_signing_key(path: Path) -> Ed25519PrivateKey:
    """Make a new private key and write it as PKCS #8 in PEM, mode 0600.

    When this returns, the file is durable; create_private_file says what a crash can leave behind.
    Raises KeyFileError if the path exists or cannot be written.
    """
    signing_key = Ed25519PrivateKey.generate()
    pem = signing_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    create_private_file(path, pem)
    return signing_key


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key that create_signing_key wrote.

    Raises KeyFileError if the file is missing, open to others, or not an Ed25519 key in PEM.
    """
    fix = f"key file {path}: it is not an unencrypted Ed25519 key in PEM; create one"
    try:
        signing_key = load_pem_private_key(read_private_file(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise KeyFileError(Code.KEY_INVALID, fix) from exc
    if not isinstance(signing_key, Ed25519PrivateKey):
        raise KeyFileError(Code.KEY_INVALID, fix)
    return signing_key


def jwks_of(public_keys: Iterable[Ed25519PublicKey]) -> bytes:
    """The JSON Web Key Set of public keys, each named by its thumbprint.

    Source: RFC 7517 section 5, RFC 8037 section 2.
    """
    keys = [
        {**_required_members(key), "alg": "EdDSA", "use": "sig", "kid": thumbprint(key)}
        for key in public_keys
    ]
    return json.dumps({"keys": keys}, indent=2).encode("ascii") + b"\n"


def thumbprint(public_key: Ed25519PublicKey) -> str:
    """The base64url SHA-256 thumbprint of a public key. Source: RFC 7638, RFC 8037 appendix A.3."""
    members = json.dumps(_required_members(public_key), separators=(",", ":"), sort_keys=True)
    return encode_base64url(hashlib.sha256(members.encode("ascii")).digest())


def _authentication(
    acr: str | None, amr: Sequence[str], auth_time: datetime | None
) -> dict[str, Any]:
    if len(amr) > MAX_METHODS or not is_role_list(list(amr)):
        raise _refused("at most 32 methods of 1 to 128 printable characters are taken for amr")
    claims: dict[str, Any] = {}
    if acr is not None:
        claims["acr"] = acr
    if amr:
        claims["amr"] = list(amr)
    if auth_time is not None:
        claims["auth_time"] = int(auth_time.timestamp())
    return claims


def _confirmation(
    certificate_thumbprint: str | None, key_thumbprint: str | None
) -> dict[str, dict[str, str]]:
    named = {"x5t#S256": certificate_thumbprint, "jkt": key_thumbprint}
    members = {name: value for name, value in named.items() if value is not None}
    if not all(map(_is_thumbprint, members.values())):
        raise _refused("a thumbprint is 43 characters of base64url, a SHA-256; correct it")
    return {"cnf": members} if members else {}


def _is_thumbprint(text: str) -> bool:
    try:
        return len(decode_base64url(text)) == _SHA256_BYTES
    except MalformedError:
        return False


def _required_members(public_key: Ed25519PublicKey) -> dict[str, str]:
    x = public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": encode_base64url(x)}


def _refused(cause_and_fix: str) -> SettingsError:
    return SettingsError(Code.SETTINGS_INVALID, f"token: {cause_and_fix}")
