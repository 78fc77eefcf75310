"""Access tokens: from hostile text to claims that the issuer signed for this gateway.

Rules:
- PyJWT's algorithms verify the signature; the rest of a token is read here, more strictly and once.
- The order is the security property: size, form, header, issuer, key, signature, and only then the
  claims. Of the unsigned payload nothing is used but `iss`, which picks one of the configured
  issuers and with it the only keys that may have signed (RFC 8725 section 3.8).
- The token names a key of that issuer and nothing else: no key, address or certificate that a token
  carries is ever used (RFC 8725 sections 3.1, 3.2 and 3.10).
- Compared times are whole seconds; the allowed clock skew widens every limit the same way.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard

from gateway.errors import Code, SettingsError
from gateway.identity.binding import parse_confirmation
from gateway.identity.key_sources import KeySource
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
MAX_METHODS = 32  # Of `amr`.

# An empty payload is a well-formed signature over nothing; as claims it is refused further on.
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)")
_TYPES = ("at+jwt", "application/at+jwt")  # A tuple, since what is looked up may be a list.
# What would bring its own key, change what is signed, or hold another token inside.
_FORBIDDEN_MEMBERS = frozenset({"crit", "jku", "x5u", "jwk", "x5c", "zip", "b64", "cty"})
MAX_NUMERIC_DATE = 253_402_300_799  # The last second of the year 9999, which datetime can hold.


RoleReader = Callable[[Mapping[str, Any]], frozenset[str]]


def read_roles_claim(claims: Mapping[str, Any]) -> frozenset[str]:
    """The claim `roles`, a list of texts; none where it is absent. Raises AuthnError (ROLES) for any other form."""
    value = claims.get("roles", [])
    if not is_role_list(value):
        raise refused(Refusal.ROLES)
    return frozenset(value)


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """Whose tokens are taken, and for whom they must be meant.

    issuer, audience: compared with `iss` and `aud` character by character. keys: the only ones that
    may have signed. max_lifetime_seconds: the largest `exp` - `iat`. clock_skew_seconds: 0 to 60.
    must_be_bound: whether tokens of nobody in particular are refused, those that any thief can use (RFC 6750).
    read_roles: from signed claims to our roles; raises AuthnError. source_claim: the claim that names a camera, empty
    for none. Raises SettingsError outside of that.
    """

    issuer: str
    audience: str
    keys: KeySource
    max_lifetime_seconds: int
    clock_skew_seconds: int = MAX_CLOCK_SKEW_SECONDS
    must_be_bound: bool = False
    read_roles: RoleReader = read_roles_claim
    source_claim: str = ""

    def __post_init__(self) -> None:
        """Refuse what would leave a check without effect."""
        if not self.issuer or not self.audience:
            raise _misconfigured("issuer and audience must not be empty; name both")
        if self.max_lifetime_seconds < 1:
            raise _misconfigured("the maximum lifetime must be at least 1 second; raise it")
        if not 0 <= self.clock_skew_seconds <= MAX_CLOCK_SKEW_SECONDS:
            raise _misconfigured("the clock skew must be 0 to 60 seconds; keep clocks in step")


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A compact JSON Web Signature in one canonical form; nobody has vouched for any of it.

    algorithm, key_id: checked for their form, and to be compared with the key's. signed: what the signature is over.
    """

    header: dict[str, Any]
    algorithm: str
    key_id: str
    payload: bytes
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedContent:
    """What a key of the set has signed; the payload's meaning is not checked yet."""

    header: dict[str, Any]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """The checked claims of an access token; times are UTC. Source: RFC 9068 section 2.2.

    certificate_thumbprint, key_thumbprint: what `cnf` binds the token to (RFC 8705, RFC 9449). source: what the
    issuer's source_claim says, empty where that is no short text; it decides nothing here.
    """

    issuer: str
    subject: str
    client_id: str
    token_id: str
    roles: frozenset[str]
    issued_at: datetime
    expires_at: datetime
    acr: str | None
    amr: frozenset[str]
    auth_time: datetime | None
    certificate_thumbprint: str | None
    key_thumbprint: str | None
    source: str | None = None


def read_token(unverified_token: str) -> UnverifiedToken:
    """The parts of a compact JSON Web Signature, before anything is looked up for it.

    Raises AuthnError (AUTHN_INVALID) for a wrong size or form, a header that carries what must never be obeyed, an
    algorithm or key id that no key of ours could have. Source: RFC 7515 section 5.2, RFC 8725.
    """
    if len(unverified_token) > MAX_TOKEN_BYTES:
        raise refused(Refusal.TOKEN_SIZE)
    segments = _COMPACT.fullmatch(unverified_token)
    if segments is None:
        raise refused(Refusal.TOKEN_FORM)
    try:
        header_text, payload, signature = (decode_base64url(s) for s in segments.groups())
    except MalformedError as exc:
        raise refused(Refusal.TOKEN_FORM) from exc
    try:
        header = parse_json_object(header_text)
    except MalformedError as exc:
        raise refused(Refusal.HEADER_FORM) from exc
    if not _FORBIDDEN_MEMBERS.isdisjoint(header):
        raise refused(Refusal.HEADER_MEMBER)
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise refused(Refusal.ALGORITHM)
    if not is_key_id(key_id):
        raise refused(Refusal.KEY_ID)
    signed = unverified_token[: segments.start(3) - 1].encode("ascii")
    return UnverifiedToken(header, algorithm, key_id, payload, signed, signature)


def unverified_issuer(token: UnverifiedToken) -> str:
    """The `iss` that an access token names, to pick the issuer whose keys must then have signed it.

    Raises AuthnError (AUTHN_INVALID) for another type of token, or a payload that is not one strict JSON object with
    an `iss`.
    """
    # Without this check another kind of token of the same issuer, such as an ID token, would pass.
    if token.header.get("typ") not in _TYPES:
        raise refused(Refusal.TYPE)
    issuer = _parse_claims(token.payload).get("iss")
    if not isinstance(issuer, str):
        raise refused(Refusal.ISSUER)
    return issuer


def verify_token(token: UnverifiedToken, *, issuer: TrustedIssuer, now: datetime) -> Claims:
    """The claims of an access token that the issuer signed for us and that is valid now.

    Raises AuthnError (AUTHN_INVALID) with a Refusal as its reason in every other case, IdentityUnavailableError if the
    issuer's keys are not known. Source: RFC 9068 section 4, RFC 8725.
    """
    if token.header.get("typ") not in _TYPES:
        raise refused(Refusal.TYPE)
    content = verify_read(token, keyset=issuer.keys.current())
    claims = _parse_claims(content.payload)
    _check_parties(claims, issuer)
    issued_at, expires_at = _check_times(claims, issuer, int(now.timestamp()))
    bound = _binding(claims, issuer)
    return Claims(
        issuer=issuer.issuer,
        subject=_text(claims.get("sub"), Refusal.SUBJECT),
        client_id=_text(claims.get("client_id"), Refusal.CLIENT_ID),
        token_id=_text(claims.get("jti"), Refusal.TOKEN_ID),
        roles=issuer.read_roles(claims),
        issued_at=datetime.fromtimestamp(issued_at, UTC),
        expires_at=datetime.fromtimestamp(expires_at, UTC),
        acr=_text(claims["acr"], Refusal.ACR) if "acr" in claims else None,
        amr=_methods(claims.get("amr", [])),
        auth_time=_auth_time(claims),
        certificate_thumbprint=bound[0],
        key_thumbprint=bound[1],
        source=_source(claims, issuer.source_claim),
    )


def verify_signature(unverified_token: str, *, keyset: KeySet) -> SignedContent:
    """Header and payload of a compact JSON Web Signature by a key of the set.

    Raises AuthnError (AUTHN_INVALID) with a Refusal as its reason in every other case.
    """
    return verify_read(read_token(unverified_token), keyset=keyset)


def verify_read(token: UnverifiedToken, *, keyset: KeySet) -> SignedContent:
    """Header and payload of a token, if a key of the set signed them. Raises AuthnError (AUTHN_INVALID) otherwise."""
    key = _pick_key(token, keyset)
    # Not PyJWT's decode: it would read the same text again, letter by letter, for a quarter of the whole time.
    algorithm = key.verifier.get_algorithm_by_name(key.algorithm)
    if not algorithm.verify(token.signed, key.public_key, token.signature):
        raise refused(Refusal.SIGNATURE)
    return SignedContent(header=token.header, payload=token.payload)


def is_role_list(value: object) -> TypeGuard[list[str]]:
    """Whether a value may be the claim `roles`; an absent claim reads as no roles."""
    return _is_text_list(value, max_items=MAX_ROLES, max_characters=MAX_ROLE_CHARACTERS)


def _parse_claims(payload: bytes) -> dict[str, Any]:
    try:
        return parse_json_object(payload)
    except MalformedError as exc:
        raise refused(Refusal.PAYLOAD_FORM) from exc


def _pick_key(token: UnverifiedToken, keyset: KeySet) -> VerificationKey:
    key = keyset.keys.get(token.key_id)
    if key is None:
        raise refused(Refusal.KEY_UNKNOWN)
    # The key decides; the token may only agree (RFC 8725 section 3.1).
    if token.algorithm != key.algorithm:
        raise refused(Refusal.KEY_ALGORITHM)
    return key


def _binding(claims: dict[str, Any], issuer: TrustedIssuer) -> tuple[str | None, str | None]:
    if "authorization_details" in claims:
        # They narrow what the token is for (RFC 9396 section 2); a token that is read without them is a wider one.
        raise refused(Refusal.AUTHORIZATION_DETAILS)
    if "cnf" in claims:
        return parse_confirmation(claims["cnf"])
    if issuer.must_be_bound:
        raise refused(Refusal.UNBOUND)
    return None, None


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
    if not _is_numeric_date(value):
        raise refused(Refusal.TIME_FORM)
    return value


def _is_numeric_date(value: object) -> TypeGuard[int]:
    # bool is a subclass of int, hence no isinstance; fractions have no use here and two spellings.
    return type(value) is int and 0 <= value <= MAX_NUMERIC_DATE


def _text(value: object, reason: Refusal) -> str:
    if not is_bounded_text(value, max_characters=MAX_TEXT_CHARACTERS):
        raise refused(reason)
    return value


def _source(claims: dict[str, Any], name: str) -> str | None:
    # A wrong one refuses nobody: what a sample is of does not decide who may call.
    if not name or name not in claims:
        return None
    value = claims[name]
    return value if is_bounded_text(value, max_characters=MAX_TEXT_CHARACTERS) else ""


def _methods(value: object) -> frozenset[str]:
    if not _is_text_list(value, max_items=MAX_METHODS, max_characters=MAX_ROLE_CHARACTERS):
        raise refused(Refusal.AMR)
    return frozenset(value)


def _auth_time(claims: dict[str, Any]) -> datetime | None:
    if "auth_time" not in claims:
        return None
    seconds = claims["auth_time"]
    if not _is_numeric_date(seconds):
        raise refused(Refusal.AUTH_TIME)
    return datetime.fromtimestamp(seconds, UTC)


def _is_text_list(value: object, *, max_items: int, max_characters: int) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list)
        and len(value) <= max_items
        and all(is_bounded_text(item, max_characters=max_characters) for item in value)
    )


def _misconfigured(cause_and_fix: str) -> SettingsError:
    return SettingsError(Code.SETTINGS_INVALID, f"trusted issuer: {cause_and_fix}")
