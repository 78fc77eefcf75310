"""A ledger in a file, and a copy of it in the hands of somebody who can write to the database.

What is known of the ledger for sure (its bodies, where it was signed) is kept here, so that what a check says of a
tampered copy can be compared with it.
"""

import random
import shutil
import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from gateway.audit.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from gateway.audit.creation import create_ledger
from gateway.audit.entries import Entry, encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.merkle import EMPTY_FRONTIER, append_leaves, frontier_root, hash_leaf
from gateway.audit.notes import NoteSigner
from gateway.audit.signing import CheckpointSigner
from gateway.audit.tail import Tail, extend_tail, follow_tail
from gateway.audit.verify import verify_ledger
from gateway.audit.verify_faults import VerifyResult
from gateway.store.database import open_database, write_transaction
from gateway.store.tables import metadata

ORIGIN = "gateway"
_SUBJECTS = ("conveyor-7", 'line "2"', "PLANT\\operator", "Jos\u00e9", None)
_BEGAN = datetime(2031, 5, 6, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What is known of a ledger in a file.

    sizes: of its checkpoints, from 0. older: the file as it was at older_size, when it had just been signed. witnessed:
    the newest checkpoint, as a witness holds it.
    """

    file: Path
    signer: NoteSigner
    leaf_hashes: Sequence[bytes]
    sizes: Sequence[int]
    older: Path
    older_size: int
    witnessed: SignedCheckpoint

    @property
    def count(self) -> int:
        """Records."""
        return len(self.leaf_hashes)

    @property
    def signed(self) -> int:
        """Records under the newest checkpoint."""
        return self.sizes[-1]

    def between(self, position: int) -> tuple[int, int]:
        """The sizes of the checkpoints around a record: it can be any from the first to before the second."""
        place = bisect_right(self.sizes, position)
        return self.sizes[place - 1], self.sizes[place]

    def signed_before(self, size: int) -> int:
        """The size of the checkpoint below this size."""
        return self.sizes[bisect_left(self.sizes, size) - 1]


def make_ledger(folder: Path, rng: random.Random, *, records: int, unsigned: int) -> Ledger:
    """A ledger of so many records, of which the last ones are not signed yet."""
    folder.mkdir(parents=True)
    signer = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(rng.randbytes(32)))
    file, older = folder / "ledger.db", folder / "older.db"
    file.touch()
    engine = open_database(f"sqlite:///{file}")
    metadata.create_all(engine)
    create_ledger(engine, signer, now=_BEGAN)
    sizes, older_size = [0], 0
    while sizes[-1] < records - unsigned:
        step = min(rng.choice((2, 10, 40, 100)), records - unsigned - sizes[-1])
        write_records(engine, rng, step)
        sizes.append(sizes[-1] + step)
        sign_newest(engine, signer)
        if not older_size and sizes[-1] > records // 2:
            older_size = sizes[-1]
            engine.dispose()
            # Closed, everything is in one file.
            shutil.copyfile(file, older)
    write_records(engine, rng, unsigned)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT leaf_hash FROM audit_records ORDER BY position")
        leaf_hashes = [leaf_hash for (leaf_hash,) in rows]
        note = connection.exec_driver_sql(
            "SELECT note FROM audit_checkpoints ORDER BY size DESC LIMIT 1"
        ).scalar_one()
    engine.dispose()
    witnessed = open_checkpoint(note.encode(), origin=ORIGIN, verifiers=[signer.verifier])
    return Ledger(
        file=file,
        signer=signer,
        leaf_hashes=leaf_hashes,
        sizes=sizes,
        older=older,
        older_size=older_size,
        witnessed=witnessed,
    )


def write_records(engine: Engine, rng: random.Random, count: int) -> None:
    """Append as the gateway does."""
    if count:
        with write_transaction(engine) as connection:
            tail = follow_tail(connection, ORIGIN, None)
            extend_tail(connection, ORIGIN, tail, _entries(rng, tail, count))


def sign_newest(engine: Engine, signer: NoteSigner) -> None:
    """Sign as the gateway does."""
    with write_transaction(engine) as connection:
        CheckpointSigner(signer).sign(connection, follow_tail(connection, ORIGIN, None))


def check(file: Path, ledger: Ledger, *, is_witnessed: bool = True) -> VerifyResult:
    """What a check says of a file."""
    engine = open_database(f"sqlite:///{file}")
    try:
        return verify_ledger(
            engine,
            ORIGIN,
            verifiers=[ledger.signer.verifier],
            witnessed=[ledger.witnessed] if is_witnessed else [],
            workers=1,
        )
    finally:
        engine.dispose()


def _entries(rng: random.Random, tail: Tail, count: int) -> list[Entry]:
    # Nearly in the order of their times, as concurrent calls are.
    return [
        encode_event(
            AuditEvent(
                action=rng.choice((Action.PREDICT, Action.PREDICT, Action.MODELS_READ)),
                outcome=rng.choice((Outcome.ADMITTED, Outcome.ANSWERED)),
                recorded_at=_BEGAN + timedelta(milliseconds=3 * number + rng.choice((0, 0, 0, 5))),
                request_id=rng.choice((None, f"{rng.getrandbits(64):016x}")),
                subject=rng.choice(_SUBJECTS),
                model_name=rng.choice(("belt", "belt", None)),
                input_bytes=rng.randrange(1, 10**6),
                address=f"10.0.0.{rng.randrange(256)}",
            )
        )
        for number in range(tail.size, tail.size + count)
    ]


class Copy:
    """A copy of the ledger's file, open to whoever tampers with it."""

    def __init__(self, source: Path, file: Path) -> None:
        """file: replaced."""
        self.file = file
        self._connection = self._opened(source)

    def _opened(self, source: Path) -> sqlite3.Connection:
        for name in (self.file, Path(f"{self.file}-wal"), Path(f"{self.file}-shm")):
            name.unlink(missing_ok=True)
        shutil.copyfile(source, self.file)
        connection = sqlite3.connect(self.file, isolation_level=None)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    def replace(self, source: Path) -> None:
        """Put another file in its place."""
        self._connection.close()
        self._connection = self._opened(source)

    def append(self, signer: NoteSigner, rng: random.Random, count: int) -> None:
        """Write and sign on as the gateway does, which has the key."""
        engine = open_database(f"sqlite:///{self.file}")
        write_records(engine, rng, count)
        sign_newest(engine, signer)
        engine.dispose()

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement; its rows."""
        return self._connection.execute(statement, values).fetchall()

    def body(self, position: int) -> str:
        """The body of a record."""
        [(body,)] = self.run("SELECT body FROM audit_records WHERE position = ?", position)
        return str(body)

    def move(self, position: int, to: int) -> None:
        """Give a record another position."""
        self.run("UPDATE audit_records SET position = ? WHERE position = ?", to, position)

    def shift(self, start: int, by: int) -> None:
        """Move all records from start on."""
        far = 1 << 40
        self.run("UPDATE audit_records SET position = position + ? WHERE position >= ?", far, start)
        back = by - far
        self.run("UPDATE audit_records SET position = position + ? WHERE position >= ?", back, far)

    def put(self, position: int, body: str) -> None:
        """Write a record with everything about it fitting."""
        leaf_hash = hash_leaf(body.encode())
        self.run("DELETE FROM audit_records WHERE position = ?", position)
        self.run(
            "INSERT INTO audit_records SELECT ?, ?, ?, ?, json_extract(?3, '$.recorded_at'),"
            " json_extract(?3, '$.action'), json_extract(?3, '$.outcome'),"
            " json_extract(?3, '$.request_id'), json_extract(?3, '$.subject'),"
            " json_extract(?3, '$.model_name')",
            ORIGIN,
            position,
            body,
            leaf_hash,
        )

    def mend_nodes(self) -> None:
        """Compute every stored node anew."""
        rows = self.run("SELECT leaf_hash FROM audit_records ORDER BY position")
        _, nodes = append_leaves(EMPTY_FRONTIER, [row[0] for row in rows])
        self.run("DELETE FROM audit_nodes")
        for node in nodes:
            values = (ORIGIN, node.level, node.number, node.node_hash)
            self.run("INSERT INTO audit_nodes VALUES (?, ?, ?, ?)", *values)

    def sign_all(self, start: int, sign: Callable[[Checkpoint], bytes]) -> None:
        """Sign every checkpoint from a size on anew, for the records that are there."""
        rows = self.run("SELECT leaf_hash FROM audit_records ORDER BY position")
        leaf_hashes = [row[0] for row in rows]
        for (size,) in self.run("SELECT size FROM audit_checkpoints WHERE size >= ?", start):
            frontier, _ = append_leaves(EMPTY_FRONTIER, leaf_hashes[:size])
            note = sign(Checkpoint(ORIGIN, size, frontier_root(frontier)))
            self.run("UPDATE audit_checkpoints SET note = ? WHERE size = ?", note.decode(), size)

    def __enter__(self) -> Self:
        """Open until the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing more is done to it."""
        self._connection.close()
