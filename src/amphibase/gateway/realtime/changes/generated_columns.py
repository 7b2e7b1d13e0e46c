"""Generated columns, computed from what a change has of the others.

The stream has them only since Postgres 18, and only stored ones of a publication that says so
(`publish_generated_columns`). They are functions of the other columns of their row alone, so that
each version of a row gets its own values, also when the row has changed since or is gone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import psycopg
from psycopg import sql

from amphibase.database.statement import Call, Statement
from amphibase.gateway.realtime.changes.arrays import IntegerArray, TextArray
from amphibase.gateway.realtime.changes.event import new_row
from amphibase.gateway.realtime.changes.jobs import RoleStatement, run_all
from amphibase.gateway.realtime.changes.session import QuestionSession
from amphibase.gateway.realtime.changes.tables import Tables
from amphibase.redaction import redacted_logger
from amphibase.replication.change import Relation, Row, RowChange, Value

logger = redacted_logger("amphibase.gateway.realtime")

NO_CLAIMS = "{}"
MILLISECONDS = 250
"""Of the values of one column in one round: all subscribers wait for them."""

# Without a search path, names are written with their schemas. Reading an expression may wait for a
# lock on its table.
_SETTINGS = Statement(
    "SELECT set_config('search_path', '', true), set_config('lock_timeout', $1, true)"
)
_EXPRESSIONS = Statement("""
SELECT a.attname, pg_get_expr(e.adbin, e.adrelid), ARRAY(
    SELECT ARRAY[s.attname, format_type(s.atttypid, s.atttypmod)]
    FROM pg_attribute AS s
    WHERE s.attrelid = a.attrelid AND s.attnum <> a.attnum AND s.attnum IN (
        SELECT d.refobjsubid FROM pg_depend AS d
        WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
    )
)
FROM pg_attribute AS a JOIN pg_attrdef AS e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
WHERE a.attrelid = $1::bigint::oid AND a.attgenerated <> '' AND NOT a.attisdropped
""")


class _Expression(NamedTuple):
    """How a column is generated.

    Attributes:
        sources: the columns that it is generated from.
        sql: has a parameter of numbers, and one of texts for each source.
    """

    column: str
    sources: Sequence[str]
    sql: str


class GeneratedColumns:
    """Computes them on one connection, and keeps the expressions of tables."""

    def __init__(self) -> None:
        self._expressions: dict[int, tuple[str, Sequence[_Expression]]] = {}

    async def add(
        self,
        session: QuestionSession,
        changes: Sequence[RowChange],
        versions: Mapping[int, str],
        tables: Tables,
    ) -> Sequence[RowChange]:
        """Return the changes with the generated columns that one of the roles may select.

        A value is missing where a column that it is generated from is not sent (TOAST), and where
        no role may compute it.

        Args:
            versions: of the tables, by their oids.
            tables: as the roles of the subscribers see them.

        Raises:
            psycopg.OperationalError: the connection has ended.
        """
        relations = {
            change.relation for change in changes if _missing_columns(change.relation, tables)
        }
        if not relations:
            return changes
        completed = [
            replace(change, new=change.new and {**change.new}, old=change.old and {**change.old})
            if change.relation in relations
            else change
            for change in changes
        ]
        for relation in relations:
            roles = sorted(role for oid, role in tables if oid == relation.oid)
            rows = [*_whole_rows(each for each in completed if each.relation is relation)]
            missing = _missing_columns(relation, tables)
            for expression in await self._of_table(session, relation.oid, versions):
                if expression.column in missing:
                    await _compute(session, expression, rows, roles)
        return completed

    async def _of_table(
        self, session: QuestionSession, oid: int, versions: Mapping[int, str]
    ) -> Sequence[_Expression]:
        version = versions[oid]
        if self._expressions.get(oid, ("", ()))[0] != version:
            try:
                _, rows = await session.run(
                    Call(_SETTINGS, [str(MILLISECONDS)]), Call(_EXPRESSIONS, [oid])
                )
            except psycopg.errors.LockNotAvailable as error:
                logger.warning("Generated columns cannot be looked up: %s", error)
                return ()
            self._expressions[oid] = version, [_read(*row) for row in rows]
        return self._expressions[oid][1]


def _missing_columns(relation: Relation, tables: Tables) -> Collection[str]:
    """Return the generated columns that the stream does not have and a role may select.

    Where it lacks another column, the publication chooses columns, and is taken by its word.
    """
    columns = [
        column
        for (oid, _), table in tables.items()
        if oid == relation.oid
        for column in table.columns.values()
        if column.name not in relation.columns
    ]
    if not all(column.is_generated for column in columns):
        return ()
    return {column.name for column in columns if column.is_selectable}


class _WholeRow(NamedTuple):
    """A row of a change that is more than an identity.

    Attributes:
        row: that of the change.
        values: what is known of it.
    """

    row: Row
    values: Row


def _whole_rows(changes: Iterable[RowChange]) -> Iterator[_WholeRow]:
    for change in changes:
        if change.new is not None:
            yield _WholeRow(change.new, new_row(change) or {})
        if change.old is not None and change.relation.is_full:
            yield _WholeRow(change.old, change.old)


async def _compute(
    session: QuestionSession,
    expression: _Expression,
    rows: Iterable[_WholeRow],
    roles: Iterable[str],
) -> None:
    """Add the column to the rows, as the first of the roles that may compute it."""
    known = [each for each in rows if all(name in each.values for name in expression.sources)]
    if not known:
        return
    parameters = [
        IntegerArray(range(len(known))),
        *(TextArray([_text(each.values[name]) for each in known]) for name in expression.sources),
    ]
    for role in roles:
        statement = RoleStatement(role, NO_CLAIMS, expression.sql, parameters)
        (values,) = await run_all(session, [statement], MILLISECONDS)
        if values:
            for number, value in values:
                known[number].row[expression.column] = value
            return


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) else None


def _read(column: str, expression: str, sources: Sequence[tuple[str, str]]) -> _Expression:
    """Read a row of the catalog, whose types and expressions are SQL."""
    casts = ", ".join(
        f"CAST(v.text{number} AS {sql_type}) AS {sql.Identifier(name).as_string()}"
        for number, (name, sql_type) in enumerate(sources)
    )
    names = ", ".join(["number", *(f"text{number}" for number in range(len(sources)))])
    # As the stream writes it: a cast to text writes `true`, and pads no `char(n)`. Each part is a
    # query of its own, so that no name of ours is in the way of a column's.
    places = ", ".join(f"${place}" for place in range(1, len(sources) + 2))
    return _Expression(
        column,
        [name for name, _ in sources],
        f"SELECT v.number, (SELECT CASE WHEN num_nulls(g.value) = 0 THEN concat(g.value) END"  # noqa: S608
        f" FROM (SELECT {casts}) AS sources, LATERAL (SELECT {expression}) AS g (value))"
        f" FROM unnest({places}) AS v ({names})",
    )
