"""A key set is taken whole and understood, or refused with cause and fix."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Code, SettingsError
from gateway.identity.keysets import load_keyset

DROP = object()


def unsigned(value: int, size: int) -> str:
    """A big-endian number in base64url."""
    return base64.urlsafe_b64encode(value.to_bytes(size)).rstrip(b"=").decode()


# RFC 8037 appendix A.2.
ED: dict[str, Any] = {
    "kty": "OKP",
    "crv": "Ed25519",
    "alg": "EdDSA",
    "kid": "ed",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
POINT = ec.derive_private_key(77, ec.SECP256R1()).public_key().public_numbers()
EC: dict[str, Any] = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ES256",
    "kid": "ec",
    "x": unsigned(POINT.x, 32),
    "y": unsigned(POINT.y, 32),
}
POINT_384 = ec.derive_private_key(78, ec.SECP384R1()).public_key().public_numbers()
EC_384: dict[str, Any] = {
    "kty": "EC",
    "crv": "P-384",
    "alg": "ES384",
    "kid": "ec384",
    "x": unsigned(POINT_384.x, 48),
    "y": unsigned(POINT_384.y, 48),
}
MODULUS = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
RSA: dict[str, Any] = {
    "kty": "RSA",
    "alg": "PS256",
    "kid": "rsa",
    "n": unsigned(MODULUS, 256),
    "e": "AQAB",
}


def document(*keys: object) -> bytes:
    """A key set of these keys."""
    return json.dumps({"keys": keys}).encode()


def changed(key: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A key with some members set, or dropped where the value is DROP."""
    return {k: v for k, v in {**key, **changes}.items() if v is not DROP}


def test_all_kinds_of_keys_are_loaded_with_their_algorithm() -> None:
    """Each key is known by its id and pinned to one algorithm."""
    keyset = load_keyset(document(ED, EC, EC_384, RSA))
    assert {key_id: key.algorithm for key_id, key in keyset.keys.items()} == {
        "ed": "EdDSA",
        "ec": "ES256",
        "ec384": "ES384",
        "rsa": "PS256",
    }
    assert {a for k in keyset.keys.values() for a in k.verifier.get_algorithms()} == {
        "EdDSA",
        "ES256",
        "ES384",
        "PS256",
    }


def test_the_largest_document_is_loaded() -> None:
    """The bound is exact."""
    assert list(load_keyset(document(ED).ljust(65_536)).keys) == ["ed"]


@pytest.mark.parametrize("bits", [2048, 8192])
def test_an_rsa_key_at_either_bound_is_loaded(bits: int) -> None:
    """Only the length counts here, so that the modulus need not be one."""
    key = changed(RSA, n=unsigned(1 << bits - 1 | 1, bits // 8))
    assert load_keyset(document(key)).keys["rsa"].algorithm == "PS256"


def test_a_key_declared_for_verifying_is_loaded() -> None:
    """Both ways of declaring it."""
    keyset = load_keyset(document(changed(ED, use="sig", key_ops=["verify"])))
    assert list(keyset.keys) == ["ed"]


@pytest.mark.parametrize("changes", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": []}])
def test_a_key_for_something_else_is_left_out(changes: dict[str, Any]) -> None:
    """An issuer publishes encryption keys in the same document; they verify nothing."""
    other = changed(RSA, alg="RSA-OAEP", **changes)
    assert list(load_keyset(document(ED, other)).keys) == ["ed"]
    with pytest.raises(SettingsError, match="holds no key for verifying"):
        load_keyset(document(other))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"keys":[],"keys":[]}', "not a JSON object"),
        (b"\xef\xbb\xbf" + document(ED), "not a JSON object"),
        (b"{}", "no list 'keys'"),
        (b'{"keys":{}}', "no list 'keys'"),
        (json.dumps(ED).encode(), "no list 'keys'"),
        (b'{"keys":[]}', "holds no key for verifying"),
        (document("key"), "not an object"),
        (document(ED) + b" " * 65_536, "larger than 65536 bytes"),
        (document(ED, ED), "occurs twice"),
        (document(ED, changed(EC, kid="ed")), "occurs twice"),
    ],
)
def test_a_bad_document_is_refused(content: bytes, message: str) -> None:
    """The message says what is wrong with the document."""
    with pytest.raises(SettingsError, match=message) as caught:
        load_keyset(content)
    assert caught.value.code is Code.SETTINGS_INVALID


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (changed(ED, kty=DROP), "unknown 'kty'"),
        (changed(ED, kty=["OKP"]), "unknown 'kty'"),
        (changed(ED, kty="AKP"), "unknown 'kty'"),
        ({"kty": "oct", "kid": "s", "alg": "HS256", "k": "AAAA"}, "unknown 'kty'"),
        (changed(ED, d="AAAA"), "is a private key"),
        (changed(RSA, p="AAAA"), "is a private key"),
        (changed(RSA, oth=[]), "is a private key"),
        (changed(ED, use="enc", d="AAAA"), "is a private key"),
        (changed(ED, kid=DROP), "no usable 'kid'"),
        (changed(ED, kid=1), "no usable 'kid'"),
        (changed(ED, kid=""), "no usable 'kid'"),
        (changed(ED, kid="k" * 129), "no usable 'kid'"),
        (changed(ED, kid="schlüssel"), "no usable 'kid'"),
        (changed(ED, kid="a\nb"), "no usable 'kid'"),
        (changed(ED, use=["sig"]), "malformed 'use'"),
        (changed(ED, key_ops="verify"), "malformed 'use' or 'key_ops'"),
        (changed(ED, alg=DROP), "needs an 'alg'"),
        (changed(ED, alg="none"), "needs an 'alg'"),
        (changed(ED, alg=["EdDSA"]), "needs an 'alg'"),
        (changed(RSA, alg="RS512"), "needs an 'alg'"),
        (changed(RSA, alg="HS256"), "needs an 'alg'"),
        (changed(ED, alg="ES256"), "does not fit"),
        (changed(ED, crv="Ed448"), "does not fit"),
        (changed(EC, alg="ES384"), "does not fit"),
        (changed(EC, crv="secp256k1"), "does not fit"),
        (changed(EC, crv=DROP), "does not fit"),
        (changed(RSA, crv="P-256"), "does not fit"),
        (changed(ED, x=DROP), "not a valid public key"),
        (changed(ED, x=5), "'x' is not text"),
        (changed(ED, x="AAAA"), "not a valid public key"),
        (changed(ED, x=ED["x"] + "="), "not base64url"),
        (changed(EC, y=EC["x"]), "not a valid public key"),
        (changed(EC, x=unsigned(POINT.x, 33)), "wrong length"),
        (changed(EC, y=EC["y"][:40]), "wrong length"),
        (changed(RSA, n=unsigned(MODULUS >> 1 | 1, 256)), "2048 to 8192 bits"),
        (changed(RSA, n=unsigned(1 << 8192 | 1, 1025)), "2048 to 8192 bits"),
        (changed(RSA, n=unsigned(MODULUS, 257)), "starts with a zero octet"),
        (changed(RSA, n=""), "is empty"),
        (changed(RSA, e="AQ"), "exponent"),
        (changed(RSA, e="Aw"), "exponent"),
        (changed(RSA, e="AQAC"), "exponent"),
        (changed(RSA, e=unsigned((1 << 32) + 1, 5)), "exponent"),
    ],
)
def test_a_bad_key_refuses_the_set(key: dict[str, Any], message: str) -> None:
    """One bad key among good ones stops the start; the message says what to mend."""
    with pytest.raises(SettingsError, match=message):
        load_keyset(document(EC_384, key))


def test_the_message_does_not_repeat_a_private_key() -> None:
    """What has leaked into the file does not leak into the log as well."""
    with pytest.raises(SettingsError) as caught:
        load_keyset(document(changed(ED, d="c2VjcmV0")))
    assert "c2VjcmV0" not in caught.value.message


def test_a_modulus_of_the_weak_generator_is_refused() -> None:
    """A product that is a power of 65537 by every small prime is what CVE-2017-15361 makes."""
    weak = pow(65537, 129)
    assert weak.bit_length() == 2065
    with pytest.raises(SettingsError, match="CVE-2017-15361"):
        load_keyset(document(changed(RSA, n=unsigned(weak, 259))))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@given(
    st.sampled_from([ED, EC, RSA]),
    st.dictionaries(
        st.sampled_from(["kty", "crv", "alg", "kid", "use", "key_ops", "x", "y", "n", "e"]), JSON
    ),
)
@settings(max_examples=300, deadline=None)
def test_any_member_is_understood_or_refused(key: dict[str, Any], changes: dict[str, Any]) -> None:
    """The loader raises nothing but SettingsError."""
    try:
        keyset = load_keyset(document({**key, **changes}))
    except SettingsError:
        return
    assert len(keyset.keys) == 1


@given(st.binary(max_size=50))
def test_any_bytes_are_refused(content: bytes) -> None:
    """Bytes that are no key set raise nothing but SettingsError."""
    with pytest.raises(SettingsError):
        load_keyset(content)
