"""Who may see which rows: the policies of a table, evaluated for many callers in one statement.

Planning a statement takes longer than running it, and so does a round trip. So a temporary function
for each table and role, whose plan the connection keeps, sets the claims of one caller after the
other: for a hundred callers it takes 2 ms of the server's time, and a hundred pairs of statements
in pipeline mode take 10 ms.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from amphibase.database.statement import Call, Statement
from amphibase.gateway.realtime.changes.arrays import IntegerArray, TextArray
from amphibase.gateway.realtime.changes.event import new_row
from amphibase.gateway.realtime.changes.jobs import RoleStatement, run
from amphibase.gateway.realtime.changes.session import QuestionSession
from amphibase.gateway.realtime.changes.tables import RoleTable, TableColumn
from amphibase.replication.change import EPOCH, Operation, Relation, Row, RowChange

MAX_FUNCTIONS = 200
"""Of one connection, which keeps a plan for each."""

NO_CLAIMS = "{}"
CANCELLED, LOCKED = "57014", "55P03"
"""The SQLSTATEs of a policy that has taken too long, and of one that a lock is in the way of."""

_FUNCTION: LiteralString = """
CREATE OR REPLACE FUNCTION pg_temp.{name} (
    claims text[], firsts int[], lasts int[], milliseconds int, {parameters}
) RETURNS TABLE (caller int, seen int[], error text) LANGUAGE plpgsql {settings} AS {body}
"""

# A generic plan has the value that a function declared IMMUTABLE had for the first caller, also
# where it reads claims in spite of that.
_PLANNED_ANEW: LiteralString = "SET plan_cache_mode = force_custom_plan"

UNDONE: LiteralString = "AB001"
"""The SQLSTATE by which what a policy has set for its caller is undone, as at the end of a request.

Functions keep there whom they have looked up (`set_config`), which the next caller is not to find.
"""

# What a caller's policies raise is that caller's alone. A policy that takes longer than the
# statement may is cancelled, and the callers after it are left for the next statement. Callers who
# see nothing have no row; the last row is that of the last caller that was asked. One change, as
# most rounds have it, is found by its key alone: a join may read a small table whole.
_BODY: LiteralString = """
#variable_conflict use_variable
DECLARE
    deadline timestamptz := clock_timestamp() + milliseconds * interval '1 millisecond';
    first int;
    last int;
    {declarations}
BEGIN
    FOR place IN 1 .. cardinality(claims) LOOP
        caller := place;
        seen := NULL;
        error := NULL;
        first := firsts[place];
        last := lasts[place];
        BEGIN
            PERFORM pg_catalog.set_config('request.jwt.claims', claims[place], true);
            IF first = last THEN
                SELECT ARRAY[first] INTO seen FROM {table} AS t
                WHERE {is_first} AND {first_as_then};
            ELSE
                SELECT array_agg(k.number::int + first - 1) INTO seen
                FROM unnest({slices}) WITH ORDINALITY AS k ({names}, number)
                JOIN {table} AS t ON {matches} WHERE {as_then};
            END IF;
            {undo}
        EXCEPTION
            WHEN SQLSTATE {undone} THEN NULL;
            WHEN query_canceled OR others THEN seen := NULL; error := SQLSTATE || ' ' || SQLERRM;
        END;
        IF seen IS NOT NULL OR error IS NOT NULL THEN
            RETURN NEXT;
        END IF;
        EXIT WHEN clock_timestamp() > deadline;
    END LOOP;
    seen := NULL;
    error := NULL;
    RETURN NEXT;
END
"""


class RowQuestion(NamedTuple):
    """Whether somebody may see rows of a table."""

    role: str
    claims: str
    oid: int


@dataclass(slots=True)
class Decisions:
    """What the policies of one table say to the callers of one role.

    Attributes:
        seen: the changes that each may see, as bits of their places.
        failed: whose policies raised an error, and which.
        slow: whose policies took too long.
        locked: who waits for a lock that another transaction has.
        undecided: who could not be asked in the time.
    """

    seen: dict[RowQuestion, int] = field(default_factory=dict)
    failed: dict[RowQuestion, str] = field(default_factory=dict)
    slow: set[RowQuestion] = field(default_factory=set)
    locked: set[RowQuestion] = field(default_factory=set)
    undecided: list[RowQuestion] = field(default_factory=list)

    def add(self, others: "Decisions") -> None:
        """Add what is decided about other callers, and who of them waits for a lock."""
        self.seen |= others.seen
        self.failed |= others.failed
        self.slow |= others.slow
        self.locked |= others.locked


class RowPolicies:
    """Asks the policies on one connection, and keeps what the connection has for it."""

    def __init__(self) -> None:
        self._functions: set[str] = set()
        self._session_number = 0

    async def ask(
        self,
        session: QuestionSession,
        changes: Sequence[RowChange],
        questions: Mapping[RowQuestion, int],
        table: RoleTable,
        milliseconds: int,
    ) -> Decisions:
        """Ask which changes of a table each caller of one role may see.

        The policies decide about the row as it is now. So an earlier version counts only where the
        columns that policies mention have not changed since: who may see the row now could see it
        then. Where the role may not select one of them, or the stream does not have one (TOAST), an
        earlier version counts only if it shows nothing that the row does not show now.

        Args:
            changes: of the block, none of which is a deletion where a question has its bit.
            questions: the changes that each asks about, as bits of their places.
            milliseconds: how long all may take together.

        Raises:
            psycopg.Error: the connection has ended.
            Unavailable: the database cannot be reached.
        """
        sections = _Sections(changes, table, questions.values())
        name = await self._function(session, table, sections.watched_columns)
        decisions = Decisions(undecided=[*questions])
        try:
            (rows,) = await run(
                session, [_call(name, table, questions, sections, milliseconds)], milliseconds
            )
        except psycopg.errors.QueryCanceled:
            return decisions
        last, _, _ = rows[-1]
        decisions.seen = dict.fromkeys(decisions.undecided[:last], 0)
        for caller, seen, error in rows[:-1]:
            question = decisions.undecided[caller - 1]
            if error is None:
                decisions.seen[question] = sections.mask(seen)
                continue
            del decisions.seen[question]
            if error.startswith(CANCELLED):
                decisions.slow.add(question)
            elif error.startswith(LOCKED):
                decisions.locked.add(question)
            else:
                decisions.failed[question] = error
        del decisions.undecided[:last]
        return decisions

    async def plan(
        self, session: QuestionSession, relation: Relation, table: RoleTable, milliseconds: int
    ) -> None:
        """Let the connection plan what it is asked about one change of a table, and about several,
        by questions about rows without a key, which are not there.

        Raises:
            psycopg.Error: the connection has ended.
            Unavailable: the database cannot be reached.
        """
        row = dict.fromkeys(relation.columns)
        change = RowChange(relation, Operation.INSERT, 0, EPOCH, row, None)
        question = RowQuestion(table.role, NO_CLAIMS, relation.oid)
        for mask in (0b1, 0b11):
            await self.ask(session, [change, change], {question: mask}, table, milliseconds)

    async def _function(
        self,
        session: QuestionSession,
        table: RoleTable,
        watched: Sequence[TableColumn],
    ) -> str:
        """Return the name of the function for a table and a role, which is there then."""
        if session.number != self._session_number:
            self._functions.clear()
            self._session_number = session.number
        elif len(self._functions) > MAX_FUNCTIONS:
            self._functions.clear()
            await session.run(Call(Statement("DISCARD TEMP")))
        definition = _definition(
            table.role,
            table.name,
            tuple((column.name, column.sql_type) for column in table.key),
            tuple(column.name for column in watched),
            keeps_state=table.reading.claims is None,
            is_planned_anew=any(each.is_declared_immutable for each in table.functions.values()),
        )
        if definition.name not in self._functions:
            await session.run(Call(definition.statement), prepare=False)
            self._functions.add(definition.name)
        return definition.name


def _watched_columns(table: RoleTable, rows: Iterable[Row]) -> Sequence[TableColumn]:
    """Return the columns that show whether the rows are as they were."""
    names = {column.name for column in table.policy_columns}
    if all(column.is_selectable for column in table.policy_columns) and all(
        names <= row.keys() for row in rows
    ):
        return table.policy_columns
    return [column for column in table.columns.values() if column.is_selectable]


class _Sections:
    """The changes that questions ask about, those of each question in one section.

    Attributes:
        places: of the changes, one section after the other.
        bounds: of each section its first and last number, from 1, by the bits of its changes.
        watched_columns: show whether the rows are as they were.
        keys, watched: of each column the values.
        unknown: of each watched column the numbers of the changes whose value is not known.
    """

    def __init__(
        self, changes: Sequence[RowChange], table: RoleTable, masks: Iterable[int]
    ) -> None:
        self.places: list[int] = []
        self.bounds: dict[int, tuple[int, int]] = {}
        for mask in masks:
            if mask not in self.bounds:
                first = len(self.places) + 1
                self.places += bits(mask)
                self.bounds[mask] = first, len(self.places)
        rows = [new_row(changes[place]) or {} for place in self.places]
        self.keys = [_texts(rows, column) for column in table.key]
        self.watched_columns = _watched_columns(table, rows)
        self.watched = [_texts(rows, column) for column in self.watched_columns]
        self.unknown = [
            [number for number, row in enumerate(rows, 1) if column.name not in row]
            for column in self.watched_columns
        ]

    def mask(self, numbers: Iterable[int]) -> int:
        """Return the bits of the changes with these numbers."""
        mask = 0
        for number in numbers:
            mask |= 1 << self.places[number - 1]
        return mask


def _texts(rows: Iterable[Row], column: TableColumn) -> list[str | None]:
    values = (row.get(column.name) for row in rows)
    return [value if isinstance(value, str) else None for value in values]


def bits(mask: int) -> Iterator[int]:
    """Yield the places of the bits that are set."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _call(
    name: str,
    table: RoleTable,
    questions: Mapping[RowQuestion, int],
    sections: _Sections,
    milliseconds: int,
) -> RoleStatement:
    bounds = [sections.bounds[mask] for mask in questions.values()]
    parameters: list[Any] = [
        TextArray([question.claims for question in questions]),
        IntegerArray([first for first, _ in bounds]),
        IntegerArray([last for _, last in bounds]),
        milliseconds // 2,
        *(TextArray(values) for values in sections.keys),
        *(TextArray(values) for values in sections.watched),
        *map(IntegerArray, sections.unknown),
    ]
    places = ["$1", "$2", "$3", "$4::int", *(f"${n}" for n in range(5, len(parameters) + 1))]
    # The name is a hash of ours; what clients send is bound.
    statement = f"SELECT caller, seen, error FROM pg_temp.{name}({', '.join(places)})"  # noqa: S608
    return RoleStatement(table.role, NO_CLAIMS, statement, parameters)


class _Definition(NamedTuple):
    name: str
    statement: Statement


@lru_cache(1024)
def _definition(
    role: str,
    table: tuple[str, str],
    key: Sequence[tuple[str, str]],
    watched: Sequence[str],
    *,
    keeps_state: bool,
    is_planned_anew: bool,
) -> _Definition:
    """Return the function that finds rows by their keys, as far as they are as they were.

    Args:
        role: that calls it; its plan is that role's.
        table: its schema and name.
        key: the names and types of the primary key's columns.
        watched: the columns that show whether a row is as it was.
    """
    keys = [(sql.Identifier(f"key{number}"), *column) for number, column in enumerate(key)]
    body = sql.SQL(_BODY).format(
        declarations=sql.SQL("\n    ").join(
            sql.SQL("{0} {1}[] := CAST({2} AS {1}[]);").format(
                name, sql.SQL(_literal(sql_type)), sql.Identifier(f"text{number}")
            )
            for number, (name, _, sql_type) in enumerate(keys)
        ),
        slices=sql.SQL(", ").join(sql.SQL("{}[first:last]").format(name) for name, *_ in keys),
        names=sql.SQL(", ").join(name for name, *_ in keys),
        table=sql.Identifier(*table),
        matches=sql.SQL(" AND ").join(
            sql.SQL("t.{} = k.{}").format(sql.Identifier(column), name) for name, column, _ in keys
        ),
        as_then=_as_then(watched, "k.number + first - 1"),
        is_first=sql.SQL(" AND ").join(
            sql.SQL("t.{} = {}[first]").format(sql.Identifier(column), name)
            for name, column, _ in keys
        ),
        first_as_then=_as_then(watched, "first"),
        undo=sql.SQL("RAISE SQLSTATE {};").format(sql.Literal(UNDONE))
        if keeps_state
        else sql.SQL(""),
        undone=sql.Literal(UNDONE),
    )
    parameters = [f"text{number} text[]" for number in range(len(key))]
    parameters += [f"watched{number} text[]" for number in range(len(watched))]
    parameters += [f"unknown{number} int[]" for number in range(len(watched))]
    text = body.as_string()
    name = "rows_" + hashlib.sha256(f"{role}\n{is_planned_anew}\n{text}".encode()).hexdigest()[:32]
    statement = sql.SQL(_FUNCTION).format(
        name=sql.Identifier(name),
        parameters=sql.SQL(", ".join(parameters)),
        settings=sql.SQL(_PLANNED_ANEW if is_planned_anew else ""),
        body=sql.Literal(text),
    )
    return _Definition(name, Statement(statement.as_string()))


def _as_then(watched: Sequence[str], place: LiteralString) -> sql.Composable:
    """Return whether the watched columns are as the change at a place has them."""
    conditions = [
        # As the stream writes it: a cast to text writes `true`, and pads no `char(n)`.
        sql.SQL(
            "({watched}[{place}] IS NOT DISTINCT FROM"
            " CASE WHEN num_nulls(t.{column}) = 0 THEN concat(t.{column}) END"
            " OR {place} = ANY ({unknown}))"
        ).format(
            watched=sql.Identifier(f"watched{number}"),
            place=sql.SQL(place),
            column=sql.Identifier(column),
            unknown=sql.Identifier(f"unknown{number}"),
        )
        for number, column in enumerate(watched)
    ]
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")


def _literal(sql_type: str) -> LiteralString:
    """Return a type as the catalog writes it (`format_type`), quoted where it needs to be."""
    return sql_type
