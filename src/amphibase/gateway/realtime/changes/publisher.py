"""Publishes changes to those who have subscribed to them and may see them."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import psycopg

from amphibase.database.engine import Database
from amphibase.gateway.realtime.changes.binding import Binding
from amphibase.gateway.realtime.changes.event import new_row, old_row, write_event
from amphibase.gateway.realtime.changes.filters import EXACT
from amphibase.gateway.realtime.changes.jobs import driver_connection
from amphibase.gateway.realtime.changes.questions import (
    FilterQuestion,
    RowQuestion,
    Tables,
    ask_filters,
    ask_rows,
    compose,
    read_tables,
    wait_until_visible,
)
from amphibase.gateway.realtime.changes.tables import RoleTable
from amphibase.gateway.realtime.frames import Push
from amphibase.gateway.realtime.replication.pgoutput import Operation, RowChange
from amphibase.gateway.realtime.tokens import ChannelCaller

EVENT = "postgres_changes"


class ChangeSubscriber(Hashable, Protocol):
    """A channel that wants changes."""

    wire_name: str

    @property
    def caller(self) -> ChannelCaller:
        """As whom it sees rows."""

    def push(self, push: Push) -> None:
        """Send an event to the client."""


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
        self._bindings: dict[ChangeSubscriber, Sequence[Binding]] = {}

    def add(self, subscriber: ChangeSubscriber, bindings: Sequence[Binding]) -> None:
        """Publish the changes of the bindings to a subscriber from now on."""
        if bindings:
            self._bindings[subscriber] = bindings

    def remove(self, subscriber: ChangeSubscriber) -> None:
        """Publish nothing more to a subscriber."""
        self._bindings.pop(subscriber, None)

    async def publish(self, changes: Sequence[RowChange]) -> None:
        """Send changes to those who may see them, in their order."""
        hits = [
            _Hit(change, subscriber, binding, _question(change, subscriber.caller))
            for change in changes
            for subscriber, bindings in self._bindings.items()
            for binding in bindings
            if binding.matches(change)
        ]
        if not hits:
            return
        async with driver_connection(self._database) as connection:
            await wait_until_visible(connection, (hit.change.xid for hit in hits))
            oids = {hit.change.relation.oid for hit in hits}
            tables = await read_tables(connection, oids, {hit.role for hit in hits})
            hits = await _filtered(connection, hits, tables)
            hits = await _permitted(connection, hits, tables)
            composed = await compose(connection, _composed_values(hits, tables))
        written: dict[Any, bytes] = {}
        for (_, subscriber), group in _grouped(hits).items():
            if subscriber not in self._bindings:  # it has left meanwhile
                continue
            change, binding = group[0].change, group[0].binding
            key = id(change), group[0].role, binding.columns
            if key not in written:
                table = tables[change.relation.oid, group[0].role]
                written[key] = write_event(change, table, binding.columns, composed)
            ids = [hit.binding.id for hit in group]
            payload = {"ids": ids, "data": orjson.Fragment(written[key])}
            subscriber.push(Push(subscriber.wire_name, EVENT, payload))


def _question(change: RowChange, caller: ChannelCaller) -> RowQuestion:
    return RowQuestion(caller.role, caller.claims, change.relation.oid)


def _grouped(hits: Sequence[_Hit]) -> dict[tuple[Any, ChangeSubscriber], list[_Hit]]:
    """Group the hits that are one message: of one change, for one channel, with equal columns."""
    groups = defaultdict(list)
    for hit in hits:
        groups[(id(hit.change), hit.binding.columns), hit.subscriber].append(hit)
    return groups


async def _filtered(
    connection: psycopg.AsyncConnection[Any], hits: Sequence[_Hit], tables: Tables
) -> list[_Hit]:
    """Return the hits whose filters hold."""
    questions: dict[FilterQuestion, list[str | None]] = defaultdict(list)
    undecided: list[tuple[_Hit, list[tuple[FilterQuestion, str | None]]]] = []
    for hit in hits:
        table = tables.get((hit.change.relation.oid, hit.role))
        if table is None:  # it was dropped
            continue
        asked = _decide(hit, table)
        if asked is not None:
            undecided.append((hit, asked))
            for question, value in asked:
                questions[question].append(value)
    passed = await ask_filters(connection, questions)
    return [
        hit
        for hit, asked in undecided
        if all(passed[question].get(value, False) for question, value in asked)
    ]


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
    for place, hit in enumerate(hits):
        table = tables[hit.change.relation.oid, hit.role]
        is_known = table.key and all(column.is_selectable for column in table.key)
        if not any(column.is_selectable for column in table.columns.values()):
            continue
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
        for place, hit in enumerate(hits)
        if place in free or (hit.question, id(hit.change)) in visible
    ]


def _composed_values(hits: Sequence[_Hit], tables: Tables) -> set[tuple[str, str, str]]:
    """Return the values whose JSON the database writes: their roles, types and texts."""
    values = set()
    for hit in hits:
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
