"""The tables of accounts and files, shaped like Supabase's, for each SQL engine.

On Postgres they live in the schemas `auth` and `storage` under Supabase's names and types, so that
a move is one to one and policies keep working. SQLite has no schemas: there the schema becomes a
prefix (`auth_users`), an enum becomes text with a CHECK, `inet` becomes text and an array JSON.

Indexes that lead with `instance_id` are left out: here it is always zero.
"""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import MetaData, Table

from amphibase.schema import auth_tables, storage_tables
from amphibase.schema.table_builder import TableBuilder


@dataclass(frozen=True, slots=True)
class Tables:
    """The table set of one engine, for SQLAlchemy Core."""

    auth: MetaData
    storage: MetaData
    users: Table
    identities: Table
    sessions: Table
    refresh_tokens: Table
    mfa_factors: Table
    mfa_challenges: Table
    mfa_amr_claims: Table
    one_time_tokens: Table
    pending_sign_ups: Table
    flow_state: Table
    audit_log_entries: Table
    buckets: Table
    objects: Table


@cache
def tables(dialect: str) -> Tables:
    """Return the tables for `postgresql` or `sqlite`; the same objects each time."""
    auth, storage = TableBuilder("auth", dialect), TableBuilder("storage", dialect)
    return Tables(
        auth=auth.metadata,
        storage=storage.metadata,
        users=auth_tables.users(auth),
        identities=auth_tables.identities(auth),
        sessions=auth_tables.sessions(auth),
        refresh_tokens=auth_tables.refresh_tokens(auth),
        mfa_factors=auth_tables.mfa_factors(auth),
        mfa_challenges=auth_tables.mfa_challenges(auth),
        mfa_amr_claims=auth_tables.mfa_amr_claims(auth),
        one_time_tokens=auth_tables.one_time_tokens(auth),
        pending_sign_ups=auth_tables.pending_sign_ups(auth),
        flow_state=auth_tables.flow_state(auth),
        audit_log_entries=auth_tables.audit_log_entries(auth),
        buckets=storage_tables.buckets(storage),
        objects=storage_tables.objects(storage),
    )
