"""What becomes of `CREATE EXTENSION` where the server lacks the extension."""

import re

PROVIDED = frozenset({"uuid-ossp"})
"""What people take from these, the project has by itself."""

PLATFORM = frozenset(
    {
        "hypopg", "index_advisor", "pg_cron", "pg_graphql", "pg_net", "pg_stat_monitor",
        "pg_stat_statements", "pg_tle", "pgaudit", "pgmq", "pgsodium", "plan_filter", "plv8",
        "safeupdate", "supabase_vault", "supautils", "wrappers",
    }
)  # fmt: skip
"""Extensions that no table depends on: a project works without them."""

PACKAGES = {
    "vector": "pgvector",
    "postgis": "postgis-3",
    "postgis_raster": "postgis-3",
    "postgis_topology": "postgis-3",
    "pgtap": "pgtap",
    "http": "http",
    "hll": "hll",
    "pgrouting": "pgrouting",
    "rum": "rum",
    "timescaledb": "timescaledb",
}
"""The part of the name of Debian's package after `postgresql-{major}-`; the others come with the
server's own."""

_ABOUT = re.compile(
    r"""
    (?: create\s+extension (?: \s+if\s+not\s+exists )?
      | (?: alter | comment\s+on | drop ) \s+extension )
    \s+ (?: "(?P<quoted>[^"]+)" | (?P<plain>[\w$]+) )
    """,
    re.VERBOSE | re.IGNORECASE,
)


def named_in(statement: str) -> str | None:
    """The extension that a statement makes, changes, drops or comments; None for all others."""
    found = _ABOUT.match(statement)
    if found is None:
        return None
    return found["quoted"] or found["plain"].lower()


def package_of(extension: str, major: int) -> str:
    """The package of Debian and its kin that has the extension."""
    suffix = PACKAGES.get(extension)
    return f"postgresql-{major}-{suffix}" if suffix else f"postgresql-{major}"
