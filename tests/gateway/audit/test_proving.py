"""Proofs from what is stored, and whose records they may be of."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, delete, text, update

from gateway.audit.checkpoints import checkpoint_text, open_checkpoint
from gateway.audit.events import AuditEvent, Outcome
from gateway.audit.found import FoundRecord
from gateway.audit.notes import add_signature
from gateway.audit.proof_check import check_proof
from gateway.audit.proof_files import parse_proof_file
from gateway.audit.proving import Owner, find_record, is_own, make_proof, newest_note
from gateway.errors import Code, LedgerError
from gateway.store.queries.audit_trees import find_newest_checkpoint, store_cosigned
from gateway.store.records import StoredCheckpoint
from gateway.store.tables import (
    audit_checkpoints,
    audit_cosignatures,
    audit_ledgers,
    audit_nodes,
    audit_records,
)
from tests.gateway.audit.sample_log import TIME_SECONDS, WITNESS
from tests.gateway.audit.stored_events import event, store_events
from tests.gateway.ledgers import signer_of

KEY = signer_of().verifier
OWNER = Owner("https://issuer.example", "camera-7")
OWN: dict[str, Any] = {"issuer": OWNER.issuer, "subject": OWNER.subject}


def same(_name: str, text: str) -> tuple[str, ...]:
    """No pseudonyms."""
    return (text,)


def hashed(name: str, text: str) -> tuple[str, ...]:
    """Pseudonyms for subjects alone, as gateway.audit.pseudonyms gives them."""
    return (f"~{text}", text) if name == "subject" and not text.startswith("~") else (text,)


def record_at(engine: Engine, index: int, origin: str = "gateway") -> FoundRecord:
    """A record that is there."""
    with engine.connect() as connection:
        found = find_record(connection, origin, index)
    assert found is not None
    return found


def proof_of(engine: Engine, index: int) -> bytes | None:
    """Its proof."""
    record = record_at(engine, index)
    with engine.connect() as connection:
        return make_proof(connection, record)


def cosign(engine: Engine, origin: str = "gateway") -> int:
    """Have the witness sign the newest checkpoint, as the monitor does; its size."""
    with engine.begin() as connection:
        newest = find_newest_checkpoint(connection, origin)
        assert newest is not None
        note = newest.note.encode()
        verifiers = [signer_of(origin).verifier]
        checkpoint = open_checkpoint(note, origin=origin, verifiers=verifiers).checkpoint
        line = WITNESS.cosign(checkpoint_text(checkpoint), time_seconds=TIME_SECONDS)
        cosigned = StoredCheckpoint(origin, newest.size, add_signature(note, line).decode())
        store_cosigned(connection, cosigned)
    return newest.size


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A ledger of 300 records, so that a node of 256 is stored."""
    store_events(engine, [event(n, request_id=f"r-{n}", **OWN) for n in range(300)])
    return engine


def test_every_record_is_proved_by_the_public_key_alone(filled: Engine) -> None:
    """On both sides of the stored node, and at the edges."""
    for index in (0, 1, 127, 255, 256, 299):
        proof = proof_of(filled, index)
        assert proof is not None
        proved = check_proof(proof, log=KEY)
        assert ("gateway", index, 300) == (proved.origin, proved.index, proved.size)
        assert f"r-{index}" == proved.members["request_id"]


def test_a_record_that_no_checkpoint_covers_has_no_proof_yet(filled: Engine) -> None:
    """The one before it has."""
    store_events(filled, [event(300)], is_signed=False)
    assert proof_of(filled, 300) is None
    assert proof_of(filled, 299) is not None


def test_a_witnessed_checkpoint_is_preferred_where_it_covers(filled: Engine) -> None:
    """The newest serves for what came later."""
    assert 300 == cosign(filled)
    store_events(filled, [event(300)])
    older, newer = proof_of(filled, 299), proof_of(filled, 300)
    assert older is not None
    assert newer is not None
    proved = check_proof(older, log=KEY, witnesses=[WITNESS.verifier])
    assert [(WITNESS.verifier, TIME_SECONDS)] == [
        (signature.verifier, signature.time_seconds) for signature in proved.cosignatures
    ]
    assert (300, 301) == (proved.size, check_proof(newer, log=KEY).size)


def test_a_bad_cosigned_checkpoint_is_passed_by(filled: Engine) -> None:
    """Whoever writes that table cannot keep anybody from a proof."""
    with filled.begin() as connection:
        store_cosigned(connection, StoredCheckpoint("gateway", 300, "nonsense"))
    proof = proof_of(filled, 7)
    assert proof is not None
    assert 300 == check_proof(proof, log=KEY).size


@pytest.mark.parametrize(
    "change",
    [
        update(audit_nodes).values(node_hash=b"\x07" * 32),
        delete(audit_nodes),
        update(audit_records).where(audit_records.c.position == 299).values(leaf_hash=b"\x07" * 32),
        delete(audit_records).where(audit_records.c.position == 299),
        update(audit_checkpoints).values(note="nonsense"),
        update(audit_ledgers).values(verifier=signer_of("other").verifier.line()),
        update(audit_ledgers).values(verifier="nonsense"),
    ],
)
def test_nothing_leaves_that_does_not_verify(filled: Engine, change: Any) -> None:
    """Hashes, checkpoints or keys that somebody changed."""
    with filled.begin() as connection:
        connection.execute(change)
    record = record_at(filled, 298)
    with filled.connect() as connection, pytest.raises(LedgerError) as caught:
        make_proof(connection, record)
    assert Code.LEDGER_BROKEN is caught.value.code
    assert "record 298 of gateway cannot be proved: `gateway audit verify`" in caught.value.message


def test_how_many_a_checkpoint_covers_is_what_was_signed(filled: Engine) -> None:
    """Whatever number stands beside the note."""
    store_events(filled, [event(300)], is_signed=False)
    with filled.begin() as connection:
        at = audit_checkpoints.c.size == 300
        connection.execute(update(audit_checkpoints).where(at).values(size=400))
    assert proof_of(filled, 299) is not None
    with pytest.raises(LedgerError, match="record 300 of gateway cannot be proved"):
        proof_of(filled, 300)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("note", [b"\0", 7.5])
def test_a_cosigned_checkpoint_that_cannot_be_read_keeps_nobody_from_a_proof(
    filled: Engine, note: object
) -> None:
    """Nor from the newest checkpoint; one of the ledger itself does."""
    cosign(filled)
    with filled.begin() as connection:
        put = text("UPDATE audit_cosignatures SET size = 'x', note = :note")
        connection.execute(put, {"note": note})
    assert proof_of(filled, 0) is not None
    with filled.connect() as connection:
        assert newest_note(connection, "gateway") is not None
    with filled.begin() as connection:
        connection.execute(text("UPDATE audit_checkpoints SET note = x'00'"))
    with pytest.raises(LedgerError, match="cannot be proved"):
        proof_of(filled, 0)
    with filled.connect() as connection, pytest.raises(LedgerError, match="cannot be proved"):
        newest_note(connection, "gateway")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_ledger_whose_key_cannot_be_read_proves_nothing(filled: Engine) -> None:
    """SQLite stores any type in any column."""
    with filled.begin() as connection:
        connection.execute(text("UPDATE audit_ledgers SET verifier = x'00'"))
    with pytest.raises(LedgerError, match="cannot be proved"):
        proof_of(filled, 0)


def test_a_record_of_a_ledger_without_a_row_is_not_found(filled: Engine) -> None:
    """It was never begun."""
    with filled.begin() as connection:
        connection.execute(delete(audit_ledgers))
        assert find_record(connection, "gateway", 7) is None


def test_a_changed_record_is_not_found(filled: Engine) -> None:
    """As in searches."""
    with filled.begin() as connection:
        at = audit_records.c.position == 7
        connection.execute(update(audit_records).where(at).values(subject="camera-8"))
        assert find_record(connection, "gateway", 300) is None
        assert find_record(connection, "other", 7) is None
        with pytest.raises(LedgerError, match="record 7 of gateway was changed"):
            find_record(connection, "gateway", 7)


def test_a_record_of_a_wrong_type_is_not_found(sqlite_engine: Engine) -> None:
    """SQLite stores any type in any column."""
    store_events(sqlite_engine, [event()])
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit_records SET body = 7")
        with pytest.raises(LedgerError, match="record 0 of gateway"):
            find_record(connection, "gateway", 0)


def test_the_newest_checkpoint_has_its_cosignatures(filled: Engine) -> None:
    """Where they are of it, and not of one before."""

    def note() -> str:
        with filled.connect() as connection:
            found = newest_note(connection, "gateway")
        return "" if found is None else found.note

    assert WITNESS.name not in note()
    cosign(filled)
    assert note().startswith("gateway\n300\n")
    assert WITNESS.name in note()
    store_events(filled, [event(300)])
    assert note().startswith("gateway\n301\n")
    assert WITNESS.name not in note()
    with filled.begin() as connection:
        assert newest_note(connection, "other") is None
        connection.execute(delete(audit_cosignatures))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, True),
        ({"outcome": Outcome.ANSWERED}, True),
        ({"outcome": Outcome.REFUSED}, False),
        ({"outcome": Outcome.FAILED}, False),
        ({"subject": "camera-8"}, False),
        ({"subject": "camera-70"}, False),
        ({"subject": None}, False),
        ({"issuer": "https://other.example"}, False),
        ({"issuer": None}, False),
        ({"subject": "~camera-7"}, False),
        ({"subject": "~camera-7", "pseudonymised": "subject"}, True),
        ({"subject": "~camera-8", "pseudonymised": "subject,address"}, False),
        ({"pseudonymised": "subject"}, False),
        ({"pseudonymised": "address"}, True),
        ({"issuer": OWNER.issuer, "pseudonymised": "issuer"}, False),
    ],
)
def test_whose_record_it_is(sqlite_engine: Engine, members: dict[str, Any], expected: bool) -> None:
    """Issuer and subject, under the pseudonym where the record says that it is one; never a refusal."""
    store_events(sqlite_engine, [event(**{**OWN, **members})])
    assert expected is is_own(record_at(sqlite_engine, 0), OWNER, hashed)


def test_a_subject_that_reads_like_a_pseudonym_is_not_its_owner(sqlite_engine: Engine) -> None:
    """Whoever can choose its subject cannot take another's records by it, with a key and without."""
    store_events(sqlite_engine, [event(**{**OWN, "subject": "~x", "pseudonymised": "subject"})])
    impostor = Owner(OWNER.issuer, "~x")
    record = record_at(sqlite_engine, 0)
    assert not is_own(record, impostor, same)
    assert not is_own(record, impostor, hashed)
    assert is_own(record, Owner(OWNER.issuer, "x"), hashed)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: event(**{**OWN, "subject": "a\x1b\\"}), True),
        (lambda: event(**{**OWN, "subject": "a\\x1b\\\\"}), False),
    ],
)
def test_escaped_subjects_are_their_owners(
    sqlite_engine: Engine, make: Callable[[], AuditEvent], expected: bool
) -> None:
    """What a record shows of one subject is what another may be called."""
    store_events(sqlite_engine, [make()])
    assert expected is is_own(record_at(sqlite_engine, 0), Owner(OWNER.issuer, "a\x1b\\"), same)


def test_two_subjects_that_a_record_cuts_alike_are_nobodys(sqlite_engine: Engine) -> None:
    """Their ends are not recorded, so neither can be told from the other."""
    long = "\\" * 200
    store_events(sqlite_engine, [event(**{**OWN, "subject": long + "a"})])
    record = record_at(sqlite_engine, 0)
    assert not is_own(record, Owner(OWNER.issuer, long + "b"), same)
    assert not is_own(record, Owner(OWNER.issuer, long + "a"), same)


def test_a_proof_holds_the_body_as_it_was_hashed(filled: Engine) -> None:
    """Whoever has the file has the record."""
    proof = proof_of(filled, 7)
    assert proof is not None
    assert record_at(filled, 7).body.encode() == parse_proof_file(proof).extra
