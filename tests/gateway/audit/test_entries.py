"""The chain's hashes, the canonical form, and where each kind of tampering is found."""

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.chain import (
    Fault,
    FaultKind,
    Tail,
    canonical_body,
    chain_records,
    checked_origin,
    genesis_tail,
    hash_record,
    verify_records,
)
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import Code, SettingsError
from gateway.store.records import AuditRecord

ORIGIN = "gatewatch.example/test"
MOMENT = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def event(number: int = 0, **changes: object) -> AuditEvent:
    """A refused call; number tells events apart."""
    plain = AuditEvent(
        action=Action.PREDICT,
        outcome=Outcome.REFUSED,
        recorded_at=MOMENT + timedelta(seconds=number),
        request_id=f"request-{number}",
        code=Code.AUTHZ_DENIED,
        input_bytes=number,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # any field, by name


def ledger(count: int, origin: str = ORIGIN) -> list[AuditRecord]:
    """A good ledger of this many records."""
    events = [event(number) for number in range(count)]
    entries = [(e.recorded_at, canonical_body(e)) for e in events]
    return chain_records(genesis_tail(origin), entries, origin=origin)[0]


def first_fault(records: list[AuditRecord]) -> Fault | None:
    """What verify_records says of a whole ledger."""
    return verify_records(records, origin=ORIGIN, tail=genesis_tail(ORIGIN))[1]


def place_of(records: list[AuditRecord]) -> tuple[int, FaultKind] | None:
    """Position and kind of the first fault."""
    fault = first_fault(records)
    return None if fault is None else (fault.position, fault.kind)


def test_canonical_body_is_this_text() -> None:
    """The stored form never changes under a ledger that exists: sorted members, no spaces, ASCII."""
    body = canonical_body(event(3, reason='no role "a"\n é'))
    assert body == (
        '{"action":"predict","address":null,"certificate_thumbprint":null,"client_id":null,'
        '"code":"authz_denied","format":2,'
        '"input_bytes":3,"input_sha256":null,"issuer":null,"method":null,"model_name":null,'
        '"model_version":null,"outcome":"refused","reason":"no role \\"a\\"\\\\x0a \\u00e9",'
        '"recorded_at":"2031-05-06T07:08:12.000000Z","request_id":"request-3",'
        '"result_count":null,"result_digest":null,"route":null,"subject":null,"token_id":null}'
    )


def test_a_ledger_of_the_format_before_is_good_and_goes_on() -> None:
    """Records that were written without token and certificate verify, and records of today follow them."""
    old = (
        '{"action":"predict","address":null,"client_id":null,"code":null,"format":1,'
        '"input_bytes":3,"input_sha256":null,"issuer":null,"method":null,"model_name":null,'
        '"model_version":null,"outcome":"answered","reason":null,'
        '"recorded_at":"2031-05-06T07:08:09.000000Z","request_id":null,'
        '"result_count":null,"result_digest":null,"route":null,"subject":null}'
    )
    begun = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    today = event(3)
    entries = [(begun, old), (today.recorded_at, canonical_body(today))]
    records, tail = chain_records(genesis_tail("gateway"), entries, origin="gateway")
    found = verify_records(records, origin="gateway", tail=genesis_tail("gateway"))
    assert (tail, None) == found


def test_one_moment_has_one_text() -> None:
    """The zone in which a time was given does not show in the record."""
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert canonical_body(event()) == canonical_body(event(recorded_at=elsewhere))


def test_naive_time_is_refused() -> None:
    """A time without a zone is a programmer's error."""
    with pytest.raises(RuntimeError, match="naive"):
        canonical_body(event(recorded_at=MOMENT.replace(tzinfo=None)))


def test_hashes_are_those_of_the_definition() -> None:
    """Genesis binds the origin; a record's hash is SHA-256(0x00, previous hash, body)."""
    genesis = hashlib.sha256(b"\x02gatewatch ledger\ngatewatch.example/test").digest()
    assert Tail(0, genesis) == genesis_tail(ORIGIN)
    assert hashlib.sha256(b"\x00" + genesis + b"{}").digest() == hash_record(genesis, "{}")


def test_good_ledger_verifies_in_pages() -> None:
    """The tail of one page is where the next begins."""
    records = ledger(7)
    tail, fault = verify_records(records[:4], origin=ORIGIN, tail=genesis_tail(ORIGIN))
    assert fault is None
    assert (Tail(7, records[-1].record_hash), None) == verify_records(
        records[4:], origin=ORIGIN, tail=tail
    )


def test_empty_ledger_is_good() -> None:
    """Nothing written is nothing wrong."""
    assert first_fault([]) is None


def test_changed_body_is_located() -> None:
    """A body that was edited breaks at its own record."""
    records = ledger(5)
    edited = records[2].body.replace("refused", "answered")
    records[2] = dataclasses.replace(records[2], body=edited)
    assert place_of(records) == (2, FaultKind.CHANGED)


def test_changed_hash_is_located() -> None:
    """So does a hash."""
    records = ledger(5)
    records[2] = dataclasses.replace(records[2], record_hash=bytes(32))
    assert place_of(records) == (2, FaultKind.CHANGED)


def test_changed_time_column_is_located() -> None:
    """The time beside the body is not hashed by itself, so it must be the body's."""
    records = ledger(5)
    later = records[2].recorded_at + timedelta(microseconds=1)
    records[2] = dataclasses.replace(records[2], recorded_at=later)
    fault = first_fault(records)
    assert Fault(2, FaultKind.CHANGED, "the time beside the body is not the body's") == fault


def test_missing_record_is_located() -> None:
    """A gap in the positions is where the first missing record was."""
    records = ledger(5)
    del records[1:3]
    assert place_of(records) == (1, FaultKind.MISSING)


def test_missing_first_record_is_located() -> None:
    """The beginning cannot be cut off either."""
    assert place_of(ledger(5)[1:]) == (0, FaultKind.MISSING)


def test_shifted_positions_are_located() -> None:
    """The positions are checked by themselves: the hashes do not cover them."""
    records = ledger(5)
    shifted = [dataclasses.replace(r, position=r.position + 1) for r in records[2:]]
    assert place_of([*records[:2], *shifted]) == (2, FaultKind.MISSING)


def test_removal_hidden_by_renumbering_is_located() -> None:
    """Closing the gap in the positions does not close it in the hashes."""
    records = ledger(5)
    del records[1]
    records = [dataclasses.replace(r, position=i) for i, r in enumerate(records)]
    assert place_of(records) == (1, FaultKind.CHANGED)


def test_exchanged_records_are_located() -> None:
    """Two records that changed places are told from one that was edited."""
    records = ledger(5)
    first, second = records[1], records[3]
    records[1] = dataclasses.replace(second, position=1)
    records[3] = dataclasses.replace(first, position=3)
    fault = first_fault(records)
    assert Fault(1, FaultKind.REORDERED, "the record that belongs here has position 3") == fault


def test_repeated_position_is_located() -> None:
    """A second record with a position already seen is out of order."""
    records = ledger(3)
    assert place_of([records[0], records[1], records[1]]) == (2, FaultKind.REORDERED)


def test_record_of_another_ledger_is_located() -> None:
    """A record that names another origin does not belong."""
    records = ledger(3)
    records[1] = dataclasses.replace(records[1], origin="other")
    assert place_of(records) == (1, FaultKind.WRONG_ORIGIN)


def test_ledger_of_another_origin_does_not_pass() -> None:
    """A whole good ledger under another's name fails at its first record: genesis binds the name."""
    records = [dataclasses.replace(r, origin=ORIGIN) for r in ledger(3, origin="other")]
    assert place_of(records) == (0, FaultKind.CHANGED)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ('"action":', '"action": '),
        ('"input_bytes":0', '"input_bytes":00'),
        ('"input_bytes":0', '"input_bytes":-1'),
        ('"input_bytes":0', '"input_bytes":0.0'),
        ('"input_bytes":0', '"input_bytes":\u0665'),
        ('"format":2', '"format":3'),
        ('"address":null', '"address":"é"'),
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
def test_any_other_form_is_refused_under_a_good_hash(part: str, other: str) -> None:
    """Whoever can chain records still cannot store two readings of one: there is one form."""
    body = canonical_body(event())
    assert part in body
    entries = [(MOMENT, body.replace(part, other, 1))]
    if not entries[0][1].isascii():
        genesis = genesis_tail(ORIGIN).record_hash
        hashed = hashlib.sha256(b"\x00" + genesis + entries[0][1].encode()).digest()
        records = [AuditRecord(ORIGIN, 0, MOMENT, entries[0][1], hashed)]
    else:
        records, _ = chain_records(genesis_tail(ORIGIN), entries, origin=ORIGIN)
    assert place_of(records) == (0, FaultKind.NOT_CANONICAL)


@given(st.text(alphabet=st.characters(), max_size=80), st.none() | st.integers(0, 2**63))
def test_every_event_has_a_canonical_body(text: str, number: int | None) -> None:
    """Whatever a caller sends, the record parses, is written the same again, and verifies."""
    body = canonical_body(event(route=text, reason=text, input_bytes=number))
    again = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    assert again == body
    records, tail = chain_records(genesis_tail(ORIGIN), [(MOMENT, body)], origin=ORIGIN)
    assert (tail, None) == verify_records(records, origin=ORIGIN, tail=genesis_tail(ORIGIN))


@given(st.integers(0, 5), st.data())
def test_every_flipped_bit_is_located(position: int, data: st.DataObject) -> None:
    """Any one bit of any body or hash, flipped, is found at its own record."""
    records = ledger(6)
    target = records[position]
    stored = target.body.encode() + target.record_hash
    bit = data.draw(st.integers(0, 8 * len(stored) - 1))
    flipped = bytearray(stored)
    flipped[bit // 8] ^= 1 << bit % 8
    body = bytes(flipped[: len(target.body)]).decode("latin-1")
    record_hash = bytes(flipped[len(target.body) :])
    records[position] = dataclasses.replace(target, body=body, record_hash=record_hash)
    fault = first_fault(records)
    assert fault is not None
    assert position == fault.position


@pytest.mark.parametrize("name", ["gatewatch.example/ledger-1", "a", "x" * 128])
def test_origin_is_taken(name: str) -> None:
    """Names that can stand in a signed note are taken."""
    assert name == checked_origin(name)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "é", "x" * 129, "\x7f"])
def test_bad_origin_is_refused(name: str) -> None:
    """Names that could be confused with one another, or with a note's other parts, are not."""
    with pytest.raises(SettingsError):
        checked_origin(name)
