"""Checking a ledger where it is stored, whatever was done to the tables."""

from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from gateway.audit.checkpoints import (
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    sign_checkpoint,
)
from gateway.audit.merkle import EMPTY_FRONTIER, append_leaves, frontier_root, hash_leaf
from gateway.audit.notes import NoteSigner, Verifier
from gateway.audit.verify import verify_ledger
from gateway.audit.verify_faults import FaultKind, VerifyResult
from gateway.errors import AuditUnavailableError, SettingsError
from gateway.store.queries.audit_trees import insert_checkpoint
from tests.gateway.audit.signed_ledger import (
    ORIGIN,
    Statement,
    entry,
    exchange,
    newest_checkpoint,
    run,
    write_ledger,
)
from tests.gateway.ledgers import begin_ledger, signer_of

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x0b" * 32)
KEYS = (signer_of(ORIGIN).verifier,)


def verify(
    engine: Engine,
    *,
    verifiers: Sequence[Verifier] = KEYS,
    trusted: SignedCheckpoint | None = None,
    witnessed: Sequence[SignedCheckpoint] = (),
) -> VerifyResult:
    """Check the ledger in this process."""
    return verify_ledger(
        engine, ORIGIN, verifiers=verifiers, trusted=trusted, witnessed=witnessed, workers=1
    )


def found(
    engine: Engine,
    *statements: Statement,
    witnessed: Sequence[SignedCheckpoint] = (),
) -> tuple[int, int, str]:
    """The first and last record that can be bad after these statements, and of which kind it is."""
    run(engine, *statements)
    fault = verify(engine, witnessed=witnessed).first_bad
    assert fault is not None
    return fault.position, fault.last, fault.kind.value


@pytest.fixture
def ledger(sqlite_engine: Engine) -> Engine:
    """Twelve records, signed at 0, 4, 8 and 10."""
    write_ledger(sqlite_engine, 4, 4, 2, unsigned=2)
    return sqlite_engine


@pytest.fixture
def any_ledger(engine: Engine) -> Engine:
    """The same in each kind of database."""
    write_ledger(engine, 4, 4, 2, unsigned=2)
    return engine


@pytest.fixture
def long_ledger(sqlite_engine: Engine) -> Engine:
    """530 records with two stored nodes, signed at 0, 100, 300 and 530."""
    write_ledger(sqlite_engine, 100, 200, 230)
    return sqlite_engine


def test_a_good_ledger_is_good(any_ledger: Engine) -> None:
    """With its root, its newest checkpoint and how much is not signed yet."""
    result = verify(any_ledger)
    leaves = [entry(number).leaf_hash for number in range(12)]
    assert frontier_root(append_leaves(EMPTY_FRONTIER, leaves)[0]) == result.root
    assert (ORIGIN, 0, 12, 2, None) == (
        result.origin,
        result.begun_at,
        result.count,
        result.unsigned,
        result.witnessed_size,
    )
    assert newest_checkpoint(any_ledger) == result.newest
    assert result.is_signed
    assert result.first_bad is None


def test_an_empty_ledger_is_good(sqlite_engine: Engine) -> None:
    """Begun, and nothing written; and what was never begun is nothing."""
    nothing = verify(sqlite_engine)
    assert (0, None) == (nothing.count, nothing.first_bad)
    begin_ledger(sqlite_engine, ORIGIN)
    result = verify(sqlite_engine)
    assert (0, None) == (result.count, result.first_bad)
    assert result.newest is not None


def test_progress_is_told(ledger: Engine) -> None:
    """As records of all; a good ledger ends at all."""
    seen: list[tuple[int, int]] = []
    verify_ledger(
        ledger,
        ORIGIN,
        verifiers=KEYS,
        on_progress=lambda count, total: seen.append((count, total)),
        workers=1,
    )
    assert (12, 12) == seen[-1]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("body = replace(body, 'admitted', 'refused')", "changed"),
        ("body = body || ' '", "changed"),
        ("recorded_at = '2031-05-06T00:00:07.000000Z'", "index_differs"),
        ("action = 'models.read'", "index_differs"),
        ("outcome = 'refused'", "index_differs"),
        ("request_id = NULL", "index_differs"),
        ("subject = 'conveyor-8'", "index_differs"),
        ("model_name = ''", "index_differs"),
    ],
)
@pytest.mark.parametrize("position", [0, 6, 11])
def test_a_changed_record_is_named(ledger: Engine, change: str, kind: str, position: int) -> None:
    """Whichever of its values it is, signed yet or not."""
    statement = f"UPDATE audit_records SET {change} WHERE position = {position}"
    assert (position, position, kind) == found(ledger, statement)


def test_a_changed_leaf_hash_is_named(ledger: Engine) -> None:
    """The body alone is not enough."""
    statement = "UPDATE audit_records SET leaf_hash = :hash WHERE position = 6"
    assert (6, 6, "changed") == found(ledger, (statement, {"hash": b"\7" * 32}))


def test_a_deleted_record_is_named(ledger: Engine) -> None:
    """As the position that is missing."""
    assert (6, 6, "missing") == found(ledger, "DELETE FROM audit_records WHERE position = 6")


@pytest.mark.parametrize("position", [-5, -(1 << 62)])
def test_a_record_before_the_first_is_named(ledger: Engine, position: int) -> None:
    """Nothing reads there, but it would be in the database."""
    hide = f"UPDATE audit_records SET position = {position} WHERE position = 11"
    assert (position, position, "extra") == found(ledger, hide)


def test_a_record_behind_a_gap_is_found(ledger: Engine) -> None:
    """The first one that is missing is named."""
    move = "UPDATE audit_records SET position = 40 WHERE position = 11"
    assert (11, 11, "missing") == found(ledger, move)


def test_what_is_there_twice_is_found(ledger: Engine) -> None:
    """Whoever can write the database can take a table's primary key away."""
    for table in ("records", "nodes"):
        run(
            ledger,
            f"ALTER TABLE audit_{table} RENAME TO old_{table}",
            f"CREATE TABLE audit_{table} AS SELECT * FROM old_{table}",
        )
    assert verify(ledger).first_bad is None
    again = "INSERT INTO audit_records SELECT * FROM audit_records WHERE position = 5"
    assert (5, 5, "extra") == found(ledger, again)


def test_a_node_that_is_there_twice_is_found(long_ledger: Engine) -> None:
    """One of them is not the tree's."""
    run(
        long_ledger,
        "ALTER TABLE audit_nodes RENAME TO old_nodes",
        "CREATE TABLE audit_nodes AS SELECT * FROM old_nodes",
    )
    assert verify(long_ledger).first_bad is None
    again = "INSERT INTO audit_nodes SELECT origin, level, number, X'07' FROM old_nodes"
    assert (0, 255, "node_differs") == found(long_ledger, again)


@pytest.mark.parametrize(("first", "other"), [(1, 2), (3, 9), (5, 11)])
def test_exchanged_records_are_named_as_such(ledger: Engine, first: int, other: int) -> None:
    """Each fits its own leaf hash; the signed roots tell, and which exchange gives them."""
    assert (first, first, "reordered") == found(ledger, *exchange(first, other))


def test_exchanged_leaf_hashes_are_named_as_such(any_ledger: Engine) -> None:
    """They fit each other's body."""
    values = {"three": entry(3).leaf_hash, "nine": entry(9).leaf_hash}
    change = "UPDATE audit_records SET leaf_hash = :{} WHERE position = {}"
    assert (3, 3, "reordered") == found(
        any_ledger, (change.format("nine", 3), values), (change.format("three", 9), values)
    )


def test_a_body_put_twice_is_no_exchange(ledger: Engine) -> None:
    """The other record is where it was."""
    copy = (
        "UPDATE audit_records SET body = (SELECT body FROM audit_records WHERE position = 9) "
        "WHERE position = 3"
    )
    assert (3, 3, "changed") == found(ledger, copy)


def test_an_inserted_record_is_named(any_ledger: Engine) -> None:
    """It fits, those after it moved; without it the signed root comes out."""
    far = 1 << 40
    new = entry(77)
    assert (5, 5, "extra") == found(
        any_ledger,
        f"UPDATE audit_records SET position = position + {far} WHERE position >= 5",
        f"UPDATE audit_records SET position = position - {far - 1} WHERE position >= {far}",
        (
            "INSERT INTO audit_records SELECT origin, 5, :body, :leaf, :time, action, outcome, "
            ":request, subject, model_name FROM audit_records WHERE position = 1",
            {
                "body": new.body,
                "leaf": new.leaf_hash,
                "time": new.recorded_at,
                "request": new.request_id,
            },
        ),
    )


def rewrite(position: int) -> Statement:
    """A statement that writes a record anew, so that it fits by itself."""
    body = entry(position).body.replace('"address":null', '"address":"192.0.2.1"')
    return (
        f"UPDATE audit_records SET body = :body, leaf_hash = :leaf WHERE position = {position}",
        {"body": body, "leaf": hash_leaf(body.encode())},
    )


def test_a_rewritten_record_is_bracketed_by_checkpoints(ledger: Engine) -> None:
    """Nothing tells which of them it is; the first that can be is named."""
    assert (4, 7, "changed") == found(ledger, rewrite(6))


def test_a_rewritten_record_between_stored_nodes_is_bracketed_by_them(long_ledger: Engine) -> None:
    """Nodes that lead to the signed root are as good as it; here the block before is as it was."""
    assert (100, 255, "changed") == found(long_ledger, rewrite(250))


def test_a_node_that_was_mended_brackets_nothing(long_ledger: Engine) -> None:
    """Somebody who rewrote a record and its node leaves the checkpoints."""
    run(long_ledger, rewrite(250))
    leaves = [entry(number).leaf_hash for number in range(256)]
    leaves[250] = hash_leaf(
        entry(250).body.replace('"address":null', '"address":"192.0.2.1"').encode()
    )
    _, [node] = append_leaves(EMPTY_FRONTIER, leaves)
    mend = "UPDATE audit_nodes SET node_hash = :hash WHERE number = 0"
    assert (100, 299, "changed") == found(long_ledger, (mend, {"hash": node.node_hash}))


@pytest.mark.parametrize(
    "change",
    [
        ("UPDATE audit_nodes SET node_hash = :hash WHERE number = 0", {"hash": b"\7" * 32}),
        ("DELETE FROM audit_nodes WHERE number = 0", {}),
    ],
)
def test_a_bad_node_is_told_from_bad_records(long_ledger: Engine, change: Statement) -> None:
    """The checkpoint after it says that the records are those that were signed."""
    assert (0, 255, "node_differs") == found(long_ledger, change)


def test_a_bad_node_of_unsigned_records_is_found(long_ledger: Engine) -> None:
    """Whether it or the records is bad nobody can say; those that were signed are good."""
    drop = "DELETE FROM audit_checkpoints WHERE size > 300"
    change = ("UPDATE audit_nodes SET node_hash = :hash WHERE number = 1", {"hash": b"\7" * 32})
    assert (300, 511, "node_differs") == found(long_ledger, drop, change)


@pytest.mark.parametrize(
    "where", ["level = 0, number = 0", "level = 8, number = 0", "level = 1, number = -1"]
)
def test_a_node_where_none_can_be_is_found(long_ledger: Engine, where: str) -> None:
    """Nothing reads it, but it would be in the database."""
    assert "extra" == found(long_ledger, f"UPDATE audit_nodes SET {where} WHERE number = 1")[2]


@pytest.mark.parametrize("size", [0, 3, 8, 9])
def test_truncation_is_found_by_checkpoints(ledger: Engine, size: int) -> None:
    """More was signed than is there."""
    cut = f"DELETE FROM audit_records WHERE position >= {size}"
    assert (size, size, "truncated") == found(ledger, cut)


def test_truncation_is_found_by_nodes(long_ledger: Engine) -> None:
    """Somebody took the checkpoints above too, and forgot the tree."""
    cut = [
        "DELETE FROM audit_records WHERE position >= 310",
        "DELETE FROM audit_checkpoints WHERE size > 310",
    ]
    assert (310, 310, "truncated") == found(long_ledger, *cut)


def test_truncation_of_what_nobody_signed_is_not_seen(ledger: Engine) -> None:
    """What by its nature cannot be seen, said as a test: those two records are on nobody's word."""
    run(ledger, "DELETE FROM audit_records WHERE position >= 10")
    result = verify(ledger)
    assert (10, None) == (result.count, result.first_bad)


def test_a_roll_back_is_found_by_a_witness(any_ledger: Engine) -> None:
    """A ledger as it was before is whole by itself."""
    witnessed = newest_checkpoint(any_ledger)
    run(
        any_ledger,
        "DELETE FROM audit_records WHERE position >= 8",
        "DELETE FROM audit_checkpoints WHERE size > 8",
    )
    assert verify(any_ledger).first_bad is None
    assert (8, 8, "rolled_back") == found(any_ledger, witnessed=[witnessed])


def test_a_witness_that_agrees_is_told(ledger: Engine) -> None:
    """With the largest size of those that do."""
    held = [newest_checkpoint(ledger), newest_checkpoint(ledger, up_to_size=5)]
    result = verify(ledger, witnessed=held)
    assert (10, None) == (result.witnessed_size, result.first_bad)


def forked_checkpoint(size: int) -> SignedCheckpoint:
    """What the ledger's key signed of another history."""
    signer = signer_of(ORIGIN)
    note = sign_checkpoint(Checkpoint(ORIGIN, size, b"\7" * 32), signer)
    return open_checkpoint(note, origin=ORIGIN, verifiers=[signer.verifier])


@pytest.mark.parametrize("size", [5, 8, 10])
def test_two_histories_are_a_fork(ledger: Engine, size: int) -> None:
    """A witness has another root than the records that the key signed too; from its last word on all is in doubt."""
    held = [newest_checkpoint(ledger, up_to_size=4), forked_checkpoint(size)]
    assert (4, size - 1, "forked") == found(ledger, witnessed=held)


def test_a_witness_against_unsigned_records_is_a_change(ledger: Engine) -> None:
    """The key signed what the witness has, and nothing that is here."""
    held = [forked_checkpoint(12)]
    assert (10, 11, "changed") == found(ledger, witnessed=held)


def test_a_cosigned_checkpoint_of_the_database_counts(any_ledger: Engine) -> None:
    """The monitor's copy of a checkpoint outlives the gateway's."""
    note = newest_checkpoint(any_ledger).note.decode()
    keep = (
        "INSERT INTO audit_cosignatures (origin, size, note) VALUES (:origin, 10, :note)",
        {"origin": ORIGIN, "note": note},
    )
    run(any_ledger, keep)
    assert verify(any_ledger).first_bad is None
    assert (8, 8, "truncated") == found(
        any_ledger,
        "DELETE FROM audit_records WHERE position >= 8",
        "DELETE FROM audit_checkpoints WHERE size > 8",
    )


def test_a_checkpoint_without_the_key_is_forged(ledger: Engine) -> None:
    """Signed by somebody else under the ledger's name; the records under it are on nobody's word."""
    signed = newest_checkpoint(ledger, up_to_size=8).checkpoint
    note = sign_checkpoint(signed, NoteSigner(ORIGIN, OTHER_KEY))
    change = ("UPDATE audit_checkpoints SET note = :note WHERE size = 8", {"note": note.decode()})
    assert (4, 7, "forged") == found(ledger, change)


def test_a_forged_checkpoint_beyond_the_records_is_no_truncation(ledger: Engine) -> None:
    """Nothing was signed there."""
    note = sign_checkpoint(Checkpoint(ORIGIN, 40, b"\7" * 32), NoteSigner(ORIGIN, OTHER_KEY))
    with ledger.begin() as connection:
        insert_checkpoint(connection, ORIGIN, size=40, note=note.decode())
    assert (10, 11, "forged") == found(ledger)


@pytest.mark.parametrize(
    ("change", "first", "last"),
    [
        ("note = 'nothing' WHERE size = 8", 4, 7),
        ("size = 6 WHERE size = 8", 4, 5),
        ("size = -1 WHERE size = 0", 0, 11),
    ],
)
def test_a_checkpoint_that_is_another_than_it_says_is_found(
    ledger: Engine, change: str, first: int, last: int
) -> None:
    """Damaged, or in another's place."""
    statement = f"UPDATE audit_checkpoints SET {change}"
    assert (first, last, "checkpoint_differs") == found(ledger, statement)


def test_a_ledger_without_checkpoints_is_not_good(ledger: Engine) -> None:
    """Its beginning was signed."""
    assert (0, 11, "checkpoint_differs") == found(ledger, "DELETE FROM audit_checkpoints")


@pytest.mark.parametrize(
    "statement", ["DELETE FROM audit_ledgers", "UPDATE audit_ledgers SET verifier = 'another'"]
)
def test_the_ledgers_own_row_is_checked(ledger: Engine, statement: str) -> None:
    """Without it, or with another key, the ledger was not begun as it says."""
    assert (0, 0, "ledger_differs") == found(ledger, statement)


def test_another_key_verifies_nothing(ledger: Engine) -> None:
    """Whoever has another key in hand learns it at once."""
    other = NoteSigner(ORIGIN, OTHER_KEY).verifier
    fault = verify(ledger, verifiers=[other]).first_bad
    assert fault is not None
    assert FaultKind.LEDGER_DIFFERS is fault.kind


def test_without_a_key_roots_are_compared_and_no_signature(ledger: Engine) -> None:
    """The result says so."""
    result = verify(ledger, verifiers=[])
    assert (False, None) == (result.is_signed, result.first_bad)
    run(ledger, rewrite(6))
    fault = verify(ledger, verifiers=[]).first_bad
    assert fault is not None
    assert (4, FaultKind.CHANGED) == (fault.position, fault.kind)


def test_a_check_goes_on_from_a_trusted_checkpoint(any_ledger: Engine) -> None:
    """What is before it is not read; what is behind it is."""
    trusted = newest_checkpoint(any_ledger, up_to_size=8)
    run(any_ledger, "UPDATE audit_records SET subject = NULL WHERE position = 2")
    result = verify(any_ledger, trusted=trusted)
    assert (8, 12, None) == (result.begun_at, result.count, result.first_bad)
    run(any_ledger, "UPDATE audit_records SET subject = NULL WHERE position = 9")
    fault = verify(any_ledger, trusted=trusted).first_bad
    assert fault is not None
    assert 9 == fault.position


def test_a_trusted_checkpoint_must_be_led_to(ledger: Engine) -> None:
    """Where stored hashes do not, what was changed since is looked for from the first record on."""
    trusted = newest_checkpoint(ledger, up_to_size=8)
    run(ledger, rewrite(2))
    result = verify(ledger, trusted=trusted)
    assert 0 == result.begun_at
    assert result.first_bad is not None
    assert (0, 3) == (result.first_bad.position, result.first_bad.last)


def test_a_trusted_checkpoint_is_a_witness(ledger: Engine) -> None:
    """A ledger that is smaller was rolled back."""
    trusted = newest_checkpoint(ledger)
    run(
        ledger,
        "DELETE FROM audit_records WHERE position >= 8",
        "DELETE FROM audit_checkpoints WHERE size > 8",
    )
    fault = verify(ledger, trusted=trusted).first_bad
    assert fault is not None
    assert (8, FaultKind.ROLLED_BACK) == (fault.position, fault.kind)


@pytest.mark.parametrize(
    "change",
    [
        "body = CAST(body AS BLOB)",
        "body = CAST(X'FFFE' AS TEXT)",
        "leaf_hash = 'text'",
        "recorded_at = CAST(recorded_at AS BLOB)",
        "subject = CAST(subject AS BLOB)",
        "action = CAST(action AS BLOB)",
        "request_id = CAST(request_id AS BLOB)",
        "position = 5.5",
    ],
)
def test_an_unreadable_record_is_named(ledger: Engine, change: str) -> None:
    """The record it happened to is named, not a stack trace."""
    statement = f"UPDATE audit_records SET {change} WHERE position = 5"
    assert (5, 5, "unreadable") == found(ledger, statement)


def test_a_last_record_of_a_wrong_type_is_named(ledger: Engine) -> None:
    """Text is behind every number."""
    statement = "UPDATE audit_records SET position = 'abc' WHERE position = 11"
    assert (11, 11, "unreadable") == found(ledger, statement)


@pytest.mark.parametrize(
    "change",
    [
        "note = CAST(note AS BLOB) WHERE size = 8",
        "note = CAST(X'FFFE' AS TEXT) WHERE size = 8",
        "size = 'abc' WHERE size = 8",
        "size = 7.5 WHERE size = 8",
    ],
)
def test_an_unreadable_checkpoint_is_found(ledger: Engine, change: str) -> None:
    """It is not left out."""
    statement = f"UPDATE audit_checkpoints SET {change}"
    assert "checkpoint_differs" == found(ledger, statement)[2]


def test_a_database_that_fails_is_not_a_bad_record(ledger: Engine) -> None:
    """A ledger that cannot be read is neither good nor bad."""

    def refuse(connection: Connection, *_: object) -> None:
        raise OperationalError("", {}, OSError("no disk"))

    event.listen(ledger, "before_cursor_execute", refuse)
    with pytest.raises(AuditUnavailableError):
        verify(ledger)


def test_a_name_that_none_can_have_is_refused(sqlite_engine: Engine) -> None:
    """Before anything is read."""
    with pytest.raises(SettingsError):
        verify_ledger(sqlite_engine, "no name", verifiers=KEYS)
