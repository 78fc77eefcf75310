"""Watch drift by evidence that is kept between ticks: cursors, states, leases; alarms by slice, silences, deliveries.

Samples say which camera they are of and carry the pooled feature. What was raised is firing, its word from here on; the
counts of ticks above and below a threshold are dropped, because evidence takes their place.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KEPT = "model_name, name, state, since, model_version, newest_request_id, features, diagnosis"


def upgrade() -> None:
    """Move the alarms over, add columns to what is there, and the other tables, empty."""
    op.add_column("samples", sa.Column("source", sa.String(length=64), nullable=True))
    op.add_column("samples", sa.Column("embedding", sa.LargeBinary(), nullable=True))
    _move_alarms()
    _widen_history()
    _create_states()
    _create_notices()


def downgrade() -> None:
    """Move the alarms of whole models back; those of slices, and all evidence, are gone."""
    for table in ("leases", "alarm_deliveries", "alarm_silences", "drift_states", "drift_cursors"):
        op.drop_table(table)
    for name in ("slice", "effect", "evidence", "window_newest_at"):
        op.drop_column("drift_results", name)
    op.execute("DELETE FROM alarm_transitions WHERE slice <> ''")
    for name in ("slice", "harm", "details"):
        op.drop_column("alarm_transitions", name)
    _rename_states({"firing": "raised", "acknowledged": "raised", "resolved": "clear"})
    op.rename_table("alarms", "alarms_by_slice")
    op.create_table(
        "alarms",
        *_alarm_columns(),
        sa.Column("above_ticks", sa.Integer(), nullable=False),
        sa.Column("below_ticks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model_name", "name", name=op.f("pk_alarms_by_model")),
    )
    op.execute(
        f"INSERT INTO alarms ({_KEPT}, above_ticks, below_ticks) "  # noqa: S608  (constants)
        f"SELECT {_KEPT}, 0, 0 FROM alarms_by_slice WHERE slice = ''"
    )
    op.drop_table("alarms_by_slice")
    op.drop_column("samples", "embedding")
    op.drop_column("samples", "source")


def _alarm_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("model_name", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_version", sa.String(length=64), nullable=False),
        sa.Column("newest_request_id", sa.String(length=36), nullable=True),
        sa.Column("features", sa.Text(), nullable=False),
        sa.Column("diagnosis", sa.Text(), nullable=False),
    ]


def _rename_states(names: dict[str, str]) -> None:
    for before, after in names.items():
        values = {"before": before, "after": after}
        for table, column in (
            ("alarms", "state"),
            ("alarm_transitions", "state_before"),
            ("alarm_transitions", "state_after"),
        ):
            statement = sa.text(f"UPDATE {table} SET {column} = :after WHERE {column} = :before")  # noqa: S608  (constants)
            op.execute(statement.bindparams(**values))


def _move_alarms() -> None:
    _rename_states({"raised": "firing"})
    op.rename_table("alarms", "alarms_by_model")
    op.create_table(
        "alarms",
        *_alarm_columns(),
        sa.Column("slice", sa.String(length=200), nullable=False),
        sa.Column("harm", sa.String(length=16), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("armed_samples", sa.BigInteger(), nullable=False),
        sa.Column("quiet_samples", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=256), nullable=True),
        sa.Column("acknowledged_why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("model_name", "name", "slice", name=op.f("pk_alarms_by_slice")),
    )
    op.execute(
        f"INSERT INTO alarms ({_KEPT}, slice, harm, details, armed_samples, quiet_samples) "  # noqa: S608  (constants)
        f"SELECT {_KEPT}, '', 'unknown', '{{}}', 0, 0 FROM alarms_by_model"
    )
    op.drop_table("alarms_by_model")


def _widen_history() -> None:
    op.add_column(
        "alarm_transitions",
        sa.Column("slice", sa.String(length=200), nullable=False, server_default=sa.text("''")),
    )
    op.add_column(
        "alarm_transitions",
        sa.Column("harm", sa.String(length=16), nullable=False, server_default="unknown"),
    )
    op.add_column(
        "alarm_transitions", sa.Column("details", sa.Text(), nullable=False, server_default="{}")
    )
    op.add_column(
        "drift_results",
        sa.Column("slice", sa.String(length=200), nullable=False, server_default=sa.text("''")),
    )
    op.add_column("drift_results", sa.Column("effect", sa.Float(), nullable=True))
    op.add_column("drift_results", sa.Column("evidence", sa.Float(), nullable=True))
    op.add_column(
        "drift_results", sa.Column("window_newest_at", sa.DateTime(timezone=True), nullable=True)
    )


def _create_states() -> None:
    op.create_table(
        "drift_cursors",
        sa.Column("model_name", sa.String(length=128), nullable=False),
        sa.Column("model_version", sa.String(length=64), nullable=False),
        sa.Column("reference_id", sa.BigInteger(), nullable=False),
        sa.Column("last_sample_id", sa.BigInteger(), nullable=False),
        sa.Column("judged_samples", sa.BigInteger(), nullable=False),
        sa.Column("passed_samples", sa.BigInteger(), nullable=False),
        sa.Column("memory", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model_name", "model_version", name=op.f("pk_drift_cursors")),
    )
    op.create_table(
        "drift_states",
        sa.Column("model_name", sa.String(length=128), nullable=False),
        sa.Column("model_version", sa.String(length=64), nullable=False),
        sa.Column("slice", sa.String(length=200), nullable=False),
        sa.Column("judged_samples", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("memory", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "model_name", "model_version", "slice", name=op.f("pk_drift_states")
        ),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("expires_at_seconds", sa.Float(), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def _create_notices() -> None:
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "alarm_silences",
        sa.Column("id", row_id, autoincrement=True, nullable=False),
        sa.Column("model_name", sa.String(length=128), nullable=True),
        sa.Column("name", sa.String(length=64), nullable=True),
        sa.Column("slice", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=256), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_silences")),
    )
    op.create_index("ix_alarm_silences_ends_at", "alarm_silences", ["ends_at"], unique=False)
    op.create_table(
        "alarm_deliveries",
        sa.Column("id", row_id, autoincrement=True, nullable=False),
        sa.Column("transition_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_deliveries")),
        sa.UniqueConstraint(
            "transition_id", "target", name=op.f("uq_alarm_deliveries_transition_id")
        ),
    )
    op.create_index("ix_alarm_deliveries_next_at", "alarm_deliveries", ["next_at"], unique=False)
