"""The tables of files, column by column as in Supabase's schema `storage`."""

from sqlalchemy import BigInteger, Boolean, Column, Computed, Table, Text, Uuid, false, text
from sqlalchemy.dialects.postgresql import ARRAY

from amphibase.column_types import Json
from amphibase.schema.table_builder import TEXTS, TableBuilder, insert_timestamp


def buckets(storage: TableBuilder) -> Table:
    return storage.table(
        "buckets",
        Column("id", Text(), primary_key=True),
        Column("name", Text(), nullable=False),
        Column("owner", Uuid()),
        insert_timestamp("created_at"),
        insert_timestamp("updated_at"),
        Column("public", Boolean(), server_default=false()),
        Column("avif_autodetection", Boolean(), server_default=false()),
        Column("file_size_limit", BigInteger()),
        Column("allowed_mime_types", TEXTS),
        Column("owner_id", Text()),
        Column(
            "type",
            storage.enum("buckettype", "STANDARD", "ANALYTICS", "VECTOR"),
            nullable=False,
            server_default=text("'STANDARD'"),
        ),
        storage.index("bname", "name", unique=True),
    )


def objects(storage: TableBuilder) -> Table:
    # `path_tokens` is computed by the database or missing: SQLite has no function that splits text,
    # and a copy written by hand could contradict `name`. Prefixes of `name` serve instead there.
    path_tokens: Column[list[str]] = Column(
        "path_tokens", ARRAY(Text()), Computed("string_to_array(name, '/'::text)", persisted=True)
    )
    return storage.table(
        "objects",
        storage.id(generated=True),
        Column(
            "bucket_id",
            Text(),
            storage.foreign_key("buckets", name="objects_bucketId_fkey", cascade=False),
        ),
        Column("name", Text()),
        Column("owner", Uuid()),
        insert_timestamp("created_at"),
        insert_timestamp("updated_at"),
        insert_timestamp("last_accessed_at"),
        Column("metadata", Json),
        *([path_tokens] if storage.on_postgres else []),
        Column("version", Text()),
        Column("owner_id", Text()),
        Column("user_metadata", Json),
        storage.index("bucketid_objname", "bucket_id", "name", unique=True),
        storage.index("name_prefix_search", "name", postgresql_ops={"name": "text_pattern_ops"}),
    )
