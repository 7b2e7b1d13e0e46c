"""Writes statements that define things in Postgres as text."""

import hashlib
import re
from typing import Any

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect
from sqlalchemy.sql.operators import and_

LINE_LENGTH = 72
PREFIX = "amphibase_"
"""The start of the names of Amphibase's policies and triggers; all others were written by hand."""
MAX_NAME_BYTES = 63
"""Longer names are cut by Postgres (its docs, "Identifiers and Key Words")."""


class _Compiler(PGCompiler):
    """Writes text on one line, since lines are indented later."""

    def render_literal_value(self, value: Any, type_: Any) -> str:
        sql: str = super().render_literal_value(value, type_)  # type: ignore[no-untyped-call]
        if not {"\n", "\r"}.intersection(sql):
            return sql
        escaped = sql.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        return f"E{escaped}"


class _Dialect(PGDialect):
    statement_compiler = _Compiler
    supports_statement_cache = True


# Plain SQL: SQLAlchemy's own style of parameters would double every percent sign.
DIALECT = _Dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def quoted(name: str) -> str:
    """Return a name as SQL, quoted where it must be."""
    return str(DIALECT.identifier_preparer.quote(name))


def expression_sql(expression: ColumnElement[Any]) -> str:
    """Return an expression as SQL on one line, with its values in it, to stand beside AND."""
    grouped = expression.self_group(against=and_)
    compiled = grouped.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True})
    return re.sub(r" *\n", " ", str(compiled))


def name_within(prefix: str, name: str, end: str = "") -> str:
    """Return a name made of three parts; where it is too long, the second is cut and hashed."""
    room = MAX_NAME_BYTES - len(prefix) - len(end)
    raw = name.encode()
    if len(raw) > room:
        digest = hashlib.sha256(raw).hexdigest()[:8]
        name = f"{raw[: room - 9].decode(errors='ignore')}_{digest}"
    return f"{prefix}{name}{end}"


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
