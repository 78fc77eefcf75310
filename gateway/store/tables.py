"""The gateway's tables. The monitor reads them and adds its own to the same metadata (monitor.tables).

Rules: no foreign keys from the monitor's tables into these; audit_records, audit_nodes and audit_checkpoints are
insert-only.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

RowId = BigInteger().with_variant(Integer, "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite drops the zone, so it is demanded on the way in and put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  (the name is the interface)
        """Store UTC; a naive time is a programmer's error."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise RuntimeError("internal: a naive time reached the store")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  (the name is the interface)
        """Give back an aware UTC time."""
        if value is None:
            return None
        stored: datetime = value
        return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)


samples = Table(
    "samples",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("request_id", String(36), nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("model_name", String(128), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("principal", String(640), nullable=False),
    Column("input_sha256", String(64), nullable=False),
    Column("features", Text, nullable=False),
    Column("detections", Text, nullable=False),
    Column("kept_probability", Float, nullable=False),
    Column("image_probability", Float, nullable=False),
    Column("mode", String(16), nullable=False, server_default="served"),
    Column("source", String(64), nullable=True),
    Column("embedding", LargeBinary, nullable=True),
    UniqueConstraint("request_id", "mode"),
    Index("ix_samples_model", "model_name", "model_version", "id"),
)

sample_keys = Table(
    "sample_keys",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("kek_id", String(64), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

sample_images = Table(
    "sample_images",
    metadata,
    Column("request_id", String(36), primary_key=True),
    Column("key_id", String(64), nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
)

# One row a ledger, made by `gateway audit create`; its records, hashes and checkpoints have its origin.
audit_ledgers = Table(
    "audit_ledgers",
    metadata,
    Column("origin", String(128), primary_key=True),
    Column("verifier", String(256), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

_IS_NO_PREDICTION = text("action <> 'predict'")
_DID_NOT_SUCCEED = text("outcome IN ('refused', 'failed')")

# body alone is hashed. What stands beside it repeats members of it for searching, and `gateway audit verify` compares.
audit_records = Table(
    "audit_records",
    metadata,
    Column("origin", String(128), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
    Column("leaf_hash", LargeBinary(32), nullable=False),
    # As in the body, so that text sorts by time.
    Column("recorded_at", String(27), nullable=False),
    Column("action", String(32), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("request_id", String(64), nullable=True),
    Column("subject", String(256), nullable=True),
    Column("model_name", String(128), nullable=True),
    Index("ix_audit_records_recorded_at", "recorded_at", "origin", "position"),
    Index("ix_audit_records_request_id", "request_id"),
    Index("ix_audit_records_subject", "subject", "recorded_at"),
    # Only of what is rare, so that an answered prediction pays for neither.
    Index(
        "ix_audit_records_action",
        "action",
        "recorded_at",
        sqlite_where=_IS_NO_PREDICTION,
        postgresql_where=_IS_NO_PREDICTION,
    ),
    Index(
        "ix_audit_records_outcome",
        "outcome",
        "recorded_at",
        sqlite_where=_DID_NOT_SUCCEED,
        postgresql_where=_DID_NOT_SUCCEED,
    ),
)

# The hash of every full subtree of 256^level records, level >= 1 (gateway.audit.merkle).
audit_nodes = Table(
    "audit_nodes",
    metadata,
    Column("origin", String(128), primary_key=True),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("node_hash", LargeBinary(32), nullable=False),
)

# Signed notes, all of them: they bound where a ledger was changed by somebody who mended its hashes.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("origin", String(128), primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)

# The newest checkpoint of each ledger with the signatures of its witnesses; the monitor writes it.
audit_cosignatures = Table(
    "audit_cosignatures",
    metadata,
    Column("origin", String(128), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
)

_IN_PRODUCTION = text("stage = 'production'")
_HAS_TRAFFIC = text("traffic <> 'none'")

model_versions = Table(
    "model_versions",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("stage", String(16), nullable=False),
    Column("file_name", String(255), nullable=False),
    Column("plaintext_sha256", String(64), nullable=False),
    Column("class_names", Text, nullable=False),
    Column("input_height", Integer, nullable=False),
    Column("input_width", Integer, nullable=False),
    Column("registered_at", UtcDateTime, nullable=False),
    Column("task", String(32), nullable=False, server_default="detect"),
    Column("engine", String(32), nullable=False, server_default="openvino"),
    Column("precision", String(16), nullable=False, server_default="f32"),
    Column("traffic", String(16), nullable=False, server_default="none"),
    Column("share", Float, nullable=False, server_default="0"),
    # Whatever the code above does, a name has one version in production, and one that gets each kind of traffic.
    Index(
        "uq_model_versions_production",
        "name",
        unique=True,
        sqlite_where=_IN_PRODUCTION,
        postgresql_where=_IN_PRODUCTION,
    ),
    Index(
        "uq_model_versions_traffic",
        "name",
        "traffic",
        unique=True,
        sqlite_where=_HAS_TRAFFIC,
        postgresql_where=_HAS_TRAFFIC,
    ),
)

model_promotions = Table(
    "model_promotions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("name", String(128), nullable=False),
    Column("version", String(64), nullable=False),
    Column("promoted_at", UtcDateTime, nullable=False),
    Column("undone_at", UtcDateTime, nullable=True),
    Index("ix_model_promotions_name", "name", "id"),
)

token_denials = Table(
    "token_denials",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("issuer", String(256), nullable=False),
    Column("subject", String(256), nullable=True),
    Column("token_id", String(256), nullable=True),
    Column("issued_before", UtcDateTime, nullable=True),
    Column("ends_at", UtcDateTime, nullable=True),
    Column("why", String(512), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(256), nullable=False),
    Column("lifted_at", UtcDateTime, nullable=True),
)

quota_counters = Table(
    "quota_counters",
    metadata,
    Column("key", String(768), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("ends_at_seconds", Float, nullable=False),
    Index("ix_quota_counters_ends_at_seconds", "ends_at_seconds"),
)
