"""the tables of files, and the default bucket of uploads"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from amphibase.schema.migrations.schema_operations import SchemaOperations

revision = "0001"
down_revision = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TEXTS = sa.JSON().with_variant(postgresql.ARRAY(sa.Text()), "postgresql")
TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    storage = SchemaOperations("storage")
    storage.create_table(
        "buckets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Uuid()),
        sa.Column("created_at", TIMESTAMP, server_default=sa.func.now()),
        sa.Column("updated_at", TIMESTAMP, server_default=sa.func.now()),
        sa.Column("public", sa.Boolean(), server_default=sa.false()),
        sa.Column("avif_autodetection", sa.Boolean(), server_default=sa.false()),
        sa.Column("file_size_limit", sa.BigInteger()),
        sa.Column("allowed_mime_types", TEXTS),
        sa.Column("owner_id", sa.Text()),
        sa.Column(
            "type",
            storage.enum("buckettype", "STANDARD", "ANALYTICS", "VECTOR"),
            nullable=False,
            server_default="STANDARD",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    storage.create_index("bname", "buckets", ["name"], unique=True)
    columns = (sa.column("id", sa.Text()), sa.column("name", sa.Text()))
    buckets = sa.table(storage.name_of("buckets"), *columns, schema=storage.schema)
    op.bulk_insert(buckets, [{"id": "uploads", "name": "uploads"}])

    path_tokens: sa.Column[list[str]] = sa.Column(
        "path_tokens",
        postgresql.ARRAY(sa.Text()),
        sa.Computed("string_to_array(name, '/'::text)", persisted=True),
    )
    storage.create_table(
        "objects",
        sa.Column(
            "id",
            sa.Uuid(),
            nullable=False,
            server_default=sa.text("gen_random_uuid()") if storage.on_postgres else None,
        ),
        sa.Column("bucket_id", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("owner", sa.Uuid()),
        sa.Column("created_at", TIMESTAMP, server_default=sa.func.now()),
        sa.Column("updated_at", TIMESTAMP, server_default=sa.func.now()),
        sa.Column("last_accessed_at", TIMESTAMP, server_default=sa.func.now()),
        sa.Column("metadata", JSON),
        *([path_tokens] if storage.on_postgres else []),
        sa.Column("version", sa.Text()),
        sa.Column("owner_id", sa.Text()),
        sa.Column("user_metadata", JSON),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(
            ["bucket_id"], [storage.id_column("buckets")], name="objects_bucketId_fkey"
        ),
    )
    storage.create_index("bucketid_objname", "objects", ["bucket_id", "name"], unique=True)
    storage.create_index(
        "name_prefix_search",
        "objects",
        ["name"],
        postgresql_ops={"name": "text_pattern_ops"},
    )


def downgrade() -> None:
    storage = SchemaOperations("storage")
    storage.drop_tables("objects", "buckets")
    storage.drop_enums("buckettype")
