"""Reads from a Postgres what speaks for keeping it or for Supabase (docs/choosing.md)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, text

Side = Literal["own database", "Supabase"]

LARGE_BYTES = 500 * 10**9
"""From here on a move takes a plan of its own, and the platform's price list a look."""

ACCEPTED_HASHES = frozenset({"argon2i", "argon2id", "bcrypt", "fbscrypt", "none"})
"""What Supabase Auth verifies (https://supabase.com/docs/guides/auth/password-security)."""

SUPABASE_EXTENSIONS = frozenset({
    "address_standardizer", "address_standardizer_data_us", "amcheck", "autoinc", "bloom",
    "btree_gin", "btree_gist", "citext", "cube", "dblink", "dict_int", "dict_xsyn",
    "earthdistance", "fuzzystrmatch", "hstore", "http", "hypopg", "index_advisor",
    "insert_username", "intarray", "isn", "lo", "ltree", "moddatetime", "pageinspect",
    "pg_buffercache", "pg_cron", "pg_freespacemap", "pg_graphql", "pg_hashids", "pg_jsonschema",
    "pg_net", "pg_partman", "pg_prewarm", "pg_repack", "pg_stat_statements", "pg_surgery",
    "pg_tle", "pg_trgm", "pg_visibility", "pg_walinspect", "pgaudit", "pgcrypto", "pgjwt", "pgmq",
    "pgroonga", "pgroonga_database", "pgrouting", "pgrowlocks", "pgsodium", "pgstattuple",
    "pgtap", "plpgsql", "plpgsql_check", "postgis", "postgis_raster", "postgis_sfcgal",
    "postgis_tiger_geocoder", "postgis_topology", "postgres_fdw", "refint", "rum", "seg",
    "sslinfo", "supabase_vault", "tablefunc", "tcn", "tsm_system_rows", "tsm_system_time",
    "unaccent", "uuid-ossp", "vector", "wrappers", "xml2",
})  # fmt: skip
"""What a project may install (https://supabase.com/docs/guides/database/extensions)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One criterion, and what a database says about it.

    Attributes:
        speaks_for: None where it decides nothing.
    """

    criterion: str
    found: str
    speaks_for: Side | None = None


def read_evidence(connection: Connection) -> list[Evidence]:
    """Return what a Postgres shows; nothing is changed, and no row of an application is read."""
    evidence = []
    for criterion, statement, judge in QUESTIONS:
        rows = [tuple(row) for row in connection.execute(text(statement))]
        evidence.append(Evidence(criterion, *judge(rows)))
    for criterion, table, statement, judge in QUESTIONS_ON_TABLES:
        if connection.scalar(text("SELECT to_regclass(:table)"), {"table": table}) is not None:
            rows = [tuple(row) for row in connection.execute(text(statement))]
            evidence.append(Evidence(criterion, *judge(rows)))
    return evidence


def recommended(evidence: list[Evidence]) -> Side | None:
    """Return the side that all clear evidence is on; None where there is none, or on both."""
    sides = {each.speaks_for for each in evidence if each.speaks_for}
    return sides.pop() if len(sides) == 1 else None


Rows = list[tuple[Any, ...]]
Judgement = tuple[str, Side | None]


def _size(rows: Rows) -> Judgement:
    ((size, shown),) = rows
    return shown, "own database" if size > LARGE_BYTES else None


def _procedures(rows: Rows) -> Judgement:
    untrusted = sorted({language for language, trusted, _ in rows if not trusted})
    total = sum(count for _, _, count in rows)
    if untrusted:
        return f"{total}, some in {', '.join(untrusted)}, which Supabase has not", "own database"
    return str(total), None


def _extensions(rows: Rows) -> Judgement:
    names = sorted(name for (name,) in rows)
    missing = [name for name in names if name not in SUPABASE_EXTENSIONS]
    if missing:
        return f"{', '.join(missing)}: not on Supabase", "own database"
    return ", ".join(names), None


def _count(unit: str, side: Side | None = None) -> Callable[[Rows], Judgement]:
    def judge(rows: Rows) -> Judgement:
        ((count,),) = rows
        return f"{count} {unit}", side if count else None

    return judge


def _listed(nothing: str) -> Callable[[Rows], Judgement]:
    def judge(rows: Rows) -> Judgement:
        return ", ".join(str(name) for (name,) in rows) or nothing, None

    return judge


def _hashes(rows: Rows) -> Judgement:
    found = ", ".join(f"{count} {kind}" for kind, count in rows) or "no accounts"
    others = any(kind not in ACCEPTED_HASHES for kind, _ in rows)
    return found, "own database" if others else None


QUESTIONS: tuple[tuple[str, str, Callable[[Rows], Judgement]], ...] = (
    (
        "size",
        "SELECT pg_database_size(current_database()), "
        "pg_size_pretty(pg_database_size(current_database()))",
        _size,
    ),
    (
        "procedures",
        "SELECT l.lanname, l.lanpltrusted, count(*) FROM pg_proc p "
        "JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang "
        "WHERE n.nspname !~ '^(pg_|information_schema$|auth$|storage$)' AND NOT EXISTS ("
        "SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') GROUP BY 1, 2",
        _procedures,
    ),
    (
        "triggers",
        "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal "
        "AND t.tgfoid IS DISTINCT FROM to_regprocedure('realtime.write_to_outbox()') "
        "AND n.nspname !~ '^(pg_|information_schema$|auth$|storage$)'",
        _count("triggers"),
    ),
    ("extensions", "SELECT extname FROM pg_extension", _extensions),
    (
        "several databases",
        "SELECT count(*) FROM pg_foreign_server",
        _count("foreign servers", "own database"),
    ),
    (
        "policies for browsers",
        "SELECT count(*) FROM pg_policies WHERE schemaname = 'public' "
        "AND roles && ARRAY['anon', 'authenticated']::name[]",
        _count("policies of anon and authenticated", "Supabase"),
    ),
    (
        "integer keys",
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) "
        "WHERE i.indisprimary AND a.atttypid IN (20, 21, 23) "
        "AND n.nspname !~ '^(pg_|information_schema$|auth$|storage$)' "
        "AND c.relname ~ '^(auth_)?(users?|accounts?)$' ORDER BY 1",
        _listed("no table of users has one"),
    ),
    (
        "connections",
        "SELECT count(*) || ' of ' || current_setting('max_connections') FROM pg_stat_activity "
        "WHERE backend_type = 'client backend'",
        _listed(""),
    ),
    (
        "realtime",
        "SELECT count(*) FROM pg_publication_tables WHERE pubname = 'supabase_realtime'",
        _count("tables that are sent to browsers", "Supabase"),
    ),
)
"""The criterion, the statement that asks for it, and what its rows mean."""

QUESTIONS_ON_TABLES: tuple[tuple[str, str, str, Callable[[Rows], Judgement]], ...] = (
    (
        "password hashes",
        "auth.users",
        "SELECT CASE WHEN coalesce(encrypted_password, '') = '' THEN 'none' "
        "WHEN encrypted_password ~ '^\\$2[aby]\\$' THEN 'bcrypt' "
        "ELSE coalesce(substring(encrypted_password FROM '^\\$([a-z0-9]+)'), 'unknown') END, "
        "count(*) FROM auth.users GROUP BY 1 ORDER BY 1",
        _hashes,
    ),
    (
        "files",
        "storage.objects",
        "SELECT count(*) || ' files, ' || pg_size_pretty("
        "coalesce(sum((metadata ->> 'size')::bigint), 0)) FROM storage.objects",
        _listed(""),
    ),
)
"""The same, for what only some databases have."""
