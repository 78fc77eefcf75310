"""A key set is taken whole and understood, or refused with cause and fix."""

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Code, SettingsError
from gateway.identity.keysets import LeftOut, has_same_keys, load_keyset, load_remote_keyset

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
POINT_521 = ec.derive_private_key(79, ec.SECP521R1()).public_key().public_numbers()
EC_521: dict[str, Any] = {
    "kty": "EC",
    "crv": "P-521",
    "alg": "ES512",
    "kid": "ec521",
    "x": unsigned(POINT_521.x, 66),
    "y": unsigned(POINT_521.y, 66),
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
    keyset = load_keyset(document(ED, EC, EC_384, EC_521, RSA))
    assert {key_id: key.algorithm for key_id, key in keyset.keys.items()} == {
        "ed": "EdDSA",
        "ec": "ES256",
        "ec384": "ES384",
        "ec521": "ES512",
        "rsa": "PS256",
    }
    assert {a for k in keyset.keys.values() for a in k.verifier.get_algorithms()} == {
        "EdDSA",
        "ES256",
        "ES384",
        "ES512",
        "PS256",
    }


@pytest.mark.parametrize("algorithm", ["PS256", "PS384", "PS512", "RS256", "RS384", "RS512"])
def test_an_rsa_key_is_taken_with_any_of_its_algorithms(algorithm: str) -> None:
    """The one that the key names, and no other."""
    key = load_keyset(document(changed(RSA, alg=algorithm))).keys["rsa"]
    assert [algorithm] == key.verifier.get_algorithms()


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
        ({"kty": "oct", "kid": "s", "alg": "HS256", "k": "AAAA"}, "is a private or shared key"),
        ({"kty": "AKP", "kid": "a", "alg": "ML-DSA-44", "priv": "AAAA"}, "private or shared key"),
        (changed(ED, d="AAAA"), "is a private or shared key"),
        (changed(RSA, p="AAAA"), "is a private or shared key"),
        (changed(RSA, oth=[]), "is a private or shared key"),
        (changed(ED, use="enc", d="AAAA"), "is a private or shared key"),
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
        (changed(RSA, alg="RS1"), "needs an 'alg'"),
        (changed(RSA, alg="HS256"), "needs an 'alg'"),
        (changed(ED, alg="ES256"), "does not fit"),
        (changed(ED, crv="Ed448"), "does not fit"),
        (changed(EC, alg="ES384"), "does not fit"),
        (changed(EC, crv="secp256k1"), "does not fit"),
        (changed(EC, crv=DROP), "does not fit"),
        (changed(EC_521, alg="ES256"), "does not fit"),
        (changed(EC_521, x=EC_521["x"][:86]), "wrong length"),
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


def fetched(*members: object) -> tuple[list[str], list[LeftOut]]:
    """The ids of the usable keys of a fetched set, and what was left out."""
    keyset, left_out = load_remote_keyset(document(*members))
    return sorted(keyset.keys), list(left_out)


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        ("key", "not an object"),
        (changed(RSA, alg=DROP), "'rsa' needs an 'alg'"),
        (changed(RSA, alg="RSA-OAEP"), "'rsa' needs an 'alg'"),
        (changed(RSA, kid=DROP), "None has no usable 'kid'"),
        (changed(EC, crv="brainpoolP256r1"), "does not fit"),
        (changed(EC, crv="Ed448", kty="OKP"), "does not fit"),
        (changed(EC, kty="AKP", kid="pq\n\u202e"), r"key 'pq\n\u202e' has an unknown 'kty'"),
        (changed(RSA, n=unsigned(MODULUS >> 1024 | 1, 128)), "2048 to 8192 bits"),
    ],
)
def test_a_faulty_key_of_a_fetched_set_is_left_out(faulty: object, message: str) -> None:
    """The others stay usable, and the log can tell what the issuer's people should mend."""
    keys, left_out = fetched(ED, faulty)
    assert ["ed"] == keys
    assert [False] == [key.is_leak for key in left_out]
    assert message in left_out[0].cause_and_fix


@pytest.mark.parametrize("changes", [{"use": "enc"}, {"key_ops": ["encrypt"]}])
def test_a_fetched_key_for_something_else_is_no_fault(changes: dict[str, Any]) -> None:
    """Providers publish encryption keys in the same set for good reasons."""
    assert (["ed"], []) == fetched(ED, changed(RSA, alg="RSA-OAEP", **changes))


def test_fetched_keys_of_one_id_are_both_left_out() -> None:
    """Nobody could say which of them a token names; the rest of the set stays."""
    keys, left_out = fetched(ED, EC, changed(RSA, kid="ec"))
    assert ["ed"] == keys
    assert ["key set: key 'ec' occurs twice; give each key an id of its own"] == [
        key.cause_and_fix for key in left_out
    ]


def test_an_unusable_key_does_not_take_a_usable_one_with_it() -> None:
    """A signing and an encryption key of one id are not ambiguous: only one of them can verify."""
    encrypting = changed(RSA, kid="ed", alg="RSA-OAEP", use="enc")
    assert (["ed"], []) == fetched(ED, encrypting)


@pytest.mark.parametrize(
    "leaked",
    [
        {"kty": "oct", "kid": "s", "alg": "HS256", "k": "AAAA"},
        changed(EC, d="AAAA"),
        changed(RSA, use="enc", d="AAAA"),
        {"kty": "AKP", "kid": "a", "alg": "ML-DSA-44", "priv": "AAAA"},
    ],
)
def test_a_secret_in_a_fetched_set_is_left_out_and_told_apart(leaked: dict[str, Any]) -> None:
    """The log must be louder about it than about a new curve."""
    keys, left_out = fetched(ED, leaked)
    assert ["ed"] == keys
    assert [True] == [key.is_leak for key in left_out]


@pytest.mark.parametrize(
    "public", [EC, changed(EC, kid="other"), changed(RSA, kid="ec"), changed(ED, kid="ec")]
)
def test_the_public_half_of_a_leaked_key_is_left_out(public: dict[str, Any]) -> None:
    """Everybody can sign with a published private key, wherever its public half stands."""
    keys, left_out = fetched(changed(EC, d="AAAA"), public, EC_384)
    assert ["ec384"] == keys
    assert [True, False] == [key.is_leak for key in left_out]
    assert "is the public half of a key that has leaked" in left_out[1].cause_and_fix


def test_what_was_left_out_does_not_repeat_a_private_key() -> None:
    """It goes to the log."""
    _, left_out = fetched(ED, changed(EC, d="c2VjcmV0"))
    assert "c2VjcmV0" not in left_out[0].cause_and_fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"keys":[],"keys":[]}', "not a JSON object"),
        (b"<html>", "not a JSON object"),
        (b'{"keys":{}}', "no list 'keys'"),
        (document(), "holds no key for verifying"),
        (document(changed(ED, alg=DROP)), "holds no key for verifying"),
        (document(ED, changed(EC, kid="ed")), "holds no key for verifying"),
        (document(ED, *[{}] * 128), "more than 128 keys"),
        (document(ED) + b" " * 65_536, "larger than 65536 bytes"),
    ],
)
def test_a_bad_fetched_document_is_refused(content: bytes, message: str) -> None:
    """No usable key, no strict JSON: the keys of before are the better ones."""
    with pytest.raises(SettingsError, match=message):
        load_remote_keyset(content)


def test_a_fetched_set_of_128_keys_is_taken() -> None:
    """The bound is exact."""
    keys, left_out = fetched(ED, *[{}] * 127)
    assert (["ed"], 127) == (keys, len(left_out))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (document(EC, RSA), True),
        (document(RSA, changed(EC, use="sig")), True),
        (document(RSA), False),
        (document(RSA, EC, ED), False),
        (document(RSA, changed(EC, kid="new")), False),
        (document(EC, changed(RSA, alg="RS256")), False),
        (document(EC, changed(RSA, n=unsigned(MODULUS ^ 2, 256))), False),
    ],
)
def test_sets_are_compared_by_what_they_verify(other: bytes, expected: bool) -> None:
    """Id, algorithm and key material count; order and further members do not."""
    assert expected == has_same_keys(load_keyset(document(EC, RSA)), load_keyset(other))


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


@pytest.mark.parametrize("depth", [300, 900, 940, 960, 980, 5000])
def test_a_deeply_nested_member_is_left_out_or_the_set_refused(depth: int) -> None:
    """The log names a key by its id only where that is text: another value may be too deep to write."""
    nested = b'{"kid":' + b"[" * depth + b"]" * depth + b"}"
    try:
        keyset, left_out = load_remote_keyset(document(ED, "DEEP").replace(b'"DEEP"', nested))
    except SettingsError:
        return
    assert (["ed"], 1) == (list(keyset.keys), len(left_out))


@given(st.lists(st.sampled_from([ED, EC, RSA, changed(EC, d="AAAA")]) | JSON, max_size=4))
@settings(deadline=None)
def test_any_fetched_set_is_read_or_refused(members: list[Any]) -> None:
    """The lenient loader raises nothing but SettingsError, and each member is used or told."""
    try:
        keyset, left_out = load_remote_keyset(document(*members))
    except SettingsError:
        return
    assert 1 <= len(keyset.keys) <= 3
    assert len(keyset.keys) + len(left_out) <= len(members)


def test_a_digest_tells_a_key_from_any_other() -> None:
    """By its algorithm and its public key, and not by its id."""
    digests = load_keyset(document(ED, EC, RSA)).digests()
    assert ["ec", "ed", "rsa"] == sorted(digests)
    assert 3 == len(set(digests.values()))
    assert digests["ed"] == load_keyset(document(changed(ED, kid="other"))).digests()["other"]
    assert digests["ed"] != load_keyset(document(changed(ED, alg="Ed25519"))).digests()["ed"]


def test_a_digest_is_this_text() -> None:
    """An auditor can compute it: SHA-256 of algorithm, zero byte and the key's DER, the first 128 bits."""
    der = bytes.fromhex("302a300506032b6570032100") + base64.urlsafe_b64decode(ED["x"] + "=")
    expected = hashlib.sha256(b"EdDSA\0" + der).hexdigest()[:32]
    assert expected == load_keyset(document(ED)).digests()["ed"]
