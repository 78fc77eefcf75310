"""Records as OCSF events: valid by the public schema, and nothing of a record lost or made up."""

import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit.details import format_detail
from gateway.audit.entries import encode_event
from gateway.audit.events import MAX_CHARACTERS, Action, AuditEvent, Outcome
from gateway.audit.ocsf import ACTIVITIES, SCHEMA_VERSION, activity_of, ocsf_event
from gateway.errors import Code
from tests.ocsf_schema import Schema

README = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
TIME = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
PLACE: dict[str, Any] = {
    "origin": "gw-1", "position": 7, "leaf_hash": b"\x0a" * 32, "product_version": "9.9",
}  # fmt: skip
NEW_IN_2 = {"token_id", "certificate_thumbprint"}
NEW_IN_3 = {"authentication", "proof_key_thumbprint", "detail", "pseudonymised"}
CALL: dict[str, Any] = {
    "request_id": "r-1",
    "issuer": "https://issuer.example",
    "subject": "alice",
    "client_id": "camera",
    "token_id": "jti-1",
    "certificate_thumbprint": "thumb",
    "address": "192.0.2.7",
    "method": "POST",
    "route": "/v1/predict",
    "model_name": "belt",
    "model_version": "7",
    "input_sha256": "5f" * 32,
    "input_bytes": 181_000,
    "result_digest": "a0" * 32,
    "result_count": 3,
    "reason": "why",
    "authentication": "urn:acr pwd otp",
    "proof_key_thumbprint": "proof",
    "detail": "role=operator",
    "pseudonymised": "subject",
}


@pytest.fixture(scope="session")
def schema(test_schemas: Path) -> Schema:
    """The public schema."""
    return Schema(test_schemas / "ocsf")


def body_of(action: Action, outcome: Outcome, **fields: Any) -> dict[str, Any]:
    """The members of a record's body."""
    event = AuditEvent(action=action, outcome=outcome, recorded_at=TIME)
    members: dict[str, Any] = json.loads(encode_event(dataclasses.replace(event, **fields)).body)
    return members


def event_of(action: Action, outcome: Outcome, **fields: Any) -> dict[str, Any]:
    """The event of a record."""
    return ocsf_event(body_of(action, outcome, **fields), **PLACE)


def values_of(event: Any) -> list[Any]:
    """Every value that stands somewhere in an event."""
    if isinstance(event, dict):
        return [value for member in event.values() for value in values_of(member)]
    return [event]


def test_every_action_has_its_class() -> None:
    """A new action needs a decision."""
    assert set(Action) == set(ACTIVITIES)


def test_the_readme_has_the_mapping() -> None:
    """A row a class and activity, with its actions."""
    rows = re.findall(r"^\| [\w ]+ (\d{4}) \| (\w+) (\d+) \| (`.*) \|$", README, re.MULTILINE)
    listed = {
        action: (int(class_uid), name, int(activity_id))
        for class_uid, name, activity_id, actions in rows
        for action in re.findall(r"`([a-z.]+)`", actions)
    }
    assert listed == {
        action.value: (activity.ocsf_class.uid, activity.name, activity.id)
        for action, activity in ACTIVITIES.items()
    }


def test_the_version_is_the_schemas(schema: Schema) -> None:
    """What events call themselves is what they are checked by."""
    assert SCHEMA_VERSION == schema.version


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("action", Action)
def test_events_are_valid(schema: Schema, action: Action, outcome: Outcome) -> None:
    """Each action with each outcome: with everything that a record can say, and with nothing."""
    for code in (None, *Code):
        assert [] == schema.faults(event_of(action, outcome, code=code))
        assert [] == schema.faults(event_of(action, outcome, code=code, **CALL))


@pytest.mark.parametrize(("number", "lacks"), [(2, NEW_IN_3), (1, NEW_IN_2 | NEW_IN_3)])
def test_records_of_releases_before_are_valid(schema: Schema, number: int, lacks: set[str]) -> None:
    """They lack members; their format is told."""
    for action in Action:
        body = body_of(action, Outcome.ANSWERED, **CALL)
        older = {name: value for name, value in body.items() if name not in lacks}
        event = ocsf_event(older | {"format": number}, **PLACE)
        assert [] == schema.faults(event)
        assert str(number) == event["metadata"]["log_version"]


texts = st.none() | st.text(max_size=40)
times = st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001  (hypothesis adds the zone)
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(
    action=st.sampled_from(Action),
    outcome=st.sampled_from(Outcome),
    code=st.none() | st.sampled_from(Code),
    recorded_at=times,
    address=texts | st.ip_addresses().map(str) | st.just("fe80::1%eth0"),
    numbers=st.fixed_dictionaries(
        {name: st.none() | st.integers(0, 1 << 40) for name in ("input_bytes", "result_count")}
    ),
    fields=st.fixed_dictionaries(dict.fromkeys(sorted(MAX_CHARACTERS), texts)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_record_is_a_valid_event_that_says_all_of_it(
    schema: Schema,
    action: Action,
    outcome: Outcome,
    code: Code | None,
    recorded_at: datetime,
    address: str | None,
    numbers: dict[str, int | None],
    fields: dict[str, str | None],
) -> None:
    """Whatever the members are; each one that is there stands somewhere, as it was."""
    said = {**fields, **numbers, "address": address, "code": code, "recorded_at": recorded_at}
    body = body_of(action, outcome, **said)
    event = ocsf_event(body, **PLACE)
    assert [] == schema.faults(event)
    values = values_of(event)
    lost = {n: v for n, v in body.items() if v is not None and n != "format" and v not in values}
    assert {} == lost
    assert json.loads(json.dumps(event)) == event


def test_an_unknown_action_of_a_later_release_is_not_lost(schema: Schema) -> None:
    """It is an API activity that is not known."""
    body = body_of(Action.PREDICT, Outcome.ANSWERED) | {"action": "later.thing", "outcome": "odd"}
    event = ocsf_event(body, **PLACE)
    assert [] == schema.faults(event)
    assert (6003, 0, 0) == (event["class_uid"], event["activity_id"], event["status_id"])
    assert "later.thing" == event["metadata"]["event_code"]


def test_a_record_keeps_its_place() -> None:
    """By the same identifier however often it is exported; the time is in milliseconds, and whole beside it."""
    event = event_of(Action.PREDICT, Outcome.ANSWERED)
    metadata = event["metadata"]
    assert ("gw-1/7", 7, "gw-1") == (metadata["uid"], metadata["sequence"], metadata["log_name"])
    assert "2031-05-06T07:08:09.123456Z" == metadata["original_time"]
    assert 1_935_817_689_123 == event["time"]
    assert "0a" * 32 == event["unmapped"]["leaf_hash"]


def test_who_called_is_the_subject_with_its_issuer() -> None:
    """Two issuers may have the same subject; the token is the session."""
    actor = event_of(Action.PREDICT, Outcome.ANSWERED, **CALL)["actor"]
    assert {
        "app_uid": "camera",
        "user": {"uid": "alice", "domain": "https://issuer.example"},
        "session": {"uid": "jti-1", "issuer": "https://issuer.example"},
    } == actor


def test_the_request_and_the_model_are_told() -> None:
    """Where the schema has places for them."""
    event = event_of(Action.PREDICT, Outcome.ANSWERED, **CALL)
    assert {
        "http_method": "POST", "url": {"path": "/v1/predict"}, "body_length": 181_000, "uid": "r-1",
    } == event["http_request"]  # fmt: skip
    assert {"ip": "192.0.2.7"} == event["src_endpoint"]
    assert {"operation": "predict", "request": {"uid": "r-1"}} == event["api"]
    assert {"ai_provider": "Internal", "name": "belt", "version": "7"} == event["ai_model"]
    assert {
        "leaf_hash", "outcome", "certificate_thumbprint", "input_sha256", "result_digest", "result_count",
        "authentication", "proof_key_thumbprint", "detail", "pseudonymised",
    } == set(event["unmapped"])  # fmt: skip


@pytest.mark.parametrize("code", [code for code in Code if code.startswith("authn_")])
def test_refused_credentials_are_failed_logons(code: Code) -> None:
    """Whatever they were to be used for; who it was is not known."""
    event = event_of(Action.MODELS_PROMOTE, Outcome.REFUSED, code=code, address="192.0.2.7")
    assert (300201, "Failure", code) == (event["type_uid"], event["status"], event["status_code"])
    assert "unauthenticated" == event["user"]["name"] == event["actor"]["user"]["name"]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.REFUSED, Code.AUTHZ_DENIED), (Outcome.FAILED, Code.AUTHN_INVALID)],
)
def test_other_refusals_stay_what_they_were(outcome: Outcome, code: Code) -> None:
    """Whoever may not do this has logged on, and what failed was not refused."""
    body = body_of(Action.PREDICT, outcome, code=code)
    assert ACTIVITIES[Action.PREDICT] == activity_of(body)


def test_a_gateway_that_starts_is_its_own_actor() -> None:
    """Nobody called."""
    event = event_of(Action.GATEWAY_START, Outcome.ANSWERED)
    assert {"app_name": "Gatewatch"} == event["actor"]
    assert {"name": "Gatewatch", "uid": "gw-1", "vendor_name": "Gatewatch"} == event["app"]


def test_a_promoted_version_is_the_application() -> None:
    """With who promoted it; where from has no place in its class."""
    event = event_of(Action.MODELS_PROMOTE, Outcome.ANSWERED, **CALL)
    assert (600206, {"name": "belt", "version": "7"}) == (event["type_uid"], event["app"])
    assert "alice" == event["actor"]["user"]["uid"]
    assert ["host", "ai_operation"] == event["metadata"]["profiles"]
    assert "192.0.2.7" == event["unmapped"]["address"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"detail": format_detail(issuer="https://i", subject="bob x")},
            {"uid": "bob x", "domain": "https://i"},
        ),
        ({"token_id": "jti-1"}, {"uid": "jti-1", "type_id": 99, "type": "Token"}),
        (
            {"detail": "issuer=https://i"},
            {"uid": "https://i", "type_id": 99, "type": "Issuer", "domain": "https://i"},
        ),
        ({}, {"name": "unknown", "type_id": 0, "type": "Unknown"}),
    ],
)
def test_a_denial_names_whom_it_is_about(fields: dict[str, Any], expected: Any) -> None:
    """A principal, else a token, else everybody of an issuer."""
    event = event_of(Action.TOKENS_REVOKE, Outcome.ANSWERED, **fields)
    assert (300105, expected) == (event["type_uid"], event["user"])


def test_whoever_denies_a_token_has_no_session_by_it() -> None:
    """The token is the denied one, and is named once."""
    fields = {"issuer": "operating-system", "subject": "ops", "client_id": "gateway-cli"}
    event = event_of(Action.TOKENS_REVOKE, Outcome.ANSWERED, token_id="jti-1", **fields)
    user = {"uid": "ops", "domain": "operating-system"}
    assert {"app_uid": "gateway-cli", "user": user} == event["actor"]
    assert "jti-1" == event["user"]["uid"]
    assert set() == {"token_id", "issuer"} & event["unmapped"].keys()


def test_a_denied_principals_token_stands_beside_it() -> None:
    """A user has one name."""
    detail = format_detail(issuer="https://i", subject="bob")
    event = event_of(
        Action.TOKENS_RESTORE, Outcome.ANSWERED, token_id="jti-1", issuer="i", detail=detail
    )
    assert "bob" == event["user"]["uid"]
    assert {"app_name": "Gatewatch"} == event["actor"]
    assert ("jti-1", "i") == (event["unmapped"]["token_id"], event["unmapped"]["issuer"])


@pytest.mark.parametrize("address", ["k1:c0ffee", "not an address", "1" * 64])
def test_what_is_no_address_is_no_ip(address: str) -> None:
    """A pseudonym stands in its place."""
    event = event_of(Action.PREDICT, Outcome.ANSWERED, address=address)
    assert {"uid": address} == event["src_endpoint"]


def test_a_strange_method_is_kept_beside() -> None:
    """The schema has a list."""
    event = event_of(Action.ROUTE_UNKNOWN, Outcome.REFUSED, method="BREW", route="/pot")
    assert {"url": {"path": "/pot"}} == event["http_request"]
    assert "BREW" == event["unmapped"]["method"]


@pytest.mark.parametrize(
    ("action", "outcome", "code", "expected"),
    [
        (Action.PREDICT, Outcome.ADMITTED, None, (1, 99, "admitted")),
        (Action.PREDICT, Outcome.ANSWERED, None, (1, 1, "Success")),
        (Action.PREDICT, Outcome.REFUSED, Code.AUTHZ_DENIED, (2, 2, "Failure")),
        (Action.PREDICT, Outcome.FAILED, Code.RUNNER_FAILED, (3, 2, "Failure")),
        (Action.PREDICT, Outcome.FAILED, Code.CLIENT_GONE, (1, 2, "Failure")),
        (Action.PREDICT, Outcome.FAILED, Code.AUDIT_UNAVAILABLE, (4, 2, "Failure")),
        (Action.AUDIT_EXPORT, Outcome.FAILED, Code.LEDGER_BROKEN, (4, 2, "Failure")),
        (Action.AUDIT_WITNESS, Outcome.FAILED, None, (4, 2, "Failure")),
        (Action.AUDIT_WITNESS, Outcome.ANSWERED, None, (1, 1, "Success")),
        (Action.AUDIT_OUTAGE, Outcome.FAILED, Code.AUDIT_UNAVAILABLE, (4, 2, "Failure")),
    ],
)
def test_how_bad_it_is(
    action: Action, outcome: Outcome, code: Code | None, expected: tuple[int, int, str]
) -> None:
    """What cannot be recorded or trusted is high; what was begun has not succeeded yet."""
    event = event_of(action, outcome, code=code)
    assert expected == (event["severity_id"], event["status_id"], event["status"])


@pytest.mark.parametrize("recorded_at", ["2031-02-30T00:00:00.000000Z", "no time"])
def test_a_time_that_is_none_is_refused(recorded_at: str) -> None:
    """Whoever wrote it was not the gateway."""
    body = body_of(Action.PREDICT, Outcome.ANSWERED) | {"recorded_at": recorded_at}
    with pytest.raises(ValueError, match=r"."):
        ocsf_event(body, **PLACE)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"class_uid": 6099}, "no class 6099"),
        ({"type_uid": 1}, "type_uid is 1, not 600399"),
        ({"activity_id": 50, "type_uid": 600350}, "activity_id is 50, not one of"),
        ({"activity_name": ""}, "activity_id is other, and its name is missing"),
        ({"severity": "Low"}, "severity_id is 'Informational', and its name is 'Low'"),
        ({"extra": 1}, "extra is unknown"),
        ({"api": {}}, "api.operation is required"),
        ({"src_endpoint": {}}, "src_endpoint. breaks at_least_one"),
        ({"src_endpoint": {"ip": "nowhere"}}, "src_endpoint.ip is 'nowhere'"),
        ({"time": "now"}, "time is 'now', no timestamp_t"),
        ({"metadata": {}}, "metadata.product is required"),
        ({"http_request": {"http_method": "BREW"}}, "http_request.http_method is 'BREW'"),
        ({"actor": {"app_uid": "a", "what": 1}}, "actor.what is unknown"),
    ],
)
def test_the_schemas_check_finds_faults(schema: Schema, change: dict[str, Any], fault: str) -> None:
    """So that its silence means something."""
    event = event_of(Action.PREDICT, Outcome.ANSWERED) | change
    if "activity_name" in change:
        event["type_name"] = "API Activity: "
    assert any(found.startswith(fault) for found in schema.faults(event))
