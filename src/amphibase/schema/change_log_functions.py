"""The functions of the log of changes on Postgres, and those that a Supabase project has beside
them."""

import re
from collections.abc import Iterable
from importlib.resources import files
from typing import NamedTuple

from sqlalchemy import Connection, Table

from amphibase.schema.ddl import literal, name_within, quoted


class SqlFunction(NamedTuple):
    """A function that a script creates.

    Attributes:
        name: with its schema where that is `amphibase`.
    """

    name: str
    body: str

    @property
    def table(self) -> str:
        """None: it serves all."""
        return ""

    @property
    def subject(self) -> str:
        """What it is, for messages."""
        return f"function {self.name}"


def postgres_log() -> str:
    """Return the SQL that creates the log on Postgres, with the functions that write and read
    it."""
    return files(__package__).joinpath("change_log.sql").read_text()


def earlier_rows_name(table: str) -> str:
    """Return the name of the function that returns those of earlier rows that its caller may
    see."""
    return name_within("amphibase_earlier_", table)


def earlier_rows(table: Table) -> str:
    """Return the SQL that creates that function in a project."""
    name, function = quoted(table.name), quoted(earlier_rows_name(table.name))
    rows = f"jsonb_populate_recordset(NULL::{name}, $1) AS {name}"
    select = f"SELECT {name}.* FROM {rows} WHERE "  # noqa: S608 - quoted names
    return f"""\
CREATE OR REPLACE FUNCTION {function}(rows jsonb)
RETURNS SETOF {name} LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE {literal(select)}
        || amphibase.read_condition({literal(name)}) USING rows;
END $$;

GRANT EXECUTE ON FUNCTION {function}(jsonb) TO anon, authenticated, service_role;"""


def functions_of(script: str) -> list[SqlFunction]:
    """Return the functions that a script creates."""
    return [SqlFunction(name.strip('"'), body) for name, body in _FUNCTION.findall(script)]


def missing_functions(
    connection: Connection, functions: Iterable[SqlFunction]
) -> list[SqlFunction]:
    """Return those of some functions that a database does not have, or has in another version."""
    bodies = {name: body.split() for name, body in connection.exec_driver_sql(_EXISTING)}
    return [each for each in functions if bodies.get(each.name) != each.body.split()]


PROJECT_FUNCTIONS = """\
DROP FUNCTION IF EXISTS amphibase_read_changes, amphibase_trim_changes;

CREATE FUNCTION amphibase_read_changes(
    after_snapshot text, until_snapshot text, after_transaction text, after_id bigint, size integer,
    max_bytes bigint
) RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT jsonb_agg(entry) FROM amphibase.read_changes(
        after_snapshot, until_snapshot, after_transaction, after_id, size, max_bytes
    ) AS entry
$$;

CREATE FUNCTION amphibase_trim_changes(hours double precision, entries bigint, size integer)
RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    SELECT amphibase.trim_changes(hours, entries, size)
$$;

REVOKE ALL ON FUNCTION amphibase_read_changes, amphibase_trim_changes
    FROM PUBLIC, anon, authenticated;
GRANT EXECUTE ON FUNCTION amphibase_read_changes, amphibase_trim_changes TO service_role;"""
"""The service alone reads the log: callers get to know what the backend shows them."""

_FUNCTION = re.compile(
    r"CREATE (?:OR REPLACE )?FUNCTION (\"[^\"]+\"|[\w.]+)\(.*?AS \$\$(.*?)\$\$", re.DOTALL
)
_EXISTING = """
SELECT CASE nspname WHEN 'amphibase' THEN 'amphibase.' ELSE '' END || proname, prosrc
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE nspname IN ('amphibase', current_schema())
"""
