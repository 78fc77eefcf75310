"""Add the deny list of tokens and the counters that replicas share."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add both tables, empty."""
    op.create_table(
        "token_denials",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("issuer", sa.String(length=256), nullable=False),
        sa.Column("subject", sa.String(length=256), nullable=True),
        sa.Column("token_id", sa.String(length=256), nullable=True),
        sa.Column("issued_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("why", sa.String(length=512), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=256), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_denials")),
    )
    op.create_table(
        "quota_counters",
        sa.Column("key", sa.String(length=768), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("ends_at_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_quota_counters")),
    )
    op.create_index(
        "ix_quota_counters_ends_at_seconds", "quota_counters", ["ends_at_seconds"], unique=False
    )


def downgrade() -> None:
    """Drop both; whatever was denied is taken again."""
    op.drop_index("ix_quota_counters_ends_at_seconds", "quota_counters")
    op.drop_table("quota_counters")
    op.drop_table("token_denials")
