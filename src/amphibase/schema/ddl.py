"""Writes statements that define things in Postgres as text."""

import re

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.base import PGDialect

LINE_LENGTH = 72

# Plain SQL: SQLAlchemy's own style of parameters would double every percent sign.
DIALECT = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]


def quoted(name: str) -> str:
    """Return a name as SQL, quoted where it must be."""
    return str(DIALECT.identifier_preparer.quote(name))


def run(connection: Connection, *statements: str) -> None:
    """Run SQL as it is written, with neither parameters nor escapes."""
    for statement in statements:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def as_text(statement: str) -> str:
    """Escape a statement for SQLAlchemy's `text`, to which a colon begins a parameter."""
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", statement)


def literal(text: str) -> str:
    """Return text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def on_one_line(statement: str) -> str:
    """Return a statement of two lines as one where it is short; any other as it is."""
    line = statement.replace("\n", " ")
    return line if statement.count("\n") == 1 and len(line) <= LINE_LENGTH else statement
