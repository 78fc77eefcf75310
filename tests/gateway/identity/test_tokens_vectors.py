"""The public Wycheproof vectors, run through the loading of key sets and the signature layer.

Shared secrets and unregistered algorithms are not taken, so a vector's key may be refused when it is
loaded: this too refuses the token. A vector is accepted here if and only if its label says valid and
its key is one of ours; the exceptions stand below by id. A set may come from a file or be fetched, so
each vector runs with either reading.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import AuthnError, SettingsError
from gateway.identity.keysets import KeySet, load_keyset, load_remote_keyset
from gateway.identity.refusals import Refusal
from gateway.identity.tokens import verify_signature

TAKEN = frozenset(
    {"EdDSA", "Ed25519", "ES256", "ES384", "ES512"}
    | {"PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
)
Load = Callable[[bytes], KeySet]

# RFC 7520 examples labelled valid in which token and key name different algorithms (PS384 and
# PS256), or the key an unregistered one (ES521).
MISMATCHED = {346, 347, 350, 351}
# Labelled invalid, yet canonical and correctly signed; 372 and 373 hold a '?' and are labelled valid.
MISLABELLED_INVALID = {367, 370}
MISLABELLED_VALID = {372, 373}


def cases(folder: Path, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of a group's verifying key and a test."""
    document = json.loads((folder / name).read_text())
    groups = document["testGroups"]
    return [(g.get("public") or g["private"], t) for g in groups for t in g["tests"]]


def load_fetched(content: bytes) -> KeySet:
    """The keys of a set as if an issuer had published it."""
    return load_remote_keyset(content)[0]


@pytest.fixture(params=[load_keyset, load_fetched])
def load(request: pytest.FixtureRequest) -> Load:
    """Either reading of a key set."""
    chosen: Load = request.param
    return chosen


def outcome(key: dict[str, Any], token: object, load: Load) -> str:
    """`accepted`, or what refused the token: `keyset` or a Refusal."""
    keyset = key if "keys" in key else {"keys": [key]}
    # A token in JSON serialization is an object; it would arrive as its text.
    text = token if isinstance(token, str) else json.dumps(token)
    try:
        verify_signature(text, keyset=load(json.dumps(keyset).encode()))
    except SettingsError:
        return "keyset"
    except AuthnError as exc:
        return exc.reason
    return "accepted"


def test_every_signature_vector(test_vectors: Path, load: Load) -> None:
    """401 vectors: all invalid ones refused, all valid ones of our algorithms accepted."""
    vectors = cases(test_vectors, "json_web_signature_test.json")
    accepted = {t["tcId"] for key, t in vectors if outcome(key, t["jws"], load) == "accepted"}
    expected = {
        t["tcId"] for key, t in vectors if t["result"] == "valid" and key.get("alg") in TAKEN
    }
    assert len(vectors) == 401
    assert expected - MISMATCHED == accepted
    assert sorted(accepted) == [
        18, 33, 259, 260, 261, 262, 263, 264, 265, 266, 267, 268, 269, 270, 271, 272, 273, 274, 275,
        287, 288, 320, 321, 322, 323, 325, 326, 327, 328, 345, 349, 378,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        (346, Refusal.KEY_ALGORITHM),
        (347, "keyset"),
        (350, Refusal.KEY_ALGORITHM),
        (351, "keyset"),
        (367, "keyset"),
        (370, "keyset"),
        (372, "keyset"),
        (373, "keyset"),
    ],
)
def test_a_disputed_vector_is_refused(
    test_vectors: Path, load: Load, vector: int, expected: str
) -> None:
    """The eight disputed vectors are all refused: by their key, or because key and token differ."""
    vectors = {t["tcId"]: (k, t) for k, t in cases(test_vectors, "json_web_signature_test.json")}
    key, test = vectors[vector]
    assert expected == outcome(key, test["jws"], load)


def test_the_form_of_the_mislabelled_vectors(test_vectors: Path) -> None:
    """The form alone: those labelled invalid are well formed, those labelled valid are not."""
    keyset = load_keyset(
        b'{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"k",'
        b'"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
    )
    reasons: dict[int, str] = {}
    for _, test in cases(test_vectors, "json_web_signature_test.json"):
        if test["tcId"] in MISLABELLED_INVALID | MISLABELLED_VALID:
            with pytest.raises(AuthnError) as caught:
                verify_signature(test["jws"], keyset=keyset)
            reasons[test["tcId"]] = caught.value.reason
    # HS256 is the first thing wrong with a well-formed one.
    assert reasons == {
        367: Refusal.ALGORITHM,
        370: Refusal.ALGORITHM,
        372: Refusal.TOKEN_FORM,
        373: Refusal.TOKEN_FORM,
    }


def test_every_key_vector(test_vectors: Path, load: Load) -> None:
    """26 vectors: the one valid asymmetric key set is taken, no token of another is accepted."""
    vectors = cases(test_vectors, "json_web_key_test.json")
    outcomes = {t["tcId"]: outcome(key, t["jws"], load) for key, t in vectors}
    expected: dict[int, str] = dict.fromkeys(range(1, 27), "keyset")
    expected[5] = "accepted"
    if load is load_fetched:
        # A shared secret beside a good key is left out; the token was made with it.
        expected[1] = Refusal.ALGORITHM
    assert expected == outcomes


def test_every_crypto_vector(test_vectors: Path, load: Load) -> None:
    """83 vectors, encrypted tokens included: accepted are the plain valid ES256 and RS256 tokens."""
    vectors = cases(test_vectors, "json_web_crypto_test.json")
    outcomes = {t["tcId"]: outcome(key, t.get("jws", t.get("jwe")), load) for key, t in vectors}
    assert len(outcomes) == 83
    assert [number for number, result in outcomes.items() if result == "accepted"] == [18, 33]
    assert outcomes[31] == Refusal.ALGORITHM  # The public key used as a shared secret.
    assert outcomes[32] == Refusal.HEADER_MEMBER  # The attacker's key inside the token.
    assert outcomes[46] == "keyset"  # A key of the generator of CVE-2017-15361.
