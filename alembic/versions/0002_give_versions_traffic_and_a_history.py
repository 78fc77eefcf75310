"""Give model versions traffic and a history, and let a shadow's sample stand beside the served one."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add them; what is in production now is the first entry of its name's history."""
    with op.batch_alter_table("model_versions") as batch:
        batch.add_column(sa.Column("task", sa.String(32), nullable=False, server_default="detect"))
        batch.add_column(
            sa.Column("engine", sa.String(32), nullable=False, server_default="openvino")
        )
        batch.add_column(
            sa.Column("precision", sa.String(16), nullable=False, server_default="f32")
        )
        batch.add_column(sa.Column("traffic", sa.String(16), nullable=False, server_default="none"))
        batch.add_column(sa.Column("share", sa.Float(), nullable=False, server_default="0"))
    for name, columns, where in _UNIQUE:
        op.create_index(
            name,
            "model_versions",
            columns,
            unique=True,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
    op.create_table(
        "model_promotions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_promotions")),
    )
    op.create_index("ix_model_promotions_name", "model_promotions", ["name", "id"], unique=False)
    op.execute(
        "INSERT INTO model_promotions (name, version, promoted_at) "
        "SELECT name, version, registered_at FROM model_versions WHERE stage = 'production'"
    )
    with op.batch_alter_table("samples") as batch:
        batch.add_column(sa.Column("mode", sa.String(16), nullable=False, server_default="served"))
        batch.drop_constraint("uq_samples_request_id", type_="unique")
        batch.create_unique_constraint("uq_samples_request_id", ["request_id", "mode"])


def downgrade() -> None:
    """Drop them; of samples the shadows' go too, since a request has one sample only."""
    op.execute("DELETE FROM samples WHERE mode = 'shadow'")
    with op.batch_alter_table("samples") as batch:
        batch.drop_constraint("uq_samples_request_id", type_="unique")
        batch.create_unique_constraint("uq_samples_request_id", ["request_id"])
        batch.drop_column("mode")
    op.drop_index("ix_model_promotions_name", "model_promotions")
    op.drop_table("model_promotions")
    for name, _columns, _where in _UNIQUE:
        op.drop_index(name, "model_versions")
    with op.batch_alter_table("model_versions") as batch:
        for column in ("share", "traffic", "precision", "engine", "task"):
            batch.drop_column(column)


_UNIQUE = (
    ("uq_model_versions_production", ["name"], "stage = 'production'"),
    ("uq_model_versions_traffic", ["name", "traffic"], "traffic <> 'none'"),
)
