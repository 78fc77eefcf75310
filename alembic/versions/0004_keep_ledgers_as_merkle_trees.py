"""Keep each ledger as a Merkle tree: leaf hashes in place of the hash chain, nodes, checkpoints, cosignatures.

Records stay, byte for byte; `gateway audit create` then signs what is there as the ledger's beginning. The old chain
is dropped: whoever relies on it verifies it by the release before.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_PAGE_RECORDS = 1000


def upgrade() -> None:
    """Move the records over and add the other tables, empty."""
    op.rename_table("audit_records", "audit_records_chained")
    _create_records()
    _move_records()
    op.drop_table("audit_records_chained")
    _create_indexes()
    op.create_table(
        "audit_ledgers",
        sa.Column("origin", sa.String(length=128), nullable=False),
        sa.Column("verifier", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_audit_ledgers")),
    )
    op.create_table(
        "audit_nodes",
        sa.Column("origin", sa.String(length=128), nullable=False),
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("origin", "level", "number", name=op.f("pk_audit_nodes")),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("origin", sa.String(length=128), nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "size", name=op.f("pk_audit_checkpoints")),
    )
    op.create_table(
        "audit_cosignatures",
        sa.Column("origin", sa.String(length=128), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_audit_cosignatures")),
    )
    _create_security()


def _create_security() -> None:
    op.create_table(
        "security_cursors",
        sa.Column("origin", sa.String(length=128), nullable=False),
        sa.Column("next_position", sa.BigInteger(), nullable=False),
        sa.Column("learn_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_security_cursors")),
    )
    op.create_table(
        "security_findings",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("record_count", sa.BigInteger(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_findings")),
    )
    op.create_index(
        "ix_security_findings_closed_at", "security_findings", ["closed_at", "rule"], unique=False
    )
    op.create_table(
        "security_known_keys",
        sa.Column("issuer", sa.String(length=256), nullable=False),
        sa.Column("key_id", sa.String(length=256), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "key_id", name=op.f("pk_security_known_keys")),
    )


def _create_records() -> None:
    op.create_table(
        "audit_records",
        sa.Column("origin", sa.String(length=128), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("recorded_at", sa.String(length=27), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("subject", sa.String(length=256), nullable=True),
        sa.Column("model_name", sa.String(length=128), nullable=True),
        # The old table's constraint still has the usual name on PostgreSQL; _create_indexes gives it back.
        sa.PrimaryKeyConstraint("origin", "position", name="pk_audit_records_moved"),
    )


def _move_records() -> None:
    connection = op.get_bind()
    after: tuple[str, int] = ("", -1)
    while rows := connection.execute(
        _OLD_PAGE, {"o": after[0], "p": after[1], "n": _PAGE_RECORDS}
    ).all():
        connection.execute(_INSERT, [_moved(*row) for row in rows])
        after = (rows[-1][0], rows[-1][1])


def _moved(origin: str, position: int, body: str) -> dict[str, Any]:
    members = json.loads(body)
    kept = ("recorded_at", "action", "outcome", "request_id", "subject", "model_name")
    leaf_hash = hashlib.sha256(b"\x00" + body.encode()).digest()
    row: dict[str, Any] = {
        "origin": origin,
        "position": position,
        "body": body,
        "leaf_hash": leaf_hash,
    }
    return row | {name: members.get(name) for name in kept}


_OLD_PAGE = sa.text(
    "SELECT origin, position, body FROM audit_records_chained "
    "WHERE origin > :o OR (origin = :o AND position > :p) ORDER BY origin, position LIMIT :n"
)
_INSERT = sa.text(
    "INSERT INTO audit_records "
    "(origin, position, body, leaf_hash, recorded_at, action, outcome, request_id, subject, model_name) VALUES "
    "(:origin, :position, :body, :leaf_hash, :recorded_at, :action, :outcome, :request_id, :subject, :model_name)"
)


def _create_indexes() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX pk_audit_records_moved RENAME TO pk_audit_records")
    table = "audit_records"
    op.create_index(
        "ix_audit_records_recorded_at", table, ["recorded_at", "origin", "position"], unique=False
    )
    op.create_index("ix_audit_records_request_id", table, ["request_id"], unique=False)
    op.create_index("ix_audit_records_subject", table, ["subject", "recorded_at"], unique=False)
    for name, condition in (
        ("action", "action <> 'predict'"),
        ("outcome", "outcome IN ('refused', 'failed')"),
    ):
        where = sa.text(condition)
        op.create_index(
            f"ix_audit_records_{name}",
            table,
            [name, "recorded_at"],
            unique=False,
            sqlite_where=where,
            postgresql_where=where,
        )


def downgrade() -> None:
    """Refuse: the hash chain of before cannot be made again without losing what was signed since."""
    raise NotImplementedError("ledgers do not go back to a hash chain: restore a backup instead")
