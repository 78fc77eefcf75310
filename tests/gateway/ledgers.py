"""Ledgers for tests: begun with a known key, opened for writing, and checked by the book from stored bytes."""

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, text

from gateway.audit import beginning
from gateway.audit.checkpoints import open_checkpoint
from gateway.audit.creation import create_ledger, verifier_of_ledger
from gateway.audit.notes import NoteSigner
from gateway.audit.signing import CheckpointSigner
from gateway.audit.writer import AuditLog
from gateway.commands.opening import opened_store
from gateway.settings import GatewaySettings
from tests.gateway.audit.sample_log import leaf, root

LEDGER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x0a" * 32)


def signer_of(origin: str = "gateway") -> NoteSigner:
    """What signs every ledger of the tests."""
    return NoteSigner(origin, LEDGER_KEY)


def begin_ledger(engine: Engine, origin: str = "gateway") -> NoteSigner:
    """Begin a ledger where there is none; what signs it."""
    signer = signer_of(origin)
    if verifier_of_ledger(engine, origin) is None:
        create_ledger(engine, signer, now=datetime.now(UTC))
    return signer


def begin_home(settings: GatewaySettings) -> None:
    """Begin the ledger that settings name, whose keys and database are there, with the folder of its witness file."""
    if settings.audit_witness_file:
        Path(settings.audit_witness_file).parent.mkdir(exist_ok=True)
    with opened_store(settings) as store:
        beginning.begin_ledger(store, settings, now=datetime.now(UTC))


def open_log(engine: Engine, origin: str = "gateway", **options: Any) -> AuditLog:
    """A ledger, begun where it is not, open for writing; options: those of AuditLog."""
    signer = begin_ledger(engine, origin)
    return AuditLog(engine=engine, signer=CheckpointSigner(signer), **options)


def checked_bodies(engine: Engine, origin: str = "gateway") -> list[str]:
    """The bodies of a ledger in order, after everything stored of it was computed anew and compared.

    Shares nothing with the code that is tested but SHA-256, JSON and the parser of signed notes.
    """
    with engine.connect() as connection:
        records = _all(connection, origin, "audit_records", "position, body, leaf_hash")
        nodes = _all(connection, origin, "audit_nodes", "level, number, node_hash")
        notes = _all(connection, origin, "audit_checkpoints", "size, note")
    assert [position for position, _, _ in records] == [*range(len(records))]
    leaves = [leaf(body.encode()) for _, body, _ in records]
    assert leaves == [bytes(leaf_hash) for _, _, leaf_hash in records]
    expected = [
        (level, number, full_node(leaves[number * 256**level : (number + 1) * 256**level]))
        for level in (1, 2)
        for number in range(len(leaves) // 256**level)
    ]
    assert expected == [(level, number, bytes(node)) for level, number, node in nodes]
    for size, note in notes:
        verifiers = [signer_of(origin).verifier]
        checkpoint = open_checkpoint(note.encode(), origin=origin, verifiers=verifiers).checkpoint
        assert (size, root(leaves[:size])) == (checkpoint.size, checkpoint.root)
    return [body for _, body, _ in records]


def signed_sizes(engine: Engine, origin: str = "gateway") -> list[int]:
    """The sizes of a ledger's stored checkpoints."""
    with engine.connect() as connection:
        return [row.size for row in _all(connection, origin, "audit_checkpoints", "size, note")]


def full_node(hashes: list[bytes]) -> bytes:
    """The root of a full subtree, level by level."""
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return hashes[0]


def _all(connection: Connection, origin: str, table: str, columns: str) -> list[Any]:
    query = text(f"SELECT {columns} FROM {table} WHERE origin = :origin ORDER BY 1, 2")
    return list(connection.execute(query, {"origin": origin}).all())
