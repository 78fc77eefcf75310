"""SQL for checking a ledger: what is stored, of whatever type it is, in each kind of database."""

from sqlalchemy import Engine

from gateway.store.queries.audit_verify import list_origins, read_checkpoints, read_ends
from tests.gateway.audit.signed_ledger import run, write_ledger


def test_every_name_is_found(engine: Engine) -> None:
    """Of ledgers, and of what stands in the tables without one."""
    write_ledger(engine, 300, origin="b")
    write_ledger(engine, 1, origin="a")
    run(
        engine,
        "UPDATE audit_records SET origin = 'c' WHERE position = 7",
        "UPDATE audit_nodes SET origin = 'd'",
        "UPDATE audit_checkpoints SET origin = 'e' WHERE origin = 'a' AND size = 0",
    )
    with engine.connect() as connection:
        assert ["a", "b", "c", "d", "e"] == list_origins(connection, limit=9)
        assert 3 >= len(list_origins(connection, limit=2))


def test_both_ends_are_read(engine: Engine) -> None:
    """With notes in bytes, and nothing of a ledger that is not there."""
    write_ledger(engine, 256, 2, unsigned=3)
    with engine.connect() as connection:
        ends = read_ends(connection, "gatewatch.example/test")
        nothing = read_ends(connection, "nothing")
        [(size, note)] = read_checkpoints(connection, "gatewatch.example/test", 256, 261)
    assert (True, 0, 260, 261) == (ends.has_row, ends.first, ends.last, ends.size)
    assert (258, True) == (size, note.startswith(b"gatewatch.example/test\n258\n"))
    assert (size, note) == ends.last_checkpoint
    assert ends.first_checkpoint is not None
    assert 0 == ends.first_checkpoint[0]
    assert ends.node_beyond is ends.strange_node is ends.cosigned is None
    assert (False, None, None, 0) == (nothing.has_row, nothing.first, nothing.last, nothing.size)


def test_text_that_is_none_is_no_note(sqlite_engine: Engine) -> None:
    """Bytes that are no UTF-8 are given as they are."""
    write_ledger(sqlite_engine, 3)
    run(
        sqlite_engine,
        "UPDATE audit_checkpoints SET note = CAST(X'FFFE' AS TEXT) WHERE size = 0",
        "UPDATE audit_checkpoints SET note = CAST(note AS BLOB) WHERE size = 3",
    )
    with sqlite_engine.connect() as connection:
        found = read_checkpoints(connection, "gatewatch.example/test", -1, 3)
    assert [(0, b"\xff\xfe"), (3, None)] == found
