"""Full text search over columns of text, as an expression for filters and orders.

    __table_args__ = (search_index("ix_tickets_search", "title", "text", language="english"),)

    searched = {"query": "refund -paid", "language": "english"}
    await tickets.list(
        matches(Ticket.title, Ticket.text, **searched),
        order_by=[search_rank(Ticket.title, Ticket.text, **searched).desc()],
    )

The query has the syntax of web search engines, as Postgres's `websearch_to_tsquery` reads it
(https://www.postgresql.org/docs/17/textsearch-controls.html): words that all have to be there,
`"a phrase"`, `or`, and `-` before what must not be there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Enum,
    Float,
    Index,
    String,
    Table,
    Text,
    bindparam,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from amphibase.errors import InvalidRequest, InvalidValue

MAX_QUERY_CHARACTERS = 500
"""With more, a word of the query may be longer than the 2,046 bytes that Postgres takes."""

MATCHES_FUNCTION = "amphibase_matches"
RANK_FUNCTION = "amphibase_search_rank"
"""Functions that each connection to SQLite has: `database/sqlite_search.py`."""

_LANGUAGE = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_PREPARER = PGDialect().identifier_preparer  # type: ignore[no-untyped-call]
_VECTOR = "amphibase search vector"


@dataclass(frozen=True, slots=True)
class SearchVector:
    """What an index of full text search is of.

    Args:
        columns: their names in the table, in order.
        language: a text search configuration of Postgres.
    """

    columns: tuple[str, ...]
    language: str

    def matches_sql(self, table: str, query: str) -> str:
        """Return whether a row matches a query, as SQL of Postgres that reads the index.

        Args:
            table: the name of the row's table, as SQL.
            query: the query, as SQL.
        """
        language = _configuration(self.language)
        columns = [f"{table}.{_PREPARER.quote(column)}" for column in self.columns]
        vector = vector_sql(columns, language)
        return f"{vector} @@ websearch_to_tsquery({language}, {query})"


class SearchExpression(FunctionElement[Any]):
    """What is common to the filter and the rank: a language, a query, and columns of text.

    Raises:
        InvalidRequest: there is no column, or one is none of text; or the language has a name that
            no configuration of Postgres has.
        InvalidValue: the query is too long.
    """

    inherit_cache = True

    def __init__(self, columns: Sequence[Any], query: str, language: str) -> None:
        elements = [
            each.__clause_element__() if hasattr(each, "__clause_element__") else each
            for each in columns
        ]
        if not elements or not all(map(_is_text, elements)):
            raise InvalidRequest("search: columns of text were expected, as in Ticket.title")
        if len(query) > MAX_QUERY_CHARACTERS:
            raise InvalidValue(f"A search query has at most {MAX_QUERY_CHARACTERS} characters")
        configuration: ColumnElement[Any] = literal_column(_configuration(language))
        super().__init__(configuration, bindparam(None, query, Text(), unique=True), *elements)

    @property
    def language(self) -> str:
        """The configuration of Postgres that reads text and query."""
        configuration: Any = self._parts[0]
        return str(configuration.name).strip("'")

    @property
    def query(self) -> str:
        """What is searched for."""
        value: Any = self.query_value
        return str(value.effective_value)

    @property
    def query_value(self) -> ColumnElement[str]:
        """The bound value of the query."""
        return self._parts[1]

    @property
    def columns_searched(self) -> Sequence[ColumnElement[Any]]:
        """The columns of text."""
        return self._parts[2:]

    @property
    def _parts(self) -> Sequence[ColumnElement[Any]]:
        return [*self.clauses]

    def compile_for_postgres(self, compiler: Any, **options: Any) -> tuple[str, str]:
        """Return the vector of the text and that of the query, as SQL."""
        language, query, *columns = (compiler.process(part, **options) for part in self._parts)
        return vector_sql(columns, language), f"websearch_to_tsquery({language}, {query})"

    def compile_for_sqlite(self, function: str, compiler: Any, **options: Any) -> str:
        """Return the call of a function of the connection, as SQL."""
        arguments = (compiler.process(part, **options) for part in self._parts[1:])
        return f"{function}({', '.join(arguments)})"


class SearchMatch(SearchExpression):
    """Whether text matches a query; NULL where a single column is NULL."""

    name = "matches"
    type = Boolean()
    inherit_cache = True


class SearchRank(SearchExpression):
    """How well text matches a query: greater is better."""

    name = "search_rank"
    type = Float()
    inherit_cache = True


def matches(*columns: Any, query: str, language: str = "simple") -> ColumnElement[bool]:
    """Return whether the text of columns, read as one, matches a query.

    Args:
        columns: of text; where there are several, NULL counts as empty.
        query: at most 500 characters, in any form: there are no errors of syntax. One without a
            word matches nothing.
        language: a text search configuration of Postgres, which decides about stems and stop
            words, such as `english`. SQLite compares words as `simple` does, whatever is declared.

    Raises:
        InvalidRequest: there is no column, or one is none of text, or the language has a name that
            no configuration has.
        InvalidValue: the query is too long.
    """
    return SearchMatch(columns, query, language)


def search_rank(*columns: Any, query: str, language: str = "simple") -> ColumnElement[float]:
    """Return how well the text of columns matches a query, for `order_by`: greater is better.

    On Postgres this is `ts_rank`, on SQLite the number of times that words of the query occur.

    Args:
        columns: as of `matches`, which also says what is raised.
    """
    return SearchRank(columns, query, language)


def search_index(name: str, *columns: str, language: str = "simple") -> Index:
    """Return the index that `matches` uses on Postgres, for `__table_args__`.

    SQLite has no such index, and reads all rows.

    Args:
        columns: their names in the table, in the order in which `matches` has them.
        language: the same as that of `matches`.

    Raises:
        InvalidRequest: there is no column, or the language has a name that no configuration has.
    """
    if not columns:
        raise InvalidRequest("search_index: the name of a column was expected")
    quoted = [_PREPARER.quote(column) for column in columns]
    vector = vector_sql(quoted, _configuration(language)).replace(":", r"\:")
    info = {_VECTOR: SearchVector(columns, language)}
    index = Index(name, text(vector), postgresql_using="gin", info=info)
    return index.ddl_if(dialect="postgresql")


def search_vectors(table: Table) -> Sequence[SearchVector]:
    """Return what the search indexes of a table are of, in the order of the indexes' names."""
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    return [index.info[_VECTOR] for index in indexes if _VECTOR in index.info]


def vector_of(element: Any, table: Table) -> SearchVector | None:
    """Return the vector that an expression searches in, where it is a match of columns of a table.

    Args:
        element: any expression.
    """
    if not isinstance(element, SearchMatch):
        return None
    names = []
    for column in element.columns_searched:
        source: Any = getattr(column, "table", None)
        if not (isinstance(column, Column) and isinstance(source, Table)):
            return None
        if source.fullname != table.fullname:
            return None
        names.append(column.name)
    return SearchVector(tuple(names), element.language)


def vector_sql(columns: Sequence[str], language: str) -> str:
    """Return the vector of text as SQL of Postgres, the same for index and filter.

    Of one column it is what PostgREST writes for `wfts`, so that both use one index.
    """
    if len(columns) == 1:
        return f"to_tsvector({language}, {columns[0]})"
    whole = " || ' ' || ".join(f"coalesce({column}, '')" for column in columns)
    return f"to_tsvector({language}, {whole})"


@compiles(SearchMatch)
def _match_on_postgres(element: SearchMatch, compiler: PGCompiler, **options: Any) -> str:
    vector, query = element.compile_for_postgres(compiler, **options)
    return f"({vector} @@ {query})"


@compiles(SearchMatch, "sqlite")
def _match_on_sqlite(element: SearchMatch, compiler: SQLiteCompiler, **options: Any) -> str:
    return element.compile_for_sqlite(MATCHES_FUNCTION, compiler, **options)


@compiles(SearchRank)
def _rank_on_postgres(element: SearchRank, compiler: PGCompiler, **options: Any) -> str:
    vector, query = element.compile_for_postgres(compiler, **options)
    # `real` as it is would not be equal to what a cursor holds of it.
    return f"coalesce(CAST(ts_rank({vector}, {query}) AS double precision), 0)"


@compiles(SearchRank, "sqlite")
def _rank_on_sqlite(element: SearchRank, compiler: SQLiteCompiler, **options: Any) -> str:
    return element.compile_for_sqlite(RANK_FUNCTION, compiler, **options)


def _configuration(language: str) -> str:
    if not _LANGUAGE.fullmatch(language):
        raise InvalidRequest(
            f"{language!r} is not a text search configuration of Postgres, such as 'english'"
        )
    return f"'{language}'"


def _is_text(element: Any) -> bool:
    if not isinstance(element, ColumnElement):
        return False
    type_ = element.type
    if isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance
    return isinstance(type_, String) and not isinstance(type_, Enum)
