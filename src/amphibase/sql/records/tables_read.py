"""Finds the tables that an SQL expression reads, however it is written."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import CTE, BindParameter, Column, Select
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import (
    BinaryExpression,
    ClauseElement,
    ColumnClause,
    TextClause,
    UnaryExpression,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.selectable import FromClause, HasHints, HasPrefixes, HasSuffixes, TableClause

from amphibase.errors import NotSupported
from amphibase.private_names.sqlalchemy import untraversed_texts
from amphibase.records.column_access import hidden_columns

WORD = re.compile(r"\w+")
_RUNS_QUERY = re.compile(
    r"((query|table|cursor|schema|database)_to_xml|dblink|crosstab|ts_stat$|ts_rewrite$|xpath_table$"
    r"|connectby$)"
)
"""The start of the names of functions that run text as a query, or read a table that text names:
those of Postgres (its docs, "XML Functions", "Text Search Functions") and of its extensions."""
_ESCAPED_NAME = 'u&"'
"""The start of a name with escapes (Postgres docs, "Identifiers and Key Words")."""
_QUALIFIED = re.compile(r"(\w+)\W*\.\W*(?=(\w+))")


@dataclass(frozen=True, slots=True)
class TablesRead:
    """What expressions read.

    Args:
        tables: the names of tables, with the schema where there is one.
        words: every word of SQL text, which may be the name of a table, in lower case.
        qualified: the pairs of them with a dot between, which may be a schema and its table.
        hidden: columns that callers do not read.
        unseen: what reads tables that cannot be seen in it, as SQL.
    """

    tables: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    qualified: set[tuple[str, str]] = field(default_factory=set)
    hidden: set[Column[Any]] = field(default_factory=set)
    unseen: set[str] = field(default_factory=set)

    def __or__(self, other: "TablesRead") -> "TablesRead":
        return TablesRead(
            self.tables | other.tables,
            self.words | other.words,
            self.qualified | other.qualified,
            self.hidden | other.hidden,
            self.unseen | other.unseen,
        )

    def holds(self, name: str) -> bool:
        """Return whether a name without a schema may stand in SQL text; one such as `order-items`
        is several words there."""
        return "." not in name and self.words.issuperset(WORD.findall(name.lower()))

    def holds_behind_schema(self, name: str) -> bool:
        """Return whether a table may stand in SQL text behind its schema.

        Args:
            name: with the schema where the table has one of its own.
        """
        if "." in name:
            return tuple(name.lower().split(".", 1)) in self.qualified
        firsts = WORD.findall(name.lower())[:1]
        return self.holds(name) and any(after in firsts for _, after in self.qualified)

    def add_text(self, sql: str) -> None:
        """Add the words of SQL text, where names are the same in upper and lower case."""
        sql = sql.lower()
        words = WORD.findall(sql)
        self.words.update(words)
        for word in words:
            self.add_function(word)
        if _ESCAPED_NAME in sql:
            self.unseen.add('U&"…"')
        self.qualified.update(_QUALIFIED.findall(sql))

    def add_function(self, name: str) -> None:
        """Add a word that may be the name of a function."""
        if _RUNS_QUERY.match(name.lower()):
            self.unseen.add(name)


def tables_read(expressions: Iterable[ClauseElement], own: str) -> TablesRead:
    """Find the tables that expressions read.

    Args:
        own: the table that the statement itself selects from; it counts where a subquery or SQL
            text reads it again.

    Raises:
        NotSupported: an expression changes rows, or holds a recursive query.
    """
    read = TablesRead()
    sources: set[FromClause] = set()
    pending = [*expressions]
    while pending:
        for part in _parts(pending.pop()):
            if isinstance(part, ColumnClause):
                source = part.table
                read.hidden.update(hidden_columns([part]))
                if part.is_literal:
                    read.add_text(part.name)
                elif isinstance(source, TableClause):
                    if source.fullname != own:
                        read.tables.add(source.fullname)
                elif source is not None and source not in sources:  # an alias or a subquery
                    sources.add(source)
                    pending.append(source)
            elif isinstance(part, TableClause):
                read.tables.add(part.fullname)
            elif isinstance(part, TextClause):
                read.add_text(part.text)
            elif isinstance(part, BinaryExpression | UnaryExpression):
                if isinstance(part.operator, custom_op):
                    read.add_text(part.operator.opstring)
            elif isinstance(part, UpdateBase) or (isinstance(part, CTE) and part.recursive):
                raise NotSupported(
                    "A filter must not change rows or hold a recursive query; run it in a "
                    "session as a statement of its own"
                )
            elif isinstance(part, FunctionElement):
                read.add_function(getattr(part, "name", ""))
            elif isinstance(part, HasPrefixes | HasSuffixes | HasHints):
                for sql in untraversed_texts(part):
                    read.add_text(sql)
            if isinstance(part, Select):
                read.hidden.update(hidden_columns(part.selected_columns))
    return read


def _parts(expression: ClauseElement) -> Iterable[visitors.ExternallyTraversible]:
    """Return the expression and all that it holds; less where that is quickly seen to be enough."""
    if isinstance(expression, BinaryExpression | UnaryExpression):
        if isinstance(expression.operator, custom_op):
            return visitors.iterate(expression)
        if isinstance(expression, UnaryExpression):
            expression = expression.element
        elif isinstance(expression.right, BindParameter):
            expression = expression.left
    return (expression,) if isinstance(expression, ColumnClause) else visitors.iterate(expression)


def expressions_in(values: Iterable[Any]) -> list[ClauseElement]:
    """Return the SQL expressions among values for columns."""
    elements = (getattr(each, "__clause_element__", lambda each=each: each)() for each in values)
    return [each for each in elements if isinstance(each, ClauseElement)]
