"""the roles of callers and the functions that read their claims"""

from alembic import op

from amphibase.schema.migrations import roles

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        roles.create_missing(op.get_bind())


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        roles.drop_own_functions(op.get_bind())
