"""Access tokens: from hostile text to claims that the issuer signed for this gateway.

Rules:
- PyJWT verifies; everything here only narrows what reaches it or leaves it.
- The order is the security property: size, form, header, key, signature, and only then the payload.
- The token names a key of the configured issuer and nothing else: no key, address or certificate
  that a token carries is ever used (RFC 8725 sections 3.1, 3.2 and 3.10).
- Compared times are whole seconds; the allowed clock skew widens every limit the same way.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard

import jwt

from gateway.errors import Code, SettingsError
from gateway.identity.keysets import ALGORITHMS, KeySet, VerificationKey, is_key_id
from gateway.identity.refusals import Refusal, refused
from gateway.identity.wire import (
    MalformedError,
    decode_base64url,
    is_bounded_text,
    parse_json_object,
)

MAX_TOKEN_BYTES = 8 * 1024
MAX_CLOCK_SKEW_SECONDS = 60
MAX_TEXT_CHARACTERS = 256  # Of sub, client_id and jti: what the audit record takes.
MAX_ROLES = 64
MAX_ROLE_CHARACTERS = 128
MAX_AUDIENCES = 32

# An empty payload is a well-formed signature over nothing; as claims it is refused further on.
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)")
_TYPES = ("at+jwt", "application/at+jwt")  # A tuple, since what is looked up may be a list.
# What would bring its own key, change what is signed, or hold another token inside.
_FORBIDDEN_MEMBERS = frozenset({"crit", "jku", "x5u", "jwk", "x5c", "zip", "b64", "cty"})
_MAX_NUMERIC_DATE = 253_402_300_799  # The last second of the year 9999, which datetime can hold.


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """Whose tokens are taken, and for whom they must be meant.

    issuer, audience: compared with `iss` and `aud` character by character. max_lifetime_seconds:
    the largest `exp` - `iat`. clock_skew_seconds: 0 to 60. Raises SettingsError outside of that.
    """

    issuer: str
    audience: str
    keyset: KeySet
    max_lifetime_seconds: int
    clock_skew_seconds: int = MAX_CLOCK_SKEW_SECONDS

    def __post_init__(self) -> None:
        """Refuse what would leave a check without effect."""
        if not self.issuer or not self.audience:
            raise _misconfigured("issuer and audience must not be empty; name both")
        if self.max_lifetime_seconds < 1:
            raise _misconfigured("the maximum lifetime must be at least 1 second; raise it")
        if not 0 <= self.clock_skew_seconds <= MAX_CLOCK_SKEW_SECONDS:
            raise _misconfigured("the clock skew must be 0 to 60 seconds; keep clocks in step")


@dataclass(frozen=True, slots=True)
class SignedContent:
    """What a key of the set has signed; the payload's meaning is not checked yet."""

    header: dict[str, Any]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """The checked claims of an access token; times are UTC. Source: RFC 9068 section 2.2."""

    issuer: str
    subject: str
    client_id: str
    token_id: str
    roles: frozenset[str]
    issued_at: datetime
    expires_at: datetime


def verify_token(unverified_token: str, *, issuer: TrustedIssuer, now: datetime) -> Claims:
    """The claims of an access token that the issuer signed for us and that is valid now.

    Raises AuthnError (AUTHN_INVALID) with a Refusal as its reason in every other case.
    Source: RFC 9068 section 4, RFC 8725.
    """
    content = verify_signature(unverified_token, keyset=issuer.keyset)
    # Without this check another kind of token of the same issuer, such as an ID token, would pass.
    if content.header.get("typ") not in _TYPES:
        raise refused(Refusal.TYPE)
    try:
        claims = parse_json_object(content.payload)
    except MalformedError as exc:
        raise refused(Refusal.PAYLOAD_FORM) from exc
    _check_parties(claims, issuer)
    issued_at, expires_at = _check_times(claims, issuer, int(now.timestamp()))
    return Claims(
        issuer=issuer.issuer,
        subject=_text(claims.get("sub"), Refusal.SUBJECT),
        client_id=_text(claims.get("client_id"), Refusal.CLIENT_ID),
        token_id=_text(claims.get("jti"), Refusal.TOKEN_ID),
        roles=_roles(claims.get("roles", [])),
        issued_at=datetime.fromtimestamp(issued_at, UTC),
        expires_at=datetime.fromtimestamp(expires_at, UTC),
    )


def verify_signature(unverified_token: str, *, keyset: KeySet) -> SignedContent:
    """Header and payload of a compact JSON Web Signature by a key of the set.

    Raises AuthnError (AUTHN_INVALID) with a Refusal as its reason in every other case.
    Source: RFC 7515 section 5.2.
    """
    if len(unverified_token) > MAX_TOKEN_BYTES:
        raise refused(Refusal.TOKEN_SIZE)
    unverified_header = _read_header(unverified_token)
    key = _pick_key(unverified_header, keyset)
    try:
        verified = key.verifier.decode_complete(
            unverified_token, key=key.public_key, algorithms=[key.algorithm]
        )
    except jwt.PyJWTError as exc:
        raise refused(Refusal.SIGNATURE) from exc
    return SignedContent(header=unverified_header, payload=verified["payload"])


def is_role_list(value: object) -> TypeGuard[list[str]]:
    """Whether a value may be the claim `roles`; an absent claim reads as no roles."""
    return _is_text_list(value, max_items=MAX_ROLES, max_characters=MAX_ROLE_CHARACTERS)


def _read_header(unverified_token: str) -> dict[str, Any]:
    segments = _COMPACT.fullmatch(unverified_token)
    if segments is None:
        raise refused(Refusal.TOKEN_FORM)
    try:
        header, _, _ = (decode_base64url(segment) for segment in segments.groups())
    except MalformedError as exc:
        raise refused(Refusal.TOKEN_FORM) from exc
    try:
        return parse_json_object(header)
    except MalformedError as exc:
        raise refused(Refusal.HEADER_FORM) from exc


def _pick_key(unverified_header: dict[str, Any], keyset: KeySet) -> VerificationKey:
    if not _FORBIDDEN_MEMBERS.isdisjoint(unverified_header):
        raise refused(Refusal.HEADER_MEMBER)
    algorithm, key_id = unverified_header.get("alg"), unverified_header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise refused(Refusal.ALGORITHM)
    if not is_key_id(key_id):
        raise refused(Refusal.KEY_ID)
    key = keyset.keys.get(key_id)
    if key is None:
        raise refused(Refusal.KEY_UNKNOWN)
    # The key decides; the token may only agree (RFC 8725 section 3.1).
    if algorithm != key.algorithm:
        raise refused(Refusal.KEY_ALGORITHM)
    return key


def _check_parties(claims: dict[str, Any], issuer: TrustedIssuer) -> None:
    if claims.get("iss") != issuer.issuer:
        raise refused(Refusal.ISSUER)
    audiences = claims.get("aud")
    if isinstance(audiences, str):
        audiences = [audiences]
    if not _is_text_list(audiences, max_items=MAX_AUDIENCES, max_characters=MAX_TEXT_CHARACTERS):
        raise refused(Refusal.AUDIENCE)
    if issuer.audience not in audiences:
        raise refused(Refusal.AUDIENCE)


def _check_times(claims: dict[str, Any], issuer: TrustedIssuer, now: int) -> tuple[int, int]:
    issued_at = _numeric_date(claims.get("iat"))
    expires_at = _numeric_date(claims.get("exp"))
    not_before = _numeric_date(claims.get("nbf", issued_at))
    if not 0 < expires_at - issued_at <= issuer.max_lifetime_seconds:
        raise refused(Refusal.LIFETIME)
    if now >= expires_at + issuer.clock_skew_seconds:
        raise refused(Refusal.EXPIRED)
    if now < max(issued_at, not_before) - issuer.clock_skew_seconds:
        raise refused(Refusal.NOT_YET_VALID)
    return issued_at, expires_at


def _numeric_date(value: object) -> int:
    # bool is a subclass of int, hence no isinstance; fractions have no use here and two spellings.
    if type(value) is not int or not 0 <= value <= _MAX_NUMERIC_DATE:
        raise refused(Refusal.TIME_FORM)
    return value


def _text(value: object, reason: Refusal) -> str:
    if not is_bounded_text(value, max_characters=MAX_TEXT_CHARACTERS):
        raise refused(reason)
    return value


def _roles(value: object) -> frozenset[str]:
    if not is_role_list(value):
        raise refused(Refusal.ROLES)
    return frozenset(value)


def _is_text_list(value: object, *, max_items: int, max_characters: int) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list)
        and len(value) <= max_items
        and all(is_bounded_text(item, max_characters=max_characters) for item in value)
    )


def _misconfigured(cause_and_fix: str) -> SettingsError:
    return SettingsError(Code.SETTINGS_INVALID, f"trusted issuer: {cause_and_fix}")
