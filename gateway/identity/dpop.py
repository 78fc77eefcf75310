"""DPoP proofs: whether whoever sends a token has the key that its issuer bound it to (RFC 9449).

Rules:
- The order is the security property, and cheap comes first: size, form, header, the key's thumbprint, signature, and
  only then the claims. A key that the issuer has not vouched for is never computed with.
- Which URL was called is configuration; no Host header is ever looked at.
- The nonce is checked after everything that a thief cannot do, or asking for one would tell him what is right, and
  before the proof is noted as used, so that only proofs that could pass take room.
- A clock that was set back would make proofs good again that were let go: then all nonces change, and with them every
  proof that was made before is void.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from gateway.errors import Code, DpopNonceError, SettingsError
from gateway.identity.binding import is_same_thumbprint
from gateway.identity.dpop_nonces import DpopNonces
from gateway.identity.keysets import ALGORITHMS, PublicKey, is_secret, public_key_of, verifier_of
from gateway.identity.principal import Credentials, Principal
from gateway.identity.refusals import Refusal, refused
from gateway.identity.replay import ReplayCache
from gateway.identity.wire import (
    MalformedError,
    decode_base64url,
    encode_base64url,
    is_bounded_text,
    parse_json_object,
)

MAX_PROOF_BYTES = 4 * 1024  # An RSA key of 8192 bits and its signature fit.
MAX_ID_CHARACTERS = 256
MAX_URI_CHARACTERS = 2 * 1024
# Calls whose clock was read before they had to wait are no sign of a clock that was set back.
CLOCK_TOLERANCE_SECONDS = 10

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
# What would bring another key, change what is signed, or hold another token inside. A `kid` is not obeyed either.
_FORBIDDEN_MEMBERS = frozenset({"crit", "jku", "x5u", "x5c", "zip", "b64", "cty"})
_CURRENT_NAMES = MappingProxyType({"EdDSA": "Ed25519"})  # RFC 9864 section 2.2.
_THUMBPRINT_MEMBERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
)
_URI = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4})?)?"
    r"((?:/[!-~]*)?)"
)
_DEFAULT_PORTS = MappingProxyType({"https": "443", "http": "80"})


@dataclass(frozen=True, slots=True)
class UnverifiedProof:
    """A DPoP proof in its one canonical form, with a header that may be obeyed; nobody has vouched for any of it.

    jwk: of the kind that fits the algorithm, without a secret, its other members not looked at.
    """

    algorithm: str
    jwk: dict[str, Any]
    thumbprint: str
    signed: bytes
    payload: bytes
    signature: bytes


class DpopVerifier:
    """Checks proofs for one public URL, and remembers those it has taken; only the event loop's thread may use it."""

    def __init__(
        self,
        *,
        public_url: str,
        random: Callable[[int], bytes],
        max_age_seconds: int = 60,
        clock_skew_seconds: int = 60,
        max_replay_entries: int = 200_000,
    ) -> None:
        """Take proofs that were made at most max_age_seconds ago and, by another clock, clock_skew_seconds ahead.

        public_url: the origin that callers use. random: that many bytes that nobody can guess. Each of
        max_replay_entries takes some 130 bytes. Raises SettingsError if public_url is not an origin.
        """
        self._origin = _origin_of(public_url)
        self._random = random
        self._max_age_seconds = max_age_seconds
        self._clock_skew_seconds = clock_skew_seconds
        self._nonces = DpopNonces(random=random)
        self._replays = ReplayCache(max_entries=max_replay_entries)
        self._latest = 0
        self._verifiers = {
            name: verifier_of(name).get_algorithm_by_name(name) for name in ALGORITHMS
        }

    def verify(
        self, credentials: Credentials, verified_token: str, now: datetime, *, principal: Principal
    ) -> str:
        """The thumbprint of the key that the token is bound to and that the request's one proof is signed by.

        principal: whom verified_token names. now: UTC. Raises AuthnError with a Refusal as its reason, DpopNonceError
        if only the nonce is missing or old, QuotaError if the principal's proofs fill the room there is for them.
        Source: RFC 9449 section 4.3; RFC 7638.
        """
        proof = read_proof(_only_value(credentials))
        check_binding(principal, proof.thumbprint)
        self._check_signature(proof)
        try:
            claims = parse_json_object(proof.payload)
        except MalformedError as exc:
            raise refused(Refusal.DPOP_FORM) from exc
        self._check_claims(claims, credentials, verified_token, int(now.timestamp()))
        self._follow_clock(int(now.timestamp()))
        if not self._nonces.is_fresh(claims.get("nonce"), now):
            raise DpopNonceError(nonce=self._nonces.current(now), reason=Refusal.DPOP_NONCE.value)
        self._use(proof.thumbprint, claims, principal, int(now.timestamp()))
        return proof.thumbprint

    def next_nonce(self, now: datetime) -> str:
        """The nonce for a caller's next proof. now: UTC. Source: RFC 9449 section 8.2."""
        return self._nonces.current(now)

    def _check_signature(self, proof: UnverifiedProof) -> None:
        key = _public_key(proof.jwk)
        if not self._verifiers[proof.algorithm].verify(proof.signed, key, proof.signature):
            raise refused(Refusal.DPOP_SIGNATURE)

    def _check_claims(
        self, claims: dict[str, Any], credentials: Credentials, verified_token: str, now: int
    ) -> None:
        if claims.get("htm") != credentials.method:
            raise refused(Refusal.DPOP_METHOD)
        if _target_of(claims.get("htu")) != (self._origin, credentials.path or "/"):
            raise refused(Refusal.DPOP_URI)
        self._check_times(claims, now)
        if not is_bounded_text(claims.get("jti"), max_characters=MAX_ID_CHARACTERS):
            raise refused(Refusal.DPOP_ID)
        if not _is_hash_of(claims.get("ath"), verified_token):
            raise refused(Refusal.DPOP_TOKEN_HASH)

    def _check_times(self, claims: dict[str, Any], now: int) -> None:
        issued_at = _integer(claims.get("iat"))
        if not now - self._max_age_seconds <= issued_at <= now + self._clock_skew_seconds:
            raise refused(Refusal.DPOP_TIME)
        # Not asked for by RFC 9449, but whoever says it binds us by RFC 7519 sections 4.1.4 and 4.1.5.
        if now >= _integer(claims.get("exp", now + 1)) + self._clock_skew_seconds:
            raise refused(Refusal.DPOP_TIME)
        if now < _integer(claims.get("nbf", now)) - self._clock_skew_seconds:
            raise refused(Refusal.DPOP_TIME)

    def _follow_clock(self, now: int) -> None:
        if now < self._latest - CLOCK_TOLERANCE_SECONDS:
            self._nonces = DpopNonces(random=self._random)
            self._replays.clear()
            self._latest = now
        self._latest = max(self._latest, now)

    def _use(self, thumbprint: str, claims: dict[str, Any], principal: Principal, now: int) -> None:
        # A thumbprint has always 43 characters, so that no two pairs make the same text.
        digest = hashlib.sha256(f"{thumbprint}{claims['jti']}".encode()).digest()
        last_second = claims["iat"] + self._max_age_seconds + CLOCK_TOLERANCE_SECONDS
        owner = (principal.issuer, principal.subject)
        if not self._replays.use(digest, owner=owner, last_second=last_second, now=now):
            raise refused(Refusal.DPOP_REPLAY)


def check_binding(principal: Principal, thumbprint: str) -> None:
    """Return if the token is bound to the key of this thumbprint.

    Raises AuthnError (DPOP_UNBOUND) where it is bound to none, since a proof would prove nothing; (DPOP_BINDING) where
    it is bound to another.
    """
    bound = principal.key_thumbprint
    if bound is None:
        raise refused(Refusal.DPOP_UNBOUND)
    if not is_same_thumbprint(bound, thumbprint):
        raise refused(Refusal.DPOP_BINDING)


def read_proof(unverified_proof: str) -> UnverifiedProof:
    """The parts of a proof, before anything is computed with its key.

    Raises AuthnError for a wrong size or form, a header that carries what must never be obeyed, or a key that is not
    public or not of the algorithm's kind.
    """
    if len(unverified_proof) > MAX_PROOF_BYTES:
        raise refused(Refusal.DPOP_FORM)
    segments = _COMPACT.fullmatch(unverified_proof)
    if segments is None:
        raise refused(Refusal.DPOP_FORM)
    try:
        header_text, payload, signature = (decode_base64url(text) for text in segments.groups())
        header = parse_json_object(header_text)
    except MalformedError as exc:
        raise refused(Refusal.DPOP_FORM) from exc
    algorithm = _algorithm(header)
    jwk = _jwk(header, algorithm)
    signed = unverified_proof.rpartition(".")[0].encode("ascii")
    return UnverifiedProof(algorithm, jwk, _thumbprint(jwk), signed, payload, signature)


def _only_value(credentials: Credentials) -> str:
    if not credentials.unverified_dpop:
        raise refused(Refusal.DPOP_MISSING)
    if len(credentials.unverified_dpop) > 1:
        raise refused(Refusal.DPOP_SEVERAL)
    return credentials.unverified_dpop[0]


def _algorithm(header: dict[str, Any]) -> str:
    # Without this check a token of another kind that is signed by the same key would pass for a proof.
    if header.get("typ") != "dpop+jwt":
        raise refused(Refusal.DPOP_TYPE)
    if not _FORBIDDEN_MEMBERS.isdisjoint(header):
        raise refused(Refusal.DPOP_FORM)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise refused(Refusal.DPOP_ALGORITHM)
    return algorithm


def _jwk(header: dict[str, Any], algorithm: str) -> dict[str, Any]:
    jwk = header.get("jwk")
    if not isinstance(jwk, dict) or is_secret(jwk):
        raise refused(Refusal.DPOP_KEY)
    if (jwk.get("kty"), jwk.get("crv")) != ALGORITHMS[algorithm]:
        raise refused(Refusal.DPOP_KEY)
    # Clients may leave all three out; what they say binds us (RFC 7517 sections 4.2 to 4.4).
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list):
        raise refused(Refusal.DPOP_KEY)
    if "verify" not in operations or not _is_same_algorithm(jwk.get("alg", algorithm), algorithm):
        raise refused(Refusal.DPOP_KEY)
    return jwk


def _is_same_algorithm(declared: object, algorithm: str) -> bool:
    if not isinstance(declared, str):
        return False
    return _CURRENT_NAMES.get(declared, declared) == _CURRENT_NAMES.get(algorithm, algorithm)


def _thumbprint(jwk: dict[str, Any]) -> str:
    """The JWK thumbprint. Source: RFC 7638 section 3, RFC 8037 section 2."""
    members = {name: jwk.get(name) for name in _THUMBPRINT_MEMBERS[jwk["kty"]]}
    if not all(isinstance(value, str) for value in members.values()):
        raise refused(Refusal.DPOP_KEY)
    text = json.dumps(members, separators=(",", ":"))
    return encode_base64url(hashlib.sha256(text.encode("ascii")).digest())


def _public_key(jwk: dict[str, Any]) -> PublicKey:
    try:
        return public_key_of(jwk)
    except MalformedError as exc:
        raise refused(Refusal.DPOP_KEY) from exc


def _integer(value: object) -> int:
    # bool is a subclass of int, hence no isinstance; fractions have no use here and two spellings.
    if type(value) is not int:
        raise refused(Refusal.DPOP_TIME)
    return value


def _is_hash_of(unverified_hash: object, verified_token: str) -> bool:
    expected = encode_base64url(hashlib.sha256(verified_token.encode("ascii")).digest())
    if not isinstance(unverified_hash, str):
        return False
    return hmac.compare_digest(expected.encode(), unverified_hash.encode("utf-8", "replace"))


def _target_of(unverified_uri: object) -> tuple[str, str] | None:
    """Origin and path of an absolute URI in one spelling, query and fragment left out; None if it is none.

    The path is compared as it was sent: clients that sign one spelling send the same one.
    Source: RFC 9449 section 4.3, RFC 3986 sections 6.2.2.1 and 6.2.3.
    """
    if not isinstance(unverified_uri, str) or len(unverified_uri) > MAX_URI_CHARACTERS:
        return None
    parts = _URI.fullmatch(re.split(r"[?#]", unverified_uri, maxsplit=1)[0])
    if parts is None:
        return None
    scheme, host = parts[1].lower(), parts[2].lower()
    port = parts[3] or _DEFAULT_PORTS.get(scheme, "")
    return f"{scheme}://{host}:{port}", parts[4] or "/"


def _origin_of(public_url: str) -> str:
    target = _target_of(public_url)
    is_origin = target is not None and target[1] == "/" and not {"?", "#"} & {*public_url}
    if target is None or not is_origin or not target[0].startswith("https://"):
        message = (
            f"public URL {public_url!r} is not an origin; name https://HOST or https://HOST:PORT"
        )
        raise SettingsError(Code.SETTINGS_INVALID, message)
    return target[0]
