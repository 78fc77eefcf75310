"""The one canonical text of an event, of this format and those before, and what stands beside it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.entries import (
    audit_record,
    body_patterns,
    checked_origin,
    encode_event,
    format_time,
    is_canonical,
    is_origin,
)
from gateway.audit.events import MAX_CHARACTERS, Action, AuditEvent, Outcome, printable
from gateway.errors import Code, SettingsError
from gateway.store.records import AuditRecord

MOMENT = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
EVENT = AuditEvent(
    action=Action.PREDICT,
    outcome=Outcome.REFUSED,
    recorded_at=MOMENT,
    request_id="request-3",
    subject="camera-7",
    model_name="belt",
    code=Code.AUTHZ_DENIED,
    input_bytes=3,
)
FORMAT_1 = (
    '{"action":"predict","address":null,"client_id":null,"code":null,"format":1,'
    '"input_bytes":3,"input_sha256":null,"issuer":null,"method":null,"model_name":null,'
    '"model_version":null,"outcome":"answered","reason":null,'
    '"recorded_at":"2031-05-06T07:08:09.000000Z","request_id":null,'
    '"result_count":null,"result_digest":null,"route":null,"subject":null}'
)
FORMAT_2 = (
    '{"action":"predict","address":null,"certificate_thumbprint":null,"client_id":null,'
    '"code":"authz_denied","format":2,'
    '"input_bytes":3,"input_sha256":null,"issuer":null,"method":null,"model_name":null,'
    '"model_version":null,"outcome":"refused","reason":"no role \\"a\\"\\\\x0a \\u00e9",'
    '"recorded_at":"2031-05-06T07:08:12.000000Z","request_id":"request-3",'
    '"result_count":null,"result_digest":null,"route":null,"subject":null,"token_id":null}'
)


def body(**changes: Any) -> str:
    """The text of EVENT with other members."""
    return encode_event(replace(EVENT, **changes)).body


def test_the_body_is_this_text() -> None:
    """The stored form never changes under a ledger that exists: sorted members, no spaces, ASCII."""
    assert body(reason='no role "a"\n \u00e9') == (
        '{"action":"predict","address":null,"authentication":null,"certificate_thumbprint":null,'
        '"client_id":null,"code":"authz_denied","detail":null,"format":3,'
        '"input_bytes":3,"input_sha256":null,"issuer":null,"method":null,"model_name":"belt",'
        '"model_version":null,"outcome":"refused","proof_key_thumbprint":null,'
        '"pseudonymised":null,"reason":"no role \\"a\\"\\\\x0a \\u00e9",'
        '"recorded_at":"2031-05-06T07:08:09.000000Z","request_id":"request-3",'
        '"result_count":null,"result_digest":null,"route":null,"subject":"camera-7",'
        '"token_id":null}'
    )


@pytest.mark.parametrize("stored", [FORMAT_1, FORMAT_2, body()])
def test_every_format_that_was_written_is_taken(stored: str) -> None:
    """A ledger may begin with records of releases before."""
    assert is_canonical(stored)


@pytest.mark.parametrize(("number", "stored"), [(2, FORMAT_1), (3, FORMAT_1), (3, FORMAT_2)])
def test_no_format_has_the_members_of_another(number: int, stored: str) -> None:
    """There is one form of each."""
    old = stored[stored.index('"format":') :][:10]
    assert not is_canonical(stored.replace(old, f'"format":{number}'))


def test_the_leaf_hash_is_over_the_body() -> None:
    """RFC 6962: SHA-256(0x00 || body)."""
    entry = encode_event(EVENT)
    assert sha256(b"\x00" + entry.body.encode()).digest() == entry.leaf_hash


def test_what_stands_beside_the_body_repeats_its_members() -> None:
    """As the body has them: bounded and printable."""
    entry = encode_event(replace(EVENT, subject="a\n" + "b" * 999))
    members = json.loads(entry.body)
    names = ("recorded_at", "action", "outcome", "request_id", "subject", "model_name")
    assert [members[name] for name in names] == [getattr(entry, name) for name in names]
    assert entry.subject is not None
    assert entry.subject.startswith("a\\x0abbb")
    assert len(entry.subject) == 256


def test_an_entry_gets_its_place() -> None:
    """Every member of it in the record's."""
    entry = encode_event(EVENT)
    assert audit_record(entry, origin="gateway", position=7) == AuditRecord(
        origin="gateway",
        position=7,
        body=entry.body,
        leaf_hash=entry.leaf_hash,
        recorded_at="2031-05-06T07:08:09.000000Z",
        action="predict",
        outcome="refused",
        request_id="request-3",
        subject="camera-7",
        model_name="belt",
    )


def test_one_moment_has_one_text() -> None:
    """The zone in which a time was given does not show in the record."""
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert body() == body(recorded_at=elsewhere)
    assert format_time(MOMENT) == "2031-05-06T07:08:09.000000Z"


@given(st.datetimes(timezones=st.timezones()), st.datetimes(timezones=st.timezones()))
def test_text_sorts_by_time(first: datetime, second: datetime) -> None:
    """27 characters, whatever the year and the fraction."""
    moments = [
        m for m in (first, second) if timedelta(days=2) < m - datetime.min.replace(tzinfo=UTC)
    ]
    moments = [m for m in moments if timedelta(days=2) < datetime.max.replace(tzinfo=UTC) - m]
    texts = [format_time(moment) for moment in moments]
    assert {27} >= {len(text) for text in texts}
    assert sorted(texts) == [format_time(moment) for moment in sorted(moments)]


def test_naive_time_is_refused() -> None:
    """A time without a zone is a programmer's error."""
    with pytest.raises(RuntimeError, match="naive"):
        body(recorded_at=MOMENT.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ('"action":', '"action": '),
        ('"input_bytes":3', '"input_bytes":03'),
        ('"input_bytes":3', '"input_bytes":-1'),
        ('"input_bytes":3', '"input_bytes":3.0'),
        ('"input_bytes":3', '"input_bytes":\u0665'),
        ('"format":3', '"format":4'),
        ('"address":null', '"address":"\u00e9"'),
        ('"address":null', '"address":"\x7f"'),
        ('"address":null', '"address":"\\n"'),
        ('"address":null', '"address":"\\u00E9"'),
        ('"address":null,', ""),
        ('"address":null', '"address":null,"address":null'),
        ('"address":null', '"address":"'),
        ("09.000000Z", "09Z"),
        ("}", "}\n"),
        ("}", ',"extra":1}'),
    ],
)
def test_any_other_form_is_refused(part: str, other: str) -> None:
    """Nobody can store two readings of one record: there is one form."""
    assert part in body()
    assert not is_canonical(body().replace(part, other, 1))


def test_some_members_can_be_read_by_the_form() -> None:
    """As JSON, without parsing the rest; a format that lacks one says nothing of it."""
    newest, _, oldest = body_patterns(frozenset({"subject", "input_bytes", "token_id"}))
    found = newest.fullmatch(body())
    assert found is not None
    assert found.groupdict() == {"subject": '"camera-7"', "input_bytes": "3", "token_id": "null"}
    found = oldest.fullmatch(FORMAT_1)
    assert found is not None
    assert found.groupdict() == {"subject": "null", "input_bytes": "3"}


any_text = st.none() | st.text(st.characters(exclude_categories=()))
any_event = st.builds(
    AuditEvent,
    action=st.sampled_from(Action),
    outcome=st.sampled_from(Outcome),
    recorded_at=st.datetimes(timezones=st.just(UTC)),
    code=st.none() | st.sampled_from(Code),
    input_bytes=st.none() | st.integers(0, 2**63),
    result_count=st.none() | st.integers(0, 2**63),
    **dict.fromkeys(MAX_CHARACTERS, any_text),
)


@given(any_event)
def test_every_event_has_a_canonical_body(event: AuditEvent) -> None:
    """Whatever a caller sends; and it is what json itself writes of the same members."""
    members: dict[str, object] = {
        "format": 3,
        "action": event.action.value,
        "outcome": event.outcome.value,
        "recorded_at": format_time(event.recorded_at),
        "code": None if event.code is None else event.code.value,
        "input_bytes": event.input_bytes,
        "result_count": event.result_count,
    }
    for name, limit in MAX_CHARACTERS.items():
        text = getattr(event, name)
        members[name] = None if text is None else printable(text, max_characters=limit)
    stored = encode_event(event).body
    assert json.dumps(members, sort_keys=True, separators=(",", ":")) == stored
    assert is_canonical(stored)
    assert len(stored) < 65_535


@pytest.mark.parametrize("name", ["gatewatch.example/ledger-1", "a", "x" * 128])
def test_origin_is_taken(name: str) -> None:
    """Names that can stand in a signed note are taken."""
    assert name == checked_origin(name)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "\u00e9", "x" * 129, "\x7f"])
def test_bad_origin_is_refused(name: str) -> None:
    """Names that could be confused with one another, or with a note's other parts, are not."""
    assert not is_origin(name)
    with pytest.raises(SettingsError):
        checked_origin(name)


@pytest.mark.parametrize("value", [None, 7, b"gateway"])
def test_what_is_no_text_is_no_origin(value: object) -> None:
    """SQLite stores any type in any column."""
    assert not is_origin(value)
