"""the roles of callers and who is asking"""

from alembic import op

from amphibase.schema.migrations import roles

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        roles.make(op.get_bind())


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        roles.drop_functions(op.get_bind())
