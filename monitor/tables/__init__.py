"""The monitor's own tables, in the metadata that both processes share; monitor.tables.queries has all SQL over them.

Rules: only the monitor writes them; no foreign keys into the gateway's tables; drift_results and closed findings are
pruned by age, the history of alarms and the list of reports are kept.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from gateway.store.tables import RowId, UtcDateTime, metadata

drift_references = Table(
    "drift_references",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("model_name", String(128), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("source", Text, nullable=False),
    Column("covers_until", UtcDateTime, nullable=True),
    Column("sample_count", Integer, nullable=False),
    Column("content", Text, nullable=False),
    Index("ix_drift_references_model", "model_name", "model_version", "id"),
)

drift_results = Table(
    "drift_results",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("ticked_at", UtcDateTime, nullable=False),
    Column("model_name", String(128), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("reference_id", BigInteger, nullable=False),
    Column("feature", String(128), nullable=False),
    Column("score", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("window_count", Integer, nullable=False),
    Column("slice", String(200), nullable=False, server_default=text("''")),
    Column("effect", Float, nullable=True),
    Column("evidence", Float, nullable=True),
    Column("window_newest_at", UtcDateTime, nullable=True),
    Index("ix_drift_results_model", "model_name", "ticked_at"),
    Index("ix_drift_results_ticked_at", "ticked_at"),
)

# How far the samples of a model version were judged, against which reference; memory: JSON, bounded.
drift_cursors = Table(
    "drift_cursors",
    metadata,
    Column("model_name", String(128), primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("reference_id", BigInteger, nullable=False),
    Column("last_sample_id", BigInteger, nullable=False),
    Column("judged_samples", BigInteger, nullable=False),
    Column("passed_samples", BigInteger, nullable=False),
    Column("memory", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

# The evidence of each slice; of one size whatever the traffic.
drift_states = Table(
    "drift_states",
    metadata,
    Column("model_name", String(128), primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("slice", String(200), primary_key=True),
    Column("judged_samples", BigInteger, nullable=False),
    Column("evidence", LargeBinary, nullable=False),
    Column("memory", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

# Who acts, of several monitors: until expires_at_seconds by the database's clock, or another takes it with a new fence.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("expires_at_seconds", Float, nullable=False),
    Column("renewed_at", UtcDateTime, nullable=False),
    Column("fence", BigInteger, nullable=False),
)

alarms = Table(
    "alarms",
    metadata,
    Column("model_name", String(128), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("slice", String(200), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("newest_request_id", String(36), nullable=True),
    Column("features", Text, nullable=False),
    Column("diagnosis", Text, nullable=False),
    Column("harm", String(16), nullable=False),
    Column("details", Text, nullable=False),
    Column("armed_samples", BigInteger, nullable=False),
    Column("quiet_samples", BigInteger, nullable=False),
    Column("acknowledged_at", UtcDateTime, nullable=True),
    Column("acknowledged_by", String(256), nullable=True),
    Column("acknowledged_why", Text, nullable=True),
)

# Alarms that nobody is told of until ends_at; NULL: of every model, alarm or slice.
alarm_silences = Table(
    "alarm_silences",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("model_name", String(128), nullable=True),
    Column("name", String(64), nullable=True),
    Column("slice", String(200), nullable=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(256), nullable=False),
    Column("why", Text, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Index("ix_alarm_silences_ends_at", "ends_at"),
)

# One row a change of an alarm and a webhook: next_at is NULL once it was delivered or given up.
alarm_deliveries = Table(
    "alarm_deliveries",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("transition_id", BigInteger, nullable=False),
    Column("target", String(64), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=True),
    Column("delivered_at", UtcDateTime, nullable=True),
    Column("last_error", Text, nullable=True),
    UniqueConstraint("transition_id", "target"),
    Index("ix_alarm_deliveries_next_at", "next_at"),
)

alarm_transitions = Table(
    "alarm_transitions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("model_name", String(128), nullable=False),
    Column("name", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("state_before", String(16), nullable=False),
    Column("state_after", String(16), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("features", Text, nullable=False),
    Column("diagnosis", Text, nullable=False),
    Column("slice", String(200), nullable=False, server_default=text("''")),
    Column("harm", String(16), nullable=False, server_default="unknown"),
    Column("details", Text, nullable=False, server_default="{}"),
    Index("ix_alarm_transitions_model", "model_name", "id"),
)

reports = Table(
    "reports",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("model_name", String(128), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("reference_id", BigInteger, nullable=False),
    Column("window_count", Integer, nullable=False),
    Column("drifted_features", Integer, nullable=False),
    Column("html_file", String(255), nullable=False),
    Column("json_file", String(255), nullable=False),
    Index("ix_reports_model", "model_name", "id"),
)

# How far the rules on suspicious behaviour have read each ledger; below learn_until it only taught what is usual.
security_cursors = Table(
    "security_cursors",
    metadata,
    Column("origin", String(128), primary_key=True),
    Column("next_position", BigInteger, nullable=False),
    Column("learn_until", BigInteger, nullable=False),
)

security_findings = Table(
    "security_findings",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("rule", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("record_count", BigInteger, nullable=False),
    Column("words", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("closed_at", UtcDateTime, nullable=True),
    Column("closed_why", Text, nullable=True),
    Index("ix_security_findings_closed_at", "closed_at", "rule"),
)

# Issuers whose tokens were taken, and the ids of their keys; key_id is empty for the issuer itself.
security_known_keys = Table(
    "security_known_keys",
    metadata,
    Column("issuer", String(256), primary_key=True),
    Column("key_id", String(256), primary_key=True),
    Column("first_seen_at", UtcDateTime, nullable=False),
)
