"""Publishes changes to those who have subscribed to them and may see them."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson
import psycopg

from amphibase.database.engine import Database
from amphibase.gateway.realtime.changes.binding import Binding
from amphibase.gateway.realtime.changes.event import new_row, old_row, write_event
from amphibase.gateway.realtime.changes.filters import EXACT
from amphibase.gateway.realtime.changes.index import BindingIndex
from amphibase.gateway.realtime.changes.jobs import driver_connection
from amphibase.gateway.realtime.changes.pace import paced
from amphibase.gateway.realtime.changes.questions import (
    FilterQuestion,
    RowQuestion,
    Tables,
    ask_filters,
    ask_rows,
    compose,
    read_tables,
)
from amphibase.gateway.realtime.changes.tables import RoleTable
from amphibase.gateway.realtime.frames import Push
from amphibase.gateway.realtime.tokens import ChannelCaller
from amphibase.replication.pgoutput import Operation, Relation, RowChange
from amphibase.replication.visibility import wait_until_visible

EVENT = "postgres_changes"
TOO_SLOW = "A filter takes too long, so the subscription has ended"

MAX_HITS = 50_000
"""That are decided about together; so many take some 20 MB."""


class ChangeSubscriber(Hashable, Protocol):
    """A channel that wants changes."""

    wire_name: str

    @property
    def caller(self) -> ChannelCaller:
        """As whom it sees rows."""

    def push(self, push: Push) -> None:
        """Send an event to the client."""

    def system(self, message: str, *, extension: str = ..., is_error: bool = ...) -> None:
        """Send the client a message about the channel itself."""


class _Candidate(NamedTuple):
    """A binding that names the table of a change."""

    subscriber: ChangeSubscriber
    binding: Binding
    question: RowQuestion


Candidates = Mapping[Relation, Sequence[_Candidate]]


@dataclass(frozen=True, slots=True)
class _Hit:
    """A change that is of a binding's table and operation."""

    change: RowChange
    subscriber: ChangeSubscriber
    binding: Binding
    question: RowQuestion

    @property
    def role(self) -> str:
        return self.question.role


class Publisher:
    """The subscriptions of one project.

    Args:
        database: as a role that may become the roles of subscribers.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._index = BindingIndex[ChangeSubscriber]()

    def add(self, subscriber: ChangeSubscriber, bindings: Sequence[Binding]) -> None:
        """Publish the changes of the bindings to a subscriber from now on, and no others."""
        self._index.replace(subscriber, bindings)

    def remove(self, subscriber: ChangeSubscriber) -> None:
        """Publish nothing more to a subscriber."""
        self._index.remove(subscriber)

    async def publish(self, changes: Sequence[RowChange]) -> None:
        """Send changes to those who may see them, in their order."""
        relations = {change.relation for change in changes}
        candidates = {
            relation: found for relation in relations if (found := await self._named(relation))
        }
        if not candidates:
            return
        changes = [change for change in changes if change.relation in candidates]
        async with driver_connection(self._database) as connection:
            await wait_until_visible(connection, (change.xid for change in changes))
            oids = {relation.oid for relation in candidates}
            roles = {each.question.role for found in candidates.values() for each in found}
            tables = await read_tables(connection, oids, roles)
            readable = {
                relation: [
                    each
                    async for each in paced(found)
                    if _is_readable(tables.get((relation.oid, each.question.role)))
                ]
                for relation, found in candidates.items()
            }
            for block in _blocks(changes, readable):
                await self._publish(connection, block, readable, tables)

    async def _named(self, relation: Relation) -> list[_Candidate]:
        """Return the bindings that name a table."""
        found = [*self._index.of_table(relation.schema, relation.table)]
        return [
            _Candidate(subscriber, binding, _question(relation, subscriber.caller))
            async for subscriber, binding in paced(found)
        ]

    async def _publish(
        self,
        connection: psycopg.AsyncConnection[Any],
        changes: Sequence[RowChange],
        candidates: Candidates,
        tables: Tables,
    ) -> None:
        pairs = ((change, each) for change in changes for each in candidates[change.relation])
        hits = [
            _Hit(change, *each)
            async for change, each in paced(pairs)
            if each.binding.matches(change)
        ]
        hits, too_slow = await _filtered(connection, hits, tables)
        self._end(too_slow)
        hits = await _permitted(connection, hits, tables)
        composed = await compose(connection, await _composed_values(hits, tables))
        written: dict[Any, bytes] = {}
        groups = await _grouped(hits)
        async for (_, subscriber), group in paced(groups.items()):
            if subscriber not in self._index:  # it has left meanwhile
                continue
            change, binding = group[0].change, group[0].binding
            key = id(change), group[0].role, binding.columns
            if key not in written:
                table = tables[change.relation.oid, group[0].role]
                written[key] = write_event(change, table, binding.columns, composed)
            ids = [hit.binding.id for hit in group]
            payload = {"ids": ids, "data": orjson.Fragment(written[key])}
            subscriber.push(Push(subscriber.wire_name, EVENT, payload))

    def _end(self, too_slow: Collection[_Hit]) -> None:
        """End the bindings whose filters take too long, so that others do not wait for them."""
        for hit in too_slow:
            if self._index.discard(hit.subscriber, hit.binding):
                message = f"{TOO_SLOW}: {hit.binding.describe()}"
                hit.subscriber.system(message, extension=EVENT, is_error=True)


def _question(relation: Relation, caller: ChannelCaller) -> RowQuestion:
    return RowQuestion(caller.role, caller.claims, relation.oid)


def _is_readable(table: RoleTable | None) -> bool:
    """Return whether a role may select anything of a table, which may have been dropped."""
    return table is not None and any(column.is_selectable for column in table.columns.values())


def _blocks(changes: Sequence[RowChange], candidates: Candidates) -> Iterator[list[RowChange]]:
    """Divide changes, so that what is wanted of each block fits into memory."""
    block: list[RowChange] = []
    size = 0
    for change in changes:
        count = len(candidates[change.relation])
        if block and size + count > MAX_HITS:
            yield block
            block, size = [], 0
        block.append(change)
        size += count
    if block:
        yield block


async def _grouped(hits: Sequence[_Hit]) -> dict[tuple[Any, ChangeSubscriber], list[_Hit]]:
    """Group the hits that are one message: of one change, for one channel, with equal columns."""
    groups = defaultdict(list)
    async for hit in paced(hits):
        groups[(id(hit.change), hit.binding.columns), hit.subscriber].append(hit)
    return groups


async def _filtered(
    connection: psycopg.AsyncConnection[Any], hits: Sequence[_Hit], tables: Tables
) -> tuple[list[_Hit], list[_Hit]]:
    """Return the hits whose filters hold, and those whose filters take too long."""
    questions: dict[FilterQuestion, list[str | None]] = defaultdict(list)
    undecided: list[tuple[_Hit, list[tuple[FilterQuestion, str | None]]]] = []
    async for hit in paced(hits):
        asked = _decide(hit, tables[hit.change.relation.oid, hit.role])
        if asked is not None:
            undecided.append((hit, asked))
            for question, value in asked:
                questions[question].append(value)
    passed = await ask_filters(connection, questions)
    holding, too_slow = [], []
    async for hit, asked in paced(undecided):
        if any(passed[question] is None for question, _ in asked):
            too_slow.append(hit)
        elif all((passed[question] or {}).get(value, False) for question, value in asked):
            holding.append(hit)
    return holding, too_slow


def _decide(hit: _Hit, table: RoleTable) -> list[tuple[FilterQuestion, str | None]] | None:
    """Return what is to be asked about a hit; None where a filter does not hold already."""
    asked: list[tuple[FilterQuestion, str | None]] = []
    if not hit.binding.filters:
        return asked
    row = new_row(hit.change) or old_row(hit.change, table) or {}
    for condition in hit.binding.filters:
        column = table.columns.get(condition.column)
        if column is None or not column.is_selectable or column.name not in row:
            return None
        value = row[column.name]
        assert value is None or isinstance(value, str)
        holds = None
        if column.type in EXACT and column.is_exact:
            holds = condition.decide(value, column.type)
        if holds is False:
            return None
        if holds is None:
            asked.append((FilterQuestion(hit.role, column.sql_type, condition), value))
    return asked


async def _permitted(
    connection: psycopg.AsyncConnection[Any], hits: Sequence[_Hit], tables: Tables
) -> list[_Hit]:
    """Return the hits whose row the subscriber may see."""
    questions: dict[RowQuestion, dict[int, RowChange]] = defaultdict(dict)
    free: set[int] = set()
    async for place, hit in paced(enumerate(hits)):
        table = tables[hit.change.relation.oid, hit.role]
        is_known = table.key and all(column.is_selectable for column in table.key)
        if hit.change.operation is Operation.DELETE or not table.is_restricted or not is_known:
            # A row without a key is not shown, but that one has changed; what it holds could be
            # found out by filters.
            if is_known or not (table.is_restricted and hit.binding.filters):
                free.add(place)
        else:
            questions[hit.question][id(hit.change)] = hit.change
    asked = {question: [*changes.values()] for question, changes in questions.items()}
    visible = await ask_rows(connection, asked, tables)
    return [
        hit
        async for place, hit in paced(enumerate(hits))
        if place in free or (hit.question, id(hit.change)) in visible
    ]


async def _composed_values(hits: Sequence[_Hit], tables: Tables) -> set[tuple[str, str, str]]:
    """Return the values whose JSON the database writes: their roles, types and texts."""
    values = set()
    async for hit in paced(hits):
        table = tables[hit.change.relation.oid, hit.role]
        columns = [each for each in table.columns.values() if each.is_composed]
        if columns:
            for row in (new_row(hit.change), old_row(hit.change, table)):
                values |= {
                    (hit.role, column.sql_type, text)
                    for column in columns
                    if column.is_selectable
                    and isinstance(text := (row or {}).get(column.name), str)
                }
    return values
