"""sign-ups that wait for the proof of their address"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from amphibase.schema.migrations.schema_operations import SchemaOperations

revision = "0002"
down_revision = "0001"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
ADDRESS = sa.Text().with_variant(postgresql.INET(), "postgresql")


def upgrade() -> None:
    auth = SchemaOperations("auth")
    auth.create_table(
        "pending_sign_ups",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("encrypted_password", sa.Text()),
        sa.Column("raw_user_meta_data", JSON, nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("code_challenge", sa.Text()),
        sa.Column("code_challenge_method", sa.Text()),
        sa.Column("ip", ADDRESS),
        sa.Column("is_contested", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("email", "token_hash", "created_at"):
        auth.create_index(f"pending_sign_ups_{column}_idx", "pending_sign_ups", [column])


def downgrade() -> None:
    SchemaOperations("auth").drop_tables("pending_sign_ups")
