"""The tables of presence: who is on which topic, by way of which process.

They are in no revision: they are created when they are first used, and hold nothing that outlives
the connections of a server. So on Postgres they are unlogged; there they are in the schema
`amphibase`, which no Data API shows.
"""

POSTGRES_NAMES = {
    "presences": "amphibase.presences",
    "processes": "amphibase.presence_processes",
    "table": "UNLOGGED TABLE",
    "now": "CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}
SQLITE_NAMES = {
    "presences": "amphibase_presences",
    "processes": "amphibase_presence_processes",
    "table": "TABLE",
    "now": "((julianday('now') - 2440587.5) * 86400)",
}
"""`now` is in seconds since 1970."""

_CREATE_SCHEMA = (
    "SELECT pg_advisory_xact_lock(hashtext('amphibase.presences'))",  # one process at a time
    "CREATE SCHEMA IF NOT EXISTS amphibase",
)
_CREATE_TABLES = (
    "CREATE {table} IF NOT EXISTS {processes} "
    "(id text PRIMARY KEY, seen_at double precision NOT NULL)",
    "CREATE {table} IF NOT EXISTS {presences} (id text PRIMARY KEY, topic text NOT NULL, "
    "process text NOT NULL, user_id text, payload text NOT NULL, "
    "joined_at double precision NOT NULL)",
    "CREATE INDEX IF NOT EXISTS amphibase_presences_topic ON {presences} (topic)",
    "CREATE INDEX IF NOT EXISTS amphibase_presences_process ON {presences} (process)",
)


def create_statements(dialect: str) -> list[str]:
    """Return the statements that create what is missing of the tables.

    Args:
        dialect: `sqlite` or `postgresql`, as SQLAlchemy names them.
    """
    if dialect == "sqlite":
        return [each.format(**SQLITE_NAMES) for each in _CREATE_TABLES]
    return [*_CREATE_SCHEMA, *(each.format(**POSTGRES_NAMES) for each in _CREATE_TABLES)]
