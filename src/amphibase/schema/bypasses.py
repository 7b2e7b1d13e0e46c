"""Looks in a database for ways past the policies of tables: privileges that no policy limits, and
views and functions that read the tables as their owners."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, MetaData, text

from amphibase.records.column_access import column_access
from amphibase.schema.ddl import PREFIX, quoted
from amphibase.schema.generated_functions import SCHEMA
from amphibase.schema.grants import ROLES, Grant, revoke
from amphibase.schema.policies import TableRules, declared

UNLIMITED = ("TRUNCATE", "REFERENCES", "TRIGGER")
"""Privileges that policies do not limit (Postgres: "Row Security Policies")."""

_UNLIMITED_GRANTS = """
SELECT c.relname::text, privilege, r.rolname::text FROM pg_class c
CROSS JOIN unnest(CAST(:privileges AS text[])) AS privilege
JOIN pg_roles r ON r.rolname = ANY (:roles)
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY (:tables)
    AND c.relkind IN ('r', 'p') AND has_table_privilege(r.oid, c.oid, privilege)
ORDER BY 1, 2, 3
"""

_READABLE_COLUMNS = """
SELECT c.relname::text, a.attname::text, r.rolname::text
FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[])) AS hidden (relation, attribute)
JOIN pg_class c ON c.relnamespace = current_schema()::regnamespace AND c.relname = relation
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = attribute AND NOT a.attisdropped
JOIN pg_roles r ON r.rolname = ANY (:roles)
WHERE has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')
ORDER BY 1, 2, 3
"""

# Both ask for an owner whom the policies of the table do not limit.
_VIEWS = """
WITH RECURSIVE reads AS (
    SELECT DISTINCT r.ev_class AS view, d.refobjid AS source
    FROM pg_rewrite r
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
), paths AS (
    SELECT reads.view, t.oid AS table FROM reads JOIN pg_class t ON t.oid = reads.source
    WHERE t.relnamespace = current_schema()::regnamespace AND t.relname = ANY (:tables)
        AND t.relkind IN ('r', 'p')
    UNION
    SELECT reads.view, paths.table FROM reads JOIN paths ON reads.source = paths.view
)
SELECT v.oid::regclass::text, v.relkind = 'm', t.relname::text, ARRAY(
    SELECT r.rolname::text FROM pg_roles r
    WHERE r.rolname = ANY (:roles) AND has_schema_privilege(r.oid, v.relnamespace, 'USAGE')
        AND (
            has_any_column_privilege(r.oid, v.oid, 'SELECT, INSERT, UPDATE')
            OR has_table_privilege(r.oid, v.oid, 'DELETE')
        )
    ORDER BY 1
)
FROM paths
JOIN pg_class v ON v.oid = paths.view AND v.relkind IN ('v', 'm')
JOIN pg_class t ON t.oid = paths.table
JOIN pg_roles o ON o.oid = v.relowner
WHERE NOT EXISTS (
    SELECT FROM unnest(v.reloptions) AS option
    WHERE option ~* '^security_invoker=(true|on|yes|1)$'
) AND (
    o.rolsuper OR o.rolbypassrls
    OR pg_has_role(o.oid, t.relowner, 'USAGE') AND NOT t.relforcerowsecurity
)
ORDER BY 1, 3
"""

_FUNCTIONS = r"""
SELECT p.oid::regprocedure::text, t.relname::text, ARRAY(
    SELECT r.rolname::text FROM pg_roles r
    WHERE r.rolname = ANY (:roles) AND has_schema_privilege(r.oid, p.pronamespace, 'USAGE')
        AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
    ORDER BY 1
)
FROM pg_proc p
JOIN pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('c', 'internal')
JOIN pg_roles o ON o.oid = p.proowner
JOIN pg_class t ON t.relnamespace = current_schema()::regnamespace AND t.relname = ANY (:tables)
    AND t.relkind IN ('r', 'p')
WHERE p.prosecdef AND p.prorettype <> 'trigger'::regtype AND (
        o.rolsuper OR o.rolbypassrls
        OR pg_has_role(o.oid, t.relowner, 'USAGE') AND NOT t.relforcerowsecurity
    )
    AND p.pronamespace IS DISTINCT FROM to_regnamespace(:schema)
    AND NOT starts_with(p.proname, :prefix)
    AND coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)
        ~ ('\m' || regexp_replace(t.relname, '(\W)', '\\\1', 'g') || '\M')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""


def find_bypasses(connection: Connection, metadata: MetaData) -> list[str]:
    """Return the ways past the policies of the models' tables, a sentence each, with what to do.

    Functions are found by the names of tables in their text.

    Raises:
        ConfigurationError: a model's access declaration is wrong.
    """
    rules = declared(metadata)
    return [
        *_unlimited_grants(connection, rules),
        *_readable_columns(connection, rules),
        *_views(connection, rules),
        *_functions(connection, rules),
    ]


def _unlimited_grants(connection: Connection, rules: Sequence[TableRules]) -> Iterator[str]:
    parameters = {"privileges": list(UNLIMITED), **_parameters(rules)}
    for table, privilege, role in connection.execute(text(_UNLIMITED_GRANTS), parameters):
        yield (
            f"{table}: {role} has the privilege {privilege}, which no policy limits; run "
            f"REVOKE {privilege} ON {quoted(table)} FROM {role}"
        )


def _readable_columns(connection: Connection, rules: Sequence[TableRules]) -> Iterator[str]:
    """Yield the hidden columns that a role may read to whom the models grant nothing of the table:
    a policy by hand would show them."""
    granted = {
        (each.table, grant.role)
        for each in rules
        for grant in each.grants()
        if grant.privilege == "SELECT"
    }
    hidden = [
        (each.table, column.name)
        for each in rules
        for column in each.source.columns
        if column_access(column).read
    ]
    parameters = {
        "tables": [table for table, _ in hidden],
        "columns": [column for _, column in hidden],
        "roles": list(ROLES),
    }
    for table, column, role in connection.execute(text(_READABLE_COLUMNS), parameters):
        if (table, role) not in granted:
            yield (
                f"{table}.{column} is left to the service, and {role} has the privilege to read "
                f"it; run {revoke(table, [Grant(role, 'SELECT')])[0]}"
            )


def _views(connection: Connection, rules: Sequence[TableRules]) -> Iterator[str]:
    for view, is_stored, table, roles in connection.execute(text(_VIEWS), _parameters(rules)):
        if not roles:
            continue
        callers = " and ".join(roles)
        revoke = f"REVOKE ALL ON {view} FROM {', '.join(roles)}"
        advice = f"ALTER VIEW {view} SET (security_invoker = true)"
        yield (
            f"{view} shows {callers} the rows of {table} as its owner sees them, past the "
            f"policies; run {revoke if is_stored else advice}"
        )


def _functions(connection: Connection, rules: Sequence[TableRules]) -> Iterator[str]:
    parameters = {"schema": SCHEMA, "prefix": PREFIX, **_parameters(rules)}
    for function, table, roles in connection.execute(text(_FUNCTIONS), parameters):
        if roles:
            yield (
                f"{function} is SECURITY DEFINER and names {table}, whose policies do not limit "
                f"it, and {' and '.join(roles)} may call it; let it check its caller, or make it "
                "SECURITY INVOKER"
            )


def _parameters(rules: Sequence[TableRules]) -> dict[str, list[str]]:
    return {"tables": [each.table for each in rules], "roles": list(ROLES)}
