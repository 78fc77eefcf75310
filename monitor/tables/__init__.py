"""The monitor's own tables, in the metadata that both processes share; monitor.tables.queries has all SQL over them.

Rules: only the monitor writes them; no foreign keys into the gateway's tables; drift_results and closed findings are
pruned by age, the history of alarms and the list of reports are kept.
"""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text

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
    Index("ix_drift_results_model", "model_name", "ticked_at"),
    Index("ix_drift_results_ticked_at", "ticked_at"),
)

alarms = Table(
    "alarms",
    metadata,
    Column("model_name", String(128), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("above_ticks", Integer, nullable=False),
    Column("below_ticks", Integer, nullable=False),
    Column("newest_request_id", String(36), nullable=True),
    Column("features", Text, nullable=False),
    Column("diagnosis", Text, nullable=False),
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
