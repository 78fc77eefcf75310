"""A list of forged, bent and misused tokens, each with the reason for which it must be refused.

Most are signed with the issuer's own key, so that only the check in question can refuse them. T is the time at which
they are judged; tests against a running gateway set it to theirs before they make any.
"""

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.identity.key_sources import FixedKeys
from gateway.identity.keysets import KeySet, load_keyset
from gateway.identity.refusals import Refusal
from gateway.identity.tokens import TrustedIssuer

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())

ED = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
EC = ec.derive_private_key(0x1234_5678_9ABC_DEF0, ec.SECP256R1())
ATTACKER = Ed25519PrivateKey.from_private_bytes(b"\x66" * 32)

HEADER: Mapping[str, Any] = {"typ": "at+jwt", "alg": "EdDSA", "kid": "ed"}
DROP = object()


def good_claims() -> dict[str, Any]:
    """What the issuer says of a client, at the time T."""
    return {
        "iss": "https://issuer.example",
        "aud": "gatewatch",
        "sub": "camera-7",
        "client_id": "conveyor",
        "jti": "token-1",
        "roles": ["client"],
        "iat": T - 10,
        "exp": T + 300,
    }


def b64(content: bytes) -> str:
    """Unpadded base64url, as a token has it."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unsigned(value: int, size: int) -> str:
    """A big-endian number in base64url."""
    return b64(value.to_bytes(size))


def raw_public(key: Ed25519PrivateKey) -> bytes:
    """The 32 octets of the public key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One RSA key for the whole list, made when first needed."""
    return rsa.generate_private_key(65537, 2048)


@functools.cache
def keyset() -> KeySet:
    """The issuer's public keys."""
    return load_keyset(jwks())


@functools.cache
def jwks() -> bytes:
    """The issuer's key set: ed (EdDSA), ec (ES256), rsa (RS256)."""
    point = EC.public_key().public_numbers()
    numbers = rsa_key().public_key().public_numbers()
    keys = [
        {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "ed", "x": b64(raw_public(ED))},
        {
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "kid": "ec",
            "x": unsigned(point.x, 32),
            "y": unsigned(point.y, 32),
        },
        {
            "kty": "RSA",
            "alg": "RS256",
            "kid": "rsa",
            "n": unsigned(numbers.n, 256),
            "e": unsigned(numbers.e, 3),
        },
    ]
    return json.dumps({"keys": keys}).encode()


def issuer() -> TrustedIssuer:
    """Who is trusted in this list."""
    return TrustedIssuer(
        issuer="https://issuer.example",
        audience="gatewatch",
        keys=FixedKeys(keyset()),
        max_lifetime_seconds=3600,
        clock_skew_seconds=60,
    )


def raw_token(header: bytes, payload: bytes, *, sign: Callable[[bytes], bytes] = ED.sign) -> str:
    """A token over exactly these octets."""
    message = f"{b64(header)}.{b64(payload)}"
    return f"{message}.{b64(sign(message.encode()))}"


def changed(original: Mapping[str, Any], changes: Mapping[str, Any]) -> bytes:
    """JSON of an object with some members set, or dropped where the value is DROP."""
    merged = {**original, **changes}
    return json.dumps({k: v for k, v in merged.items() if v is not DROP}).encode()


def with_header(sign: Callable[[bytes], bytes] = ED.sign, **changes: Any) -> str:
    """The good token with another header, signed."""
    return raw_token(changed(HEADER, changes), changed(good_claims(), {}), sign=sign)


def with_claims(**changes: Any) -> str:
    """The good token with other claims, signed by the issuer."""
    return raw_token(changed(HEADER, {}), changed(good_claims(), changes))


def with_payload(payload: bytes) -> str:
    """The good header over any payload, signed by the issuer."""
    return raw_token(changed(HEADER, {}), payload)


def with_member_text(name: str, text: str) -> str:
    """Claims in which one member's value is this JSON text, which json.dumps would not write."""
    rest = changed(good_claims(), {name: DROP}).decode()
    return with_payload(f'{{"{name}": {text}, {rest[1:]}'.encode())


def segments(**replaced: Callable[[str], str]) -> str:
    """The good token with header, payload or signature text replaced after signing."""
    parts = dict(zip(("header", "payload", "signature"), with_claims().split("."), strict=True))
    for name, replace in replaced.items():
        parts[name] = replace(parts[name])
    return ".".join(parts.values())


def sign_hs256(secret: bytes) -> Callable[[bytes], bytes]:
    """Sign with a public key's octets as if they were a shared secret."""
    return lambda message: hmac.digest(secret, message, hashlib.sha256)


def sign_es256_der(message: bytes) -> bytes:
    """An ECDSA signature in the form of X.509, not of RFC 7518."""
    return EC.sign(message, ec.ECDSA(hashes.SHA256()))


def sign_es256(message: bytes) -> bytes:
    """An ECDSA signature as RFC 7518 section 3.4 wants it."""
    r, s = decode_dss_signature(sign_es256_der(message))
    return r.to_bytes(32) + s.to_bytes(32)


def sign_rs256(message: bytes) -> bytes:
    """An RSASSA-PKCS1-v1_5 signature."""
    return rsa_key().sign(message, padding.PKCS1v15(), hashes.SHA256())


def flip_unused_bits(text: str) -> str:
    """The same octets in a second spelling: 64 octets leave four unused bits in the last one."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


def flip_bit(text: str) -> str:
    """Another signature of the same length."""
    return ("B" if text[0] != "B" else "C") + text[1:]


RAW_ED = raw_public(ED)
ATTACKER_JWK = {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(raw_public(ATTACKER))}
R = Refusal

ATTACKS: list[tuple[str, Callable[[], str], Refusal]] = [
    # Size and form.
    ("empty", lambda: "", R.TOKEN_FORM),
    ("10 MB", lambda: "A" * 10_000_000, R.TOKEN_SIZE),
    ("one byte too long", lambda: "A" * 8193, R.TOKEN_SIZE),
    ("no token, but not too long", lambda: "A" * 8192, R.TOKEN_FORM),
    ("large but signed", lambda: with_claims(extra="x" * 8192), R.TOKEN_SIZE),
    ("one segment", lambda: "abcd", R.TOKEN_FORM),
    ("two segments", lambda: with_claims().rpartition(".")[0], R.TOKEN_FORM),
    ("four segments", lambda: with_claims() + ".AAAA", R.TOKEN_FORM),
    ("five segments, as encrypted", lambda: "a.b.c.d.e", R.TOKEN_FORM),
    ("trailing dot", lambda: with_claims() + ".", R.TOKEN_FORM),
    ("JSON serialization", lambda: '{"payload":"e30","signatures":[]}', R.TOKEN_FORM),
    ("empty header", lambda: segments(header=lambda _: ""), R.TOKEN_FORM),
    ("empty signature", lambda: segments(signature=lambda _: ""), R.TOKEN_FORM),
    ("space in front", lambda: " " + with_claims(), R.TOKEN_FORM),
    ("newline behind", lambda: with_claims() + "\n", R.TOKEN_FORM),
    ("space in the payload", lambda: segments(payload=lambda p: f"{p} "), R.TOKEN_FORM),
    ("question mark", lambda: segments(payload=lambda p: f"?{p}"), R.TOKEN_FORM),
    ("padding", lambda: segments(signature=lambda s: f"{s}=="), R.TOKEN_FORM),
    ("standard alphabet", lambda: segments(signature=lambda s: f"+/{s[2:]}"), R.TOKEN_FORM),
    ("unused bits", lambda: segments(signature=flip_unused_bits), R.TOKEN_FORM),
    ("impossible length", lambda: segments(payload=lambda _: "AAAAA"), R.TOKEN_FORM),
    ("digits of another script", lambda: segments(payload=lambda p: f"{p}\u0661"), R.TOKEN_FORM),
    ("NUL", lambda: with_claims() + "\0", R.TOKEN_FORM),
    # The header.
    ("header is a list", lambda: raw_token(b'["EdDSA"]', b"{}"), R.HEADER_FORM),
    ("header is no JSON", lambda: raw_token(b"alg=EdDSA", b"{}"), R.HEADER_FORM),
    ("header after a mark", lambda: raw_token(b"\xef\xbb\xbf{}", b"{}"), R.HEADER_FORM),
    ("header is deep", lambda: raw_token(b'{"a":' + b"[" * 5000, b"{}"), R.HEADER_FORM),
    (
        "two algorithms",
        lambda: raw_token(b'{"alg":"none",' + changed(HEADER, {})[1:], changed(good_claims(), {})),
        R.HEADER_FORM,
    ),
    ("crit", lambda: with_header(crit=["exp"]), R.HEADER_MEMBER),
    ("crit and b64", lambda: with_header(crit=["b64"], b64=True), R.HEADER_MEMBER),
    ("b64", lambda: with_header(b64=False), R.HEADER_MEMBER),
    ("jku", lambda: with_header(jku="https://evil.example/jwks"), R.HEADER_MEMBER),
    ("x5u", lambda: with_header(x5u="https://evil.example/chain"), R.HEADER_MEMBER),
    ("x5c", lambda: with_header(x5c=["MIIB"]), R.HEADER_MEMBER),
    ("jwk", lambda: with_header(ATTACKER.sign, jwk=ATTACKER_JWK), R.HEADER_MEMBER),
    ("zip", lambda: with_header(zip="DEF"), R.HEADER_MEMBER),
    ("nested", lambda: with_header(cty="JWT"), R.HEADER_MEMBER),
    # The algorithm.
    ("alg none", lambda: with_header(alg="none"), R.ALGORITHM),
    ("alg None", lambda: with_header(alg="None"), R.ALGORITHM),
    ("alg NONE", lambda: with_header(alg="NONE"), R.ALGORITHM),
    ("alg nOnE", lambda: with_header(alg="nOnE"), R.ALGORITHM),
    ("alg empty", lambda: with_header(alg=""), R.ALGORITHM),
    ("alg null", lambda: with_header(alg=None), R.ALGORITHM),
    ("alg list", lambda: with_header(alg=["EdDSA"]), R.ALGORITHM),
    ("alg missing", lambda: with_header(alg=DROP), R.ALGORITHM),
    ("alg lower case", lambda: with_header(alg="eddsa"), R.ALGORITHM),
    ("public key as secret", lambda: with_header(sign_hs256(RAW_ED), alg="HS256"), R.ALGORITHM),
    ("alg not taken", lambda: with_header(alg="ES256K"), R.ALGORITHM),
    ("key of another algorithm", lambda: with_header(alg="ES256"), R.KEY_ALGORITHM),
    ("other name of it", lambda: with_header(alg="Ed25519"), R.KEY_ALGORITHM),
    ("other RSA padding", lambda: with_header(sign_rs256, alg="PS256", kid="rsa"), R.KEY_ALGORITHM),
    ("other curve", lambda: with_header(sign_es256, alg="ES384", kid="ec"), R.KEY_ALGORITHM),
    # The key.
    ("kid missing", lambda: with_header(kid=DROP), R.KEY_ID),
    ("kid null", lambda: with_header(kid=None), R.KEY_ID),
    ("kid number", lambda: with_header(kid=1), R.KEY_ID),
    ("kid empty", lambda: with_header(kid=""), R.KEY_ID),
    ("kid long", lambda: with_header(kid="e" * 129), R.KEY_ID),
    ("kid with NUL", lambda: with_header(kid="ed\0"), R.KEY_ID),
    ("kid not ASCII", lambda: with_header(kid="\u0435d"), R.KEY_ID),
    ("kid is a path", lambda: with_header(kid="../../../../dev/null"), R.KEY_UNKNOWN),
    ("kid is SQL", lambda: with_header(kid="' UNION SELECT 'key"), R.KEY_UNKNOWN),
    ("kid of nobody", lambda: with_header(kid="other"), R.KEY_UNKNOWN),
    # The signature.
    ("signed by another key", lambda: with_header(ATTACKER.sign), R.SIGNATURE),
    ("kid of another key", lambda: with_header(ED.sign, kid="ec", alg="ES256"), R.SIGNATURE),
    ("signature changed", lambda: segments(signature=flip_bit), R.SIGNATURE),
    ("signature short", lambda: segments(signature=lambda s: s[:4]), R.SIGNATURE),
    ("signature of zeros", lambda: with_header(lambda _: bytes(64)), R.SIGNATURE),
    ("claims changed", lambda: segments(payload=lambda _: b64(b'{"sub":"root"}')), R.SIGNATURE),
    ("payload dropped", lambda: segments(payload=lambda _: ""), R.SIGNATURE),
    ("ECDSA as DER", lambda: with_header(sign_es256_der, alg="ES256", kid="ec"), R.SIGNATURE),
    (
        "ECDSA of zeros",
        lambda: with_header(lambda _: bytes(64), alg="ES256", kid="ec"),
        R.SIGNATURE,
    ),
    (
        "RSA of zeros",
        lambda: with_header(lambda _: bytes(256), alg="RS256", kid="rsa"),
        R.SIGNATURE,
    ),
    # The type.
    ("typ missing", lambda: with_header(typ=DROP), R.TYPE),
    ("typ JWT", lambda: with_header(typ="JWT"), R.TYPE),
    ("typ of a proof", lambda: with_header(typ="dpop+jwt"), R.TYPE),
    ("typ of a logout", lambda: with_header(typ="logout+jwt"), R.TYPE),
    ("typ list", lambda: with_header(typ=["at+jwt"]), R.TYPE),
    # The payload's form.
    ("payload empty", lambda: with_payload(b""), R.PAYLOAD_FORM),
    ("payload is a list", lambda: with_payload(b"[]"), R.PAYLOAD_FORM),
    ("payload is text", lambda: with_payload(b'"sub"'), R.PAYLOAD_FORM),
    ("payload after a mark", lambda: with_payload(b"\xef\xbb\xbf{}"), R.PAYLOAD_FORM),
    ("payload in UTF-16", lambda: with_payload('{"a":1}'.encode("utf-16")), R.PAYLOAD_FORM),
    ("payload not UTF-8", lambda: with_payload(b'{"sub":"\xff"}'), R.PAYLOAD_FORM),
    ("payload twice", lambda: with_payload(b"{}{}"), R.PAYLOAD_FORM),
    ("two subjects", lambda: with_member_text("sub", '"root", "sub": "me"'), R.PAYLOAD_FORM),
    ("two inner members", lambda: with_member_text("cnf", '{"a":1,"a":2}'), R.PAYLOAD_FORM),
    ("exp NaN", lambda: with_member_text("exp", "NaN"), R.PAYLOAD_FORM),
    ("exp infinite", lambda: with_member_text("exp", "Infinity"), R.PAYLOAD_FORM),
    ("exp too large a float", lambda: with_member_text("exp", "1e999"), R.PAYLOAD_FORM),
    ("exp of 4000 digits", lambda: with_member_text("exp", "9" * 4000), R.PAYLOAD_FORM),
    ("exp of 5000 digits", lambda: with_member_text("exp", "9" * 5000), R.PAYLOAD_FORM),
    # Who and for whom.
    ("iss missing", lambda: with_claims(iss=DROP), R.ISSUER),
    ("iss other", lambda: with_claims(iss="https://evil.example"), R.ISSUER),
    ("iss with a slash", lambda: with_claims(iss="https://issuer.example/"), R.ISSUER),
    ("iss list", lambda: with_claims(iss=["https://issuer.example"]), R.ISSUER),
    ("aud missing", lambda: with_claims(aud=DROP), R.AUDIENCE),
    ("aud other", lambda: with_claims(aud="other"), R.AUDIENCE),
    ("aud others", lambda: with_claims(aud=["other", "gatewatch2"]), R.AUDIENCE),
    ("aud longer", lambda: with_claims(aud="gatewatch.evil.example"), R.AUDIENCE),
    ("aud empty", lambda: with_claims(aud=[]), R.AUDIENCE),
    ("aud mixed", lambda: with_claims(aud=["gatewatch", 1]), R.AUDIENCE),
    ("aud object", lambda: with_claims(aud={"gatewatch": 1}), R.AUDIENCE),
    ("aud many", lambda: with_claims(aud=["gatewatch"] * 33), R.AUDIENCE),
    ("sub missing", lambda: with_claims(sub=DROP), R.SUBJECT),
    ("sub number", lambda: with_claims(sub=7), R.SUBJECT),
    ("sub empty", lambda: with_claims(sub=""), R.SUBJECT),
    ("sub long", lambda: with_claims(sub="s" * 257), R.SUBJECT),
    ("sub with NUL", lambda: with_claims(sub="root\0x"), R.SUBJECT),
    ("sub with newline", lambda: with_claims(sub="a\nb"), R.SUBJECT),
    ("sub with half a pair", lambda: with_member_text("sub", r'"\ud800"'), R.SUBJECT),
    ("sub written backwards", lambda: with_claims(sub="\u202etoor"), R.SUBJECT),
    ("client_id missing", lambda: with_claims(client_id=DROP), R.CLIENT_ID),
    ("client_id list", lambda: with_claims(client_id=["a"]), R.CLIENT_ID),
    ("jti missing", lambda: with_claims(jti=DROP), R.TOKEN_ID),
    ("jti number", lambda: with_claims(jti=1), R.TOKEN_ID),
    ("roles text", lambda: with_claims(roles="client"), R.ROLES),
    ("roles null", lambda: with_claims(roles=None), R.ROLES),
    ("roles object", lambda: with_claims(roles={"client": True}), R.ROLES),
    ("roles mixed", lambda: with_claims(roles=["client", 1]), R.ROLES),
    ("roles nested", lambda: with_claims(roles=[["client"]]), R.ROLES),
    ("roles many", lambda: with_claims(roles=["client"] * 65), R.ROLES),
    ("role long", lambda: with_claims(roles=["r" * 129]), R.ROLES),
    # What it is bound to, and how its holder proved itself.
    ("cnf text", lambda: with_claims(cnf="x"), R.CONFIRMATION),
    ("cnf null", lambda: with_claims(cnf=None), R.CONFIRMATION),
    ("cnf empty", lambda: with_claims(cnf={}), R.CONFIRMATION),
    ("cnf of another kind", lambda: with_claims(cnf={"jwk": ATTACKER_JWK}), R.CONFIRMATION),
    ("cnf short", lambda: with_claims(cnf={"jkt": "x"}), R.CONFIRMATION),
    ("cnf list", lambda: with_claims(cnf={"x5t#S256": ["A" * 43]}), R.CONFIRMATION),
    (
        "narrowed",
        lambda: with_claims(authorization_details=[{"type": "x"}]),
        R.AUTHORIZATION_DETAILS,
    ),
    ("acr list", lambda: with_claims(acr=["mfa"]), R.ACR),
    ("acr null", lambda: with_claims(acr=None), R.ACR),
    ("amr text", lambda: with_claims(amr="mfa"), R.AMR),
    ("amr nested", lambda: with_claims(amr=[["mfa"]]), R.AMR),
    ("amr many", lambda: with_claims(amr=["mfa"] * 33), R.AMR),
    ("auth_time text", lambda: with_claims(auth_time=str(T)), R.AUTH_TIME),
    ("auth_time float", lambda: with_claims(auth_time=T + 0.5), R.AUTH_TIME),
    ("auth_time null", lambda: with_claims(auth_time=None), R.AUTH_TIME),
    # Times.
    ("exp missing", lambda: with_claims(exp=DROP), R.TIME_FORM),
    ("exp text", lambda: with_claims(exp=str(T + 300)), R.TIME_FORM),
    ("exp float", lambda: with_claims(exp=T + 300.0), R.TIME_FORM),
    ("exp true", lambda: with_claims(exp=True), R.TIME_FORM),
    ("exp null", lambda: with_claims(exp=None), R.TIME_FORM),
    ("exp negative", lambda: with_claims(exp=-1), R.TIME_FORM),
    ("exp in year 9999", lambda: with_claims(exp=253_402_300_799), R.LIFETIME),
    ("from 1970", lambda: with_claims(iat=0, exp=300), R.EXPIRED),
    ("exp after year 9999", lambda: with_claims(exp=253_402_300_800), R.TIME_FORM),
    ("iat missing", lambda: with_claims(iat=DROP), R.TIME_FORM),
    ("iat text", lambda: with_claims(iat=str(T)), R.TIME_FORM),
    ("nbf text", lambda: with_claims(nbf=str(T)), R.TIME_FORM),
    ("nbf null", lambda: with_claims(nbf=None), R.TIME_FORM),
    ("lives too long", lambda: with_claims(iat=T, exp=T + 3601), R.LIFETIME),
    ("lives thirty years", lambda: with_claims(exp=T + 946_080_000), R.LIFETIME),
    ("ends before it begins", lambda: with_claims(iat=T, exp=T - 1), R.LIFETIME),
    ("ends as it begins", lambda: with_claims(iat=T, exp=T), R.LIFETIME),
    ("ended", lambda: with_claims(iat=T - 300, exp=T - 60), R.EXPIRED),
    ("issued later", lambda: with_claims(iat=T + 61), R.NOT_YET_VALID),
    ("begins later", lambda: with_claims(nbf=T + 61), R.NOT_YET_VALID),
]
