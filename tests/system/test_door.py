"""The door of a running gateway over TLS: attackers stay outside, and who is bound to something must show it."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.api.client_certificates import thumbprint
from gateway.errors import SettingsError
from gateway.identity.issue import issue_token, jwks_of
from gateway.identity.keysets import load_keyset
from gateway.store.database import open_database, write_transaction
from gateway.store.queries.audit import load_audit_records
from gateway.store.queries.token_denials import insert_denial
from gateway.store.records import TokenDenial
from tests.gateway.identity import token_attacks
from tests.gateway.identity.dpop_client import jwk_of, make_proof, thumbprint_of
from tests.system.door import (
    ISSUER,
    Door,
    opened_door,
    prepared_home,
    write_client_certificates,
    write_policy,
)

pytestmark = pytest.mark.system

KEY = Ed25519PrivateKey.from_private_bytes(b"\x21" * 32)
PROOF_KEY = Ed25519PrivateKey.from_private_bytes(b"\x22" * 32)
OWN_ISSUER = "https://own.example"
VECTORS = ("json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json")
# Byte for byte what others label valid, or the other way round; whatever they are called, none is an access token.
DISPUTED = {367, 370, 372, 373}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway that trusts the attacked issuer and one of ours, takes client certificates, and tires of nobody."""
    layout = prepared_home(tmp_path_factory.mktemp("door"))
    own, attacked = layout.keys / "own.json", layout.keys / "attacked.json"
    own.write_bytes(jwks_of([KEY.public_key()]))
    attacked.write_bytes(token_attacks.jwks())
    policy = layout.state / "policy.toml"
    write_policy(policy, {OWN_ISSUER: own, ISSUER: attacked})
    write_client_certificates(layout.certificates, ["camera", "other"])
    environment = {
        "GATEWAY_POLICY_FILE": str(policy),
        "GATEWAY_CLIENT_CERTIFICATES": "optional",
        "GATEWAY_CLIENT_CA_FILE": str(layout.certificates / "client-ca.pem"),
        "GATEWAY_ADDRESS_FAILURE_RATE": "",
    }
    with opened_door(layout, environment) as opened:
        yield opened


def token(role: str = "client", **claims: Any) -> str:
    """A good token of our issuer, issued now."""
    facts: dict[str, Any] = {"subject": "camera-7", "token_id": f"t-{time.monotonic_ns()}"}
    return issue_token(
        signing_key=KEY,
        issuer=OWN_ISSUER,
        audience="gatewatch",
        client_id="tests",
        roles=[role],
        lifetime_seconds=600,
        now=datetime.now(UTC),
        **{**facts, **claims},
    )


def ask(client: httpx.Client, unverified_token: str, **headers: str) -> httpx.Response:
    """What a call with this token gets."""
    # White space around a field's value is no part of it (RFC 9110 section 5.5), and the client library refuses it.
    sent = {"Authorization": f"Bearer {unverified_token}".strip(), **headers}
    return client.get("/v1/model", headers=sent)


def reason_of(door: Door, answer: httpx.Response) -> str:
    """Why the ledger says that it was refused."""
    engine = open_database(door.environment["GATEWAY_DATABASE_URL"])
    with engine.connect() as connection:
        records = load_audit_records(connection, "gateway", limit=100_000)
    engine.dispose()
    bodies = [json.loads(record.body) for record in records]
    reasons = [b["reason"] for b in bodies if b["request_id"] == answer.headers["x-request-id"]]
    return str(reasons[-1])


def test_every_forged_token_is_refused(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """All attacks of our own, made for this moment; what no header field can carry never reaches the door."""
    monkeypatch.setattr(token_attacks, "T", int(time.time()))
    answered: dict[str, tuple[int, str]] = {}
    with door.client() as client:
        assert 200 == ask(client, token_attacks.with_claims()).status_code
        for name, attack, _ in token_attacks.ATTACKS:
            # Anew for each: one that is judged a second too late is another attack, or none.
            monkeypatch.setattr(token_attacks, "T", int(time.time()))
            text = attack()
            if not (text.isascii() and text.isprintable()) or len(text) > 30_000:
                continue
            answer = ask(client, text)
            answered[name] = (answer.status_code, answer.json()["code"])
    assert len(answered) >= 140
    assert {(401, "authn_invalid")} == set(answered.values())


def test_every_public_vector_is_refused(door: Door, test_vectors: Path) -> None:
    """No vector is an access token of a trusted issuer, whether its signature is good, bad or disputed."""
    statuses: dict[tuple[str, int], int] = {}
    with door.client() as client:
        for name in VECTORS:
            document = json.loads((test_vectors / name).read_text(encoding="utf-8"))
            for group in document["testGroups"]:
                for test in group["tests"]:
                    text = test.get("jws", test.get("jwe"))
                    text = text if isinstance(text, str) else json.dumps(text)
                    statuses[name, test["tcId"]] = ask(client, text).status_code
    assert 401 + 26 + 83 == len(statuses)
    assert {401} == set(statuses.values())
    assert {(VECTORS[0], number) for number in DISPUTED} <= statuses.keys()


def test_every_vector_signed_into_an_access_token_is_refused(
    tmp_path: Path, door: Door, test_vectors: Path
) -> None:
    """The keys of the vectors themselves are trusted, as far as a key set of theirs is taken at all."""
    keys: dict[str, dict[str, Any]] = {}
    invalid: list[str] = []
    for name in VECTORS:
        document = json.loads((test_vectors / name).read_text(encoding="utf-8"))
        for group in document["testGroups"]:
            key = group.get("public") or group["private"]
            for one in key.get("keys", [key]):
                if _is_taken(one):
                    keys.setdefault(one["kid"], one)
            invalid += [
                test["jws"]
                for test in group["tests"]
                if test["result"] == "invalid" and isinstance(test.get("jws"), str)
            ]
    trusted, policy = tmp_path / "vectors.json", tmp_path / "policy.toml"
    trusted.write_text(json.dumps({"keys": list(keys.values())}), encoding="utf-8")
    trusted.chmod(0o644)
    write_policy(policy, {ISSUER: trusted})
    environment = {"GATEWAY_POLICY_FILE": str(policy), "GATEWAY_ADDRESS_FAILURE_RATE": ""}
    with opened_door(door.layout, environment) as of_vectors, of_vectors.client() as client:
        statuses = [ask(client, text).status_code for text in invalid]
    assert len(keys) >= 5
    assert len(statuses) >= 350
    assert {401} == set(statuses)


def _is_taken(key: dict[str, Any]) -> bool:
    try:
        load_keyset(json.dumps({"keys": [key]}).encode())
    except SettingsError:
        return False
    return True


@pytest.mark.parametrize(
    ("shown", "status"), [("camera", 200), ("other", 401), (None, 401)], ids=str
)
def test_a_token_bound_to_a_certificate_wants_that_one(
    door: Door, shown: str | None, status: int
) -> None:
    """RFC 8705: whoever stole the token has not the key of the certificate."""
    certificate = (door.layout.certificates / "camera.pem").read_bytes()
    bound = token(certificate_thumbprint=_thumbprint_of_pem(certificate))
    with door.client(shown) as client:
        assert status == ask(client, bound).status_code


def test_a_certificate_in_a_header_is_none(door: Door) -> None:
    """Only the handshake counts, whatever a proxy's header would say."""
    certificate = (door.layout.certificates / "camera.pem").read_bytes()
    bound = token(certificate_thumbprint=_thumbprint_of_pem(certificate))
    spoofed = {"X-Client-Cert": "MIIB", "X-SSL-Client-Verify": "SUCCESS"}
    with door.client() as client:
        answer = ask(client, bound, **spoofed)
    assert 401 == answer.status_code
    assert "certificate" == reason_of(door, answer)


def _thumbprint_of_pem(pem: bytes) -> str:
    from cryptography import x509

    return thumbprint(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))


class DpopClient:
    """A client that proves to hold PROOF_KEY."""

    def __init__(self, door: Door, client: httpx.Client, bound: str) -> None:
        self.door = door
        self.client = client
        self.token = bound
        self.nonce: str | None = None

    def proof(self, **changes: Any) -> str:
        """A proof for GET /v1/model."""
        url = changes.pop("url", f"{self.door.url}/v1/model")
        key = changes.pop("key", PROOF_KEY)
        return make_proof(key, "GET", url, self.token, self.nonce, datetime.now(UTC), **changes)

    def ask(self, proof: str | None, scheme: str = "DPoP") -> httpx.Response:
        """One call; the nonce for the next is remembered."""
        headers = {"Authorization": f"{scheme} {self.token}"}
        if proof is not None:
            headers["DPoP"] = proof
        answer = self.client.get("/v1/model", headers=headers)
        self.nonce = answer.headers.get("dpop-nonce", self.nonce)
        return answer


@pytest.fixture
def dpop(door: Door) -> Iterator[DpopClient]:
    """A client with a token bound to its key, which knows the gateway's nonce already."""
    bound = token(key_thumbprint=thumbprint_of(jwk_of(PROOF_KEY)))
    with door.client() as client:
        made = DpopClient(door, client, bound)
        first = made.ask(made.proof())
        assert 401 == first.status_code
        assert 'error="use_dpop_nonce"' in first.headers["www-authenticate"]
        yield made


def test_a_proof_opens_the_door(dpop: DpopClient) -> None:
    """RFC 9449: with the nonce of the first answer the second call passes, and brings the next nonce."""
    answer = dpop.ask(dpop.proof())
    assert 200 == answer.status_code
    assert answer.headers["dpop-nonce"]


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (lambda c: c.ask(None, "Bearer"), "dpop_missing"),
        (lambda c: c.ask(None), "dpop_missing"),
        (lambda c: c.ask(c.proof(), "Bearer"), "dpop_missing"),
        (lambda c: c.ask(c.proof(url=f"{c.door.url}/predict")), "dpop_uri"),
        (lambda c: c.ask(c.proof(url="https://evil.example/v1/model")), "dpop_uri"),
        (lambda c: c.ask(c.proof(htm="POST")), "dpop_method"),
        (lambda c: c.ask(c.proof(ath="A" * 43)), "dpop_token_hash"),
        (lambda c: c.ask(c.proof(iat=int(time.time()) - 3600)), "dpop_time"),
        (lambda c: c.ask(c.proof(key=KEY)), "dpop_binding"),
    ],
)
def test_a_stolen_token_without_its_key_is_worth_nothing(
    door: Door, dpop: DpopClient, attack: Callable[[DpopClient], httpx.Response], reason: str
) -> None:
    """Each way of doing without the right proof."""
    answer = attack(dpop)
    assert 401 == answer.status_code
    assert reason == reason_of(door, answer)


def test_a_proof_is_good_once(door: Door, dpop: DpopClient) -> None:
    """Whoever saw it on its way cannot send it again."""
    proof = dpop.proof()
    assert 200 == dpop.ask(proof).status_code
    again = dpop.ask(proof)
    assert 401 == again.status_code
    assert "dpop_replay" == reason_of(door, again)


def test_operators_need_a_second_factor_that_is_fresh(door: Door) -> None:
    """RFC 9470: the challenge says what would do; a fresh one comes as far as the model that is not there."""
    now = datetime.now(UTC)
    weak = token("operator")
    old = token("operator", amr=["mfa"], auth_time=now - timedelta(minutes=16))
    strong = token("operator", amr=["mfa"], auth_time=now)
    with door.client() as client:
        answers = [
            client.post(
                "/v1/models/absent/promote",
                json={"version": "1"},
                headers={"Authorization": f"Bearer {each}"},
            )
            for each in (weak, old, strong)
        ]
    assert [401, 401, 404] == [answer.status_code for answer in answers]
    assert ["authn_step_up", "authn_step_up", "model_unknown"] == [
        answer.json()["code"] for answer in answers
    ]
    assert 'max_age="900"' in answers[0].headers["www-authenticate"]
    assert "factor_missing" == reason_of(door, answers[0])
    assert "auth_time_old" == reason_of(door, answers[1])


def test_a_denied_token_is_refused_within_a_second(door: Door) -> None:
    """From the commit in the database to the refusal, the best of three: other work on the machine may delay one."""
    seconds = []
    engine = open_database(door.environment["GATEWAY_DATABASE_URL"])
    with door.client() as client:
        for number in range(3):
            denied = token(token_id=f"denied-{number}")
            assert 200 == ask(client, denied).status_code
            with write_transaction(engine) as connection:
                insert_denial(connection, _denial(f"denied-{number}"))
            start = time.monotonic()
            answer = ask(client, denied)
            while answer.status_code == 200:
                assert time.monotonic() - start < 30
                answer = ask(client, denied)
            seconds.append(time.monotonic() - start)
            assert (401, "denied") == (answer.status_code, reason_of(door, answer))
    engine.dispose()
    assert min(seconds) < 1.0


def _denial(token_id: str) -> TokenDenial:
    return TokenDenial(
        issuer=OWN_ISSUER,
        subject=None,
        token_id=token_id,
        issued_before=None,
        ends_at=None,
        why="a test",
        created_at=datetime.now(UTC),
        created_by="tests",
    )


def test_who_guesses_is_slowed_down_and_good_neighbours_are_not(door: Door) -> None:
    """An address that had credentials refused too often gets 429; a token that was good before still passes."""
    environment = {
        "GATEWAY_POLICY_FILE": str(door.layout.state / "policy.toml"),
        "GATEWAY_ADDRESS_FAILURE_RATE": "5/minute",
    }
    good = token()
    with opened_door(door.layout, environment) as small, small.client() as client:
        assert 200 == ask(client, good).status_code
        guesses = [ask(client, "guess").status_code for _ in range(20)]
        assert 200 == ask(client, good).status_code
        last = ask(client, "guess")
        refusals = small.metric("gateway_quota_refusals_total", limit="address_failures")
    assert [401] * 5 + [429] * 15 == guesses
    assert "rate_limited" == last.json()["code"]
    assert int(last.headers["retry-after"]) >= 1
    assert 16 == refusals
    with_record = [
        body for body in _bodies(door) if body["code"] == "rate_limited" and body["action"]
    ]
    assert 1 == len(with_record)


def _bodies(door: Door) -> list[dict[str, Any]]:
    engine = open_database(door.environment["GATEWAY_DATABASE_URL"])
    with engine.connect() as connection:
        records = load_audit_records(connection, "gateway", limit=100_000)
    engine.dispose()
    return [json.loads(record.body) for record in records]


def test_a_daily_budget_is_told_and_ends(door: Door, frame: bytes) -> None:
    """Answers say what is left; past the last image comes 429 until midnight, after a restart too."""
    environment = {
        "GATEWAY_POLICY_FILE": str(door.layout.state / "policy.toml"),
        "GATEWAY_DAILY_IMAGES": "2",
    }
    caller = {"Authorization": f"Bearer {token(subject=f'camera-{time.monotonic_ns()}')}"}
    answers = []
    for _ in range(2):
        with opened_door(door.layout, environment) as small, small.client() as client:
            answers += [client.post("/predict", content=frame, headers=caller) for _ in range(2)]
    assert [200, 200, 429, 429] == [answer.status_code for answer in answers]
    assert '"daily_images";q=2;w=86400' in answers[0].headers["ratelimit-policy"]
    assert '"daily_images";r=1;t=' in answers[0].headers["ratelimit"]
    assert "quota_exhausted" == answers[2].json()["code"]
