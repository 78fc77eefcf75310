"""What a proof says: this method, this URL, this moment, this token, this nonce, once."""

import dataclasses
import json
import secrets
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.errors import AuthnError, Code, DpopNonceError, QuotaError, SettingsError
from gateway.identity.dpop import DpopVerifier
from gateway.identity.refusals import Refusal
from tests.gateway.identity.dpop_client import DROP, b64, jwk_of, make_proof, signed, thumbprint_of
from tests.gateway.identity.dpop_world import (
    KEY,
    NOW,
    ORIGIN,
    OTHER,
    PATH,
    PRINCIPAL,
    TOKEN,
    URL,
    T,
    proof,
    refusal_of,
    sent,
)


@pytest.fixture
def verifier() -> DpopVerifier:
    """The verifier of one process."""
    return DpopVerifier(public_url=ORIGIN, random=secrets.token_bytes)


def passes(verifier: DpopVerifier, text: str, *, now: datetime = NOW, path: str = PATH) -> bool:
    """Whether a proof passes; what refuses it raises."""
    return bool(verifier.verify(sent(text, path=path), TOKEN, now, principal=PRINCIPAL))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"htm": DROP}, Refusal.DPOP_METHOD),
        ({"htm": "GET"}, Refusal.DPOP_METHOD),
        ({"htm": "post"}, Refusal.DPOP_METHOD),
        ({"htm": ["POST"]}, Refusal.DPOP_METHOD),
        ({"iat": DROP}, Refusal.DPOP_TIME),
        ({"iat": str(T)}, Refusal.DPOP_TIME),
        ({"iat": float(T)}, Refusal.DPOP_TIME),
        ({"iat": True}, Refusal.DPOP_TIME),
        ({"iat": T - 61}, Refusal.DPOP_TIME),
        ({"iat": T + 61}, Refusal.DPOP_TIME),
        ({"iat": -(10**18)}, Refusal.DPOP_TIME),
        ({"iat": 10**19}, Refusal.DPOP_TIME),
        ({"exp": T - 60}, Refusal.DPOP_TIME),
        ({"exp": None}, Refusal.DPOP_TIME),
        ({"exp": "never"}, Refusal.DPOP_TIME),
        ({"nbf": T + 61}, Refusal.DPOP_TIME),
        ({"nbf": [T]}, Refusal.DPOP_TIME),
        ({"jti": DROP}, Refusal.DPOP_ID),
        ({"jti": ""}, Refusal.DPOP_ID),
        ({"jti": "j" * 257}, Refusal.DPOP_ID),
        ({"jti": "a\nb"}, Refusal.DPOP_ID),
        ({"jti": "\ud800"}, Refusal.DPOP_ID),
        ({"jti": 5}, Refusal.DPOP_ID),
        ({"ath": DROP}, Refusal.DPOP_TOKEN_HASH),
        ({"ath": ""}, Refusal.DPOP_TOKEN_HASH),
        ({"ath": None}, Refusal.DPOP_TOKEN_HASH),
        ({"ath": TOKEN}, Refusal.DPOP_TOKEN_HASH),
        ({"ath": "\ud800" * 43}, Refusal.DPOP_TOKEN_HASH),
        ({"ath": b64(b"\x01" * 32)}, Refusal.DPOP_TOKEN_HASH),
    ],
)
def test_another_claim_is_refused(
    verifier: DpopVerifier, claims: dict[str, Any], expected: Refusal
) -> None:
    """Each is signed by the bound key, so that only the check in question can refuse it."""
    assert expected == refusal_of(verifier, sent(proof(verifier, **claims)))


@pytest.mark.parametrize("payload", [b"[]", b'"a"', b"{", b'{"jti":"a","jti":"b"}', b"\xff"])
def test_a_payload_of_another_form_is_refused(verifier: DpopVerifier, payload: bytes) -> None:
    """Two readers must see the same claims in it."""
    header = b'{"typ":"dpop+jwt","alg":"ES256","jwk":' + json.dumps(jwk_of(KEY)).encode() + b"}"
    text = signed(KEY, "ES256", header, payload)
    assert Refusal.DPOP_FORM == refusal_of(verifier, sent(text))


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": T - 60},
        {"iat": T + 60},
        {"exp": T - 59},
        {"nbf": T + 60},
        {"jti": "j" * 256},
        {"jti": "j"},
        {"aud": "anything", "sub": 5},
    ],
)
def test_a_claim_at_its_edge_passes(verifier: DpopVerifier, claims: dict[str, Any]) -> None:
    """Bounds are exact, and members nobody asks for are ignored."""
    assert passes(verifier, proof(verifier, **claims))


def test_another_token_is_refused(verifier: DpopVerifier) -> None:
    """A proof that was seen with one token is no good with another of the same key."""
    assert Refusal.DPOP_TOKEN_HASH == refusal_of(
        verifier, sent(proof(verifier)), token="eyJh.eyJi.b3RoZXI"
    )


def test_another_request_is_refused(verifier: DpopVerifier) -> None:
    """By what was really sent, not by what the proof says."""
    text = proof(verifier)
    assert Refusal.DPOP_METHOD == refusal_of(verifier, sent(text, method="DELETE"))
    assert Refusal.DPOP_URI == refusal_of(verifier, sent(text, path="/v1/models/other/predict"))
    assert Refusal.DPOP_URI == refusal_of(verifier, sent(text, path=PATH + "/"))


@pytest.mark.parametrize(
    "uri",
    [
        URL,
        "HTTPS://GATEWAY.example:8443" + PATH,
        URL + "?confidence=0.5",
        URL + "#top",
        URL + "?a=b#c?d",
        URL + "?\u00e9",
    ],
)
def test_the_same_uri_in_another_spelling_passes(verifier: DpopVerifier, uri: str) -> None:
    """Case of scheme and host, query and fragment make no difference (RFC 9449 section 4.3)."""
    assert passes(verifier, proof(verifier, htu=uri))


@pytest.mark.parametrize(
    "uri",
    [
        DROP,
        None,
        "",
        [URL],
        PATH,
        "//gateway.example:8443" + PATH,
        "http://gateway.example:8443" + PATH,
        "https://gateway.example" + PATH,
        "https://gateway.example:443" + PATH,
        "https://gateway.example:08443" + PATH,
        "https://gateway.example:84430" + PATH,
        "https://gateway.example.:8443" + PATH,
        "https://other.example:8443" + PATH,
        "https://gateway.example.other.example:8443" + PATH,
        "https://user@gateway.example:8443" + PATH,
        "https://gateway.example:8443@other.example" + PATH,
        "https://gateway.example:8443\\@other.example" + PATH,
        "https://gateway.example:8443",
        ORIGIN + "/",
        ORIGIN + "/" + PATH,
        ORIGIN + PATH.upper(),
        ORIGIN + PATH + "/",
        ORIGIN + "/v1/models/%63onveyor/predict",
        ORIGIN + "/v1/models/other/../conveyor/predict",
        " " + URL,
        URL + "\n",
        URL + "\u00e9",
        URL + "?" + "q" * 2048,
    ],
)
def test_another_uri_is_refused(verifier: DpopVerifier, uri: object) -> None:
    """Another origin, another path, or no absolute URI at all."""
    assert Refusal.DPOP_URI == refusal_of(verifier, sent(proof(verifier, htu=uri)))


@pytest.mark.parametrize("public_url", ["https://gw.example", "https://GW.example:443/"])
@pytest.mark.parametrize(
    "uri", ["https://gw.example", "https://gw.example:443/", "https://gw.example:/"]
)
def test_the_default_port_and_the_empty_path_go_without_saying(public_url: str, uri: str) -> None:
    """RFC 3986 section 6.2.3."""
    verifier = DpopVerifier(public_url=public_url, random=secrets.token_bytes)
    assert passes(verifier, proof(verifier, htu=uri), path="/")


def test_an_address_is_an_origin_too() -> None:
    """In brackets, RFC 3986 section 3.2.2."""
    verifier = DpopVerifier(public_url="https://[::1]:8443", random=secrets.token_bytes)
    assert passes(verifier, proof(verifier, htu="https://[::1]:8443" + PATH))


@pytest.mark.parametrize(
    "public_url",
    [
        "",
        "gateway.example",
        "http://gateway.example",
        "https://gateway.example/prefix",
        "https://gateway.example/?",
        "https://gateway.example#a",
        "https://user@gateway.example",
        "https://",
    ],
)
def test_a_public_url_that_is_no_origin_stops_the_start(public_url: str) -> None:
    """It would refuse every proof."""
    with pytest.raises(SettingsError, match="is not an origin"):
        DpopVerifier(public_url=public_url, random=secrets.token_bytes)


@pytest.mark.parametrize("nonce", [None, "", "nonce", 5, "A" * 43, "\ud800" * 43])
def test_without_a_fresh_nonce_one_is_handed_out(verifier: DpopVerifier, nonce: object) -> None:
    """The caller signs anew with it and passes, with the same id too: the first try took no room."""
    with pytest.raises(DpopNonceError) as caught:
        passes(verifier, proof(verifier, nonce=nonce, jti="once"))
    assert Code.AUTHN_DPOP_NONCE is caught.value.code
    assert Refusal.DPOP_NONCE == caught.value.reason
    assert 0 == len(verifier._replays)
    assert passes(
        verifier, make_proof(KEY, "POST", URL, TOKEN, caught.value.nonce, NOW, jti="once")
    )


def test_a_nonce_of_another_process_is_not_taken(verifier: DpopVerifier) -> None:
    """What a replica or this gateway before its restart has taken cannot be replayed here."""
    other = DpopVerifier(public_url=ORIGIN, random=secrets.token_bytes)
    text = proof(other)
    assert passes(other, text)
    with pytest.raises(DpopNonceError):
        passes(verifier, text)


def test_an_old_nonce_is_not_taken(verifier: DpopVerifier) -> None:
    """A proof signed in advance, with a time to come, ends with the nonce it was signed with."""
    nonce = verifier.next_nonce(NOW)
    last = NOW + timedelta(seconds=599)
    assert passes(verifier, make_proof(KEY, "POST", URL, TOKEN, nonce, last), now=last)
    later = NOW + timedelta(seconds=600)
    with pytest.raises(DpopNonceError):
        passes(verifier, make_proof(KEY, "POST", URL, TOKEN, nonce, later), now=later)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"htm": "GET"}, Refusal.DPOP_METHOD),
        ({"ath": "A" * 43}, Refusal.DPOP_TOKEN_HASH),
        ({"header": {"jwk": jwk_of(OTHER)}}, Refusal.DPOP_BINDING),
    ],
)
def test_a_nonce_is_not_handed_out_for_a_bad_proof(
    verifier: DpopVerifier, changes: dict[str, Any], expected: Refusal
) -> None:
    """Being asked for a nonce would tell a forger that all else is right."""
    text = proof(verifier, nonce=DROP, **changes)
    assert expected == refusal_of(verifier, sent(text))


def test_a_proof_passes_once(verifier: DpopVerifier) -> None:
    """In the same second, and in its last one."""
    text = proof(verifier)
    assert passes(verifier, text)
    assert Refusal.DPOP_REPLAY == refusal_of(verifier, sent(text))
    late = NOW + timedelta(seconds=60)
    assert Refusal.DPOP_REPLAY == refusal_of(verifier, sent(text), now=late)


@pytest.mark.parametrize(("iat", "last"), [(T - 60, 0), (T, 60), (T + 60, 120)])
def test_a_proof_is_remembered_for_as_long_as_it_could_pass(
    verifier: DpopVerifier, iat: int, last: int
) -> None:
    """Up to its last second it is a replay, then it is too old: no second between."""
    text = proof(verifier, iat=iat)
    assert passes(verifier, text)
    for seconds in range(last + 1):
        now = NOW + timedelta(seconds=seconds)
        assert Refusal.DPOP_REPLAY == refusal_of(verifier, sent(text), now=now)
        assert passes(verifier, _other(verifier, now), now=now)
    late = NOW + timedelta(seconds=last + 1)
    assert Refusal.DPOP_TIME == refusal_of(verifier, sent(text), now=late)


def _other(verifier: DpopVerifier, now: datetime) -> str:
    return make_proof(KEY, "POST", URL, TOKEN, verifier.next_nonce(now), now)


def test_a_proof_is_a_replay_in_the_next_slot_of_nonces(verifier: DpopVerifier) -> None:
    """Its nonce is still fresh there."""
    before, after = NOW + timedelta(seconds=299), NOW + timedelta(seconds=301)
    text = make_proof(KEY, "POST", URL, TOKEN, verifier.next_nonce(before), before)
    assert passes(verifier, text, now=before)
    assert verifier.next_nonce(before) != verifier.next_nonce(after)
    assert Refusal.DPOP_REPLAY == refusal_of(verifier, sent(text), now=after)


def test_an_id_is_used_once_by_a_key_and_not_by_all(verifier: DpopVerifier) -> None:
    """Signed anew it is still the same id; another key may use it."""
    assert passes(verifier, proof(verifier, jti="1"))
    again = proof(verifier, jti="1", iat=T - 1)
    assert Refusal.DPOP_REPLAY == refusal_of(verifier, sent(again))
    other = dataclasses.replace(PRINCIPAL, key_thumbprint=thumbprint_of(jwk_of(OTHER)))
    assert verifier.verify(sent(proof(verifier, OTHER, jti="1")), TOKEN, NOW, principal=other)


def test_a_clock_that_is_set_back_voids_all_proofs(verifier: DpopVerifier) -> None:
    """Entries of the cache have ended by the wrong clock; the nonces that they were made with end as well."""
    text = proof(verifier)
    assert passes(verifier, text)
    ahead = NOW + timedelta(hours=1)
    assert passes(verifier, _other(verifier, ahead), now=ahead)
    with pytest.raises(DpopNonceError) as caught:
        passes(verifier, text)
    assert 0 == len(verifier._replays)
    assert passes(verifier, make_proof(KEY, "POST", URL, TOKEN, caught.value.nonce, NOW))


def test_a_call_that_waited_changes_no_nonces(verifier: DpopVerifier) -> None:
    """Its clock was read before that of a call that overtook it; what was noted meanwhile is still known."""
    text = proof(verifier, iat=T - 50)
    assert passes(verifier, text)
    later = NOW + timedelta(seconds=20)
    assert passes(verifier, _other(verifier, later), now=later)
    waited = NOW + timedelta(seconds=10)
    assert Refusal.DPOP_REPLAY == refusal_of(verifier, sent(text), now=waited)
    assert passes(verifier, _other(verifier, waited), now=waited)


def test_a_principal_that_fills_its_room_locks_nobody_out() -> None:
    """It is told to wait, with as many keys as it likes; another principal passes."""
    verifier = DpopVerifier(public_url=ORIGIN, random=secrets.token_bytes, max_replay_entries=8)
    for _ in range(4):
        assert passes(verifier, proof(verifier))
    with pytest.raises(QuotaError) as caught:
        passes(verifier, proof(verifier))
    assert Code.RATE_LIMITED is caught.value.code
    second = dataclasses.replace(PRINCIPAL, key_thumbprint=thumbprint_of(jwk_of(OTHER)))
    with pytest.raises(QuotaError):
        verifier.verify(sent(proof(verifier, OTHER)), TOKEN, NOW, principal=second)
    other = dataclasses.replace(PRINCIPAL, subject="camera-8")
    assert verifier.verify(sent(proof(verifier)), TOKEN, NOW, principal=other)


@pytest.mark.parametrize("changes", [{"jti": ""}, {"nonce": "old"}, {"htm": "GET"}, {"iat": 0}])
def test_refused_proofs_take_no_room(verifier: DpopVerifier, changes: dict[str, Any]) -> None:
    """Only what could pass is noted."""
    with pytest.raises(AuthnError):
        passes(verifier, proof(verifier, **changes))
    assert 0 == len(verifier._replays)


def test_a_window_of_another_size_is_kept() -> None:
    """Both bounds come from the constructor."""
    verifier = DpopVerifier(
        public_url=ORIGIN, random=secrets.token_bytes, max_age_seconds=5, clock_skew_seconds=0
    )
    assert passes(verifier, proof(verifier, iat=T - 5))
    assert Refusal.DPOP_TIME == refusal_of(verifier, sent(proof(verifier, iat=T - 6)))
    assert Refusal.DPOP_TIME == refusal_of(verifier, sent(proof(verifier, iat=T + 1)))
