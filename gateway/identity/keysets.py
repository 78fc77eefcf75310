"""The public keys of an issuer, read strictly from a JSON Web Key Set.

Rules:
- Each key names its one algorithm, and the key's kind fits it: a token cannot choose another.
- Keys declared for something else (`use`, `key_ops`) are left out. Every other fault of a file refuses
  the whole set, because an operator must hear of it at the start and not by way of refused callers.
- A set fetched from an issuer is not the operator's to mend: there a faulty key is left out and told.
  Two usable keys of one id are both left out, for nobody could say which of them a token names.
- Public keys only: a private key in a set is a leak, a shared secret would let readers sign. Whatever
  has the id or the material of a leaked key is left out with it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, TypeGuard

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from gateway.errors import Code, SettingsError
from gateway.identity.wire import (
    MalformedError,
    decode_base64url,
    is_bounded_text,
    parse_json_object,
)

MAX_KEYSET_BYTES = 64 * 1024
MAX_REMOTE_KEYS = (
    128  # Of all kinds; providers publish a handful, and each fault is told in the log.
)
MAX_KEY_ID_CHARACTERS = 128
MIN_RSA_BITS = 2048  # NIST SP 800-131A: less is no longer allowed.
MAX_RSA_BITS = 8192  # More makes every verification slow.
MIN_RSA_EXPONENT = 65537  # FIPS 186-5 section A.1.1.

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey

# Algorithm name to key type and curve. EdDSA is the old name of Ed25519 (RFC 9864 section 2.2).
ALGORITHMS: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "EdDSA": ("OKP", "Ed25519"),
        "Ed25519": ("OKP", "Ed25519"),
        "ES256": ("EC", "P-256"),
        "ES384": ("EC", "P-384"),
        "ES512": ("EC", "P-521"),
        "PS256": ("RSA", None),
        "PS384": ("RSA", None),
        "PS512": ("RSA", None),
        "RS256": ("RSA", None),
        "RS384": ("RSA", None),
        "RS512": ("RSA", None),
    }
)

_CURVES: Mapping[str, Callable[[], ec.EllipticCurve]] = MappingProxyType(
    {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
)
_KEY_TYPES = ("EC", "OKP", "RSA")  # A tuple, since what is looked up may be a list.
_ROCA_PRIMES = tuple(n for n in range(3, 168) if all(n % d for d in range(2, int(n**0.5) + 1)))
# RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1; `priv` is ML-DSA's.
_SECRET_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_IDENTIFYING_MEMBERS = ("kid", "n", "x", "pub")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key with the one algorithm it may be used with; verifier knows no other."""

    key_id: str
    algorithm: str
    public_key: PublicKey
    verifier: jwt.PyJWS


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer by key id, at least one."""

    keys: Mapping[str, VerificationKey]

    def digests(self) -> dict[str, str]:
        """By key id, what tells its algorithm and public key from any other: 32 hexadecimal digits."""
        return {key_id: _digest(key) for key_id, key in self.keys.items()}


def _digest(key: VerificationKey) -> str:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    content = key.algorithm.encode("ascii") + b"\0" + key.public_key.public_bytes(encoding, form)
    return hashlib.sha256(content).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A key of a fetched set that is not used: cause and fix, and whether the issuer published a secret."""

    cause_and_fix: str
    is_leak: bool


def load_keyset(content: bytes) -> KeySet:
    """The usable keys of a JSON Web Key Set.

    Raises SettingsError naming the key, the cause and the fix. Source: RFC 7517, RFC 7518 section 6,
    RFC 8037 section 2.
    """
    keys: dict[str, VerificationKey] = {}
    for member in _members(content):
        key = _load_key(member)
        if key is None:
            continue
        if key.key_id in keys:
            raise _refused(key.key_id, "occurs twice; give each key an id of its own")
        keys[key.key_id] = key
    if not keys:
        raise _no_key()
    return KeySet(MappingProxyType(keys))


def load_remote_keyset(content: bytes) -> tuple[KeySet, tuple[LeftOut, ...]]:
    """The usable keys of a JSON Web Key Set that an issuer publishes, and which others were left out.

    Keys declared for something other than verifying are no fault and not told. Raises SettingsError if
    no key is usable, for a set of more than 128 keys, and for what is no key set in strict JSON.
    Source: RFC 7517 section 5, which has unknown kinds of keys ignored.
    """
    members = _members(content)
    if len(members) > MAX_REMOTE_KEYS:
        raise _set_refused(f"it holds more than {MAX_REMOTE_KEYS} keys; remove retired ones")
    leaked = _leaked(members)
    usable: list[VerificationKey] = []
    left_out: list[LeftOut] = []
    for member in members:
        try:
            _check_not_leaked(member, leaked)
            key = _load_key(member)
        except SettingsError as exc:
            left_out.append(LeftOut(exc.message, is_leak=is_secret(member)))
            continue
        if key is not None:
            usable.append(key)
    counts = Counter(key.key_id for key in usable)
    keys = {key.key_id: key for key in usable if counts[key.key_id] == 1}
    left_out.extend(_ambiguous(key_id) for key_id, count in counts.items() if count > 1)
    if not keys:
        raise _no_key()
    return KeySet(MappingProxyType(keys)), tuple(left_out)


def has_same_keys(keyset: KeySet, other: KeySet) -> bool:
    """Whether two sets hold the same keys under the same ids for the same algorithms."""
    return _comparable(keyset) == _comparable(other)


def _comparable(keyset: KeySet) -> dict[str, tuple[str, PublicKey]]:
    return {key.key_id: (key.algorithm, key.public_key) for key in keyset.keys.values()}


def _members(content: bytes) -> list[Any]:
    if len(content) > MAX_KEYSET_BYTES:
        raise _set_refused(f"it is larger than {MAX_KEYSET_BYTES} bytes; remove retired keys")
    try:
        members = parse_json_object(content).get("keys")
    except MalformedError as exc:
        raise _set_refused(f"it is not a JSON object ({exc}); export it again") from exc
    if not isinstance(members, list):
        raise _set_refused("it has no list 'keys'; name a JSON Web Key Set (RFC 7517)")
    return members


def _load_key(member: object) -> VerificationKey | None:
    """One key, or None where it is declared for something other than verifying."""
    if not isinstance(member, dict):
        raise _set_refused("a key in it is not an object; export it again")
    name = _name(member)
    if is_secret(member):
        raise _refused(
            name, "is a private or shared key; replace it, for it has leaked, by a public one"
        )
    if member.get("kty") not in _KEY_TYPES:
        raise _refused(name, f"has an unknown 'kty'; only {', '.join(_KEY_TYPES)} are taken")
    if not is_key_id(member.get("kid")):
        raise _refused(name, "has no usable 'kid'; give it 1 to 128 printable ASCII characters")
    if not _is_for_verifying(member, name):
        return None
    algorithm = _pinned_algorithm(member, name)
    try:
        public_key = public_key_of(member)
    except MalformedError as exc:
        raise _refused(name, f"is not a valid public key ({exc}); export it again") from exc
    return VerificationKey(member["kid"], algorithm, public_key, verifier_of(algorithm))


def public_key_of(member: dict[str, Any]) -> PublicKey:
    """The public key in a JSON Web Key; that it holds no secret and fits an algorithm is for the caller to check.

    member: with a `kty` and `crv` out of ALGORITHMS. Raises MalformedError for anything but the one spelling of a
    valid key. Source: RFC 7518 section 6, RFC 8037 section 2.
    """
    try:
        return _PARSERS[member["kty"]](member)
    except (KeyError, ValueError) as exc:
        raise MalformedError(str(exc)) from exc


def _name(member: dict[str, Any]) -> str:
    # Escaped, so that nothing in it breaks a line of the log; what is no text may nest too deep for that.
    key_id = member.get("kid")
    return ascii(key_id if isinstance(key_id, str) else None)[:MAX_KEY_ID_CHARACTERS]


def is_secret(member: object) -> bool:
    """Whether a JSON Web Key holds more than a public key."""
    return isinstance(member, dict) and not _SECRET_MEMBERS.isdisjoint(member)


def _leaked(members: Iterable[object]) -> frozenset[tuple[str, str]]:
    """The ids and public halves of the keys whose secret half is in the set."""
    return frozenset(
        found for member in members if is_secret(member) for found in _identifying(member)
    )


def _identifying(member: object) -> Iterable[tuple[str, str]]:
    if isinstance(member, dict):
        for name in _IDENTIFYING_MEMBERS:
            value = member.get(name)
            if isinstance(value, str):
                yield name, value


def _check_not_leaked(member: object, leaked: frozenset[tuple[str, str]]) -> None:
    if not isinstance(member, dict) or is_secret(member):
        return  # Refused further on, by its own fault.
    if not leaked.isdisjoint(_identifying(member)):
        raise _refused(_name(member), "is the public half of a key that has leaked; replace it")


def _ambiguous(key_id: str) -> LeftOut:
    fault = _refused(repr(key_id), "occurs twice; give each key an id of its own")
    return LeftOut(fault.message, is_leak=False)


def is_key_id(value: object) -> TypeGuard[str]:
    """Whether a value may be a key id: 1 to 128 printable ASCII characters."""
    return is_bounded_text(value, max_characters=MAX_KEY_ID_CHARACTERS) and value.isascii()


def _is_for_verifying(member: dict[str, Any], name: str) -> bool:
    use = member.get("use", "sig")
    operations = member.get("key_ops", ["verify"])
    if not isinstance(use, str) or not isinstance(operations, list):
        raise _refused(name, "has a malformed 'use' or 'key_ops'; export it again")
    return use == "sig" and "verify" in operations


def _pinned_algorithm(member: dict[str, Any], name: str) -> str:
    algorithm = member.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _refused(name, f"needs an 'alg' out of {', '.join(ALGORITHMS)}")
    key_type, curve = ALGORITHMS[algorithm]
    if (member["kty"], member.get("crv")) != (key_type, curve):
        raise _refused(name, f"does not fit its 'alg' {algorithm}; correct 'alg', 'kty' or 'crv'")
    return algorithm


def verifier_of(algorithm: str) -> jwt.PyJWS:
    """What verifies by this one algorithm out of ALGORITHMS and knows no other."""
    if algorithm != "Ed25519":
        return jwt.PyJWS(algorithms=[algorithm])
    # PyJWT knows this algorithm under its old name only.
    verifier = jwt.PyJWS(algorithms=[])
    verifier.register_algorithm("Ed25519", OKPAlgorithm())
    return verifier


def _ed25519_key(member: dict[str, Any]) -> PublicKey:
    return Ed25519PublicKey.from_public_bytes(_octets(member, "x"))


def _ec_key(member: dict[str, Any]) -> PublicKey:
    curve = _CURVES[member["crv"]]()
    size = (curve.key_size + 7) // 8
    x, y = _octets(member, "x"), _octets(member, "y")
    if len(x) != size or len(y) != size:  # RFC 7518 section 6.2.1.2: full length, zeros included.
        raise MalformedError("a coordinate has the wrong length")
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve)
    return numbers.public_key()  # Refuses a point that is not on the curve.


def _rsa_key(member: dict[str, Any]) -> PublicKey:
    modulus, exponent = _unsigned(member, "n"), _unsigned(member, "e")
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise MalformedError(f"the modulus has not {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    if not MIN_RSA_EXPONENT <= exponent < 1 << 32 or exponent % 2 == 0:
        raise MalformedError("the exponent is not odd and at least 65537")
    if _is_roca(modulus):
        raise MalformedError("its modulus can be factored, CVE-2017-15361")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


_PARSERS: Mapping[str, Callable[[dict[str, Any]], PublicKey]] = MappingProxyType(
    {"OKP": _ed25519_key, "EC": _ec_key, "RSA": _rsa_key}
)


def _octets(member: dict[str, Any], name: str) -> bytes:
    value = member[name]
    if not isinstance(value, str):
        raise MalformedError(f"{name!r} is not text")
    return decode_base64url(value)


def _unsigned(member: dict[str, Any], name: str) -> int:
    octets = _octets(member, name)
    if octets[:1] in {b"", b"\0"}:  # RFC 7518 section 2, Base64urlUInt: the shortest form only.
        raise MalformedError(f"{name!r} is empty or starts with a zero octet")
    return int.from_bytes(octets)


def _is_roca(modulus: int) -> bool:
    """Whether an RSA modulus comes from the key generator whose primes are powers of 65537.

    A modulus made otherwise passes with a chance below 1 in 10^8. Source: Nemec, Sys, Svenda,
    Klinec, Matyas, The Return of Coppersmith's Attack, CCS 2017, section 2.
    """
    return all(modulus % prime in _powers_of_65537(prime) for prime in _ROCA_PRIMES)


@cache
def _powers_of_65537(prime: int) -> frozenset[int]:
    return frozenset(pow(65537, exponent, prime) for exponent in range(prime - 1))


def _no_key() -> SettingsError:
    return _set_refused("it holds no key for verifying signatures; add the issuer's public key")


def _set_refused(cause_and_fix: str) -> SettingsError:
    return SettingsError(Code.SETTINGS_INVALID, f"key set: {cause_and_fix}")


def _refused(name: str, cause_and_fix: str) -> SettingsError:
    return _set_refused(f"key {name} {cause_and_fix}")
