"""One order of changes: the subscriptions that it serves, and the connection that decides."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
import psycopg

from amphibase.background import uninterrupted
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.gateway.realtime.changes.binding import Binding
from amphibase.gateway.realtime.changes.check import NOT_GRANTED
from amphibase.gateway.realtime.changes.event import Composed, new_row, old_row, write_event
from amphibase.gateway.realtime.changes.generated_columns import GeneratedColumns
from amphibase.gateway.realtime.changes.index import BindingIndex
from amphibase.gateway.realtime.changes.pace import paced
from amphibase.gateway.realtime.changes.questions import compose
from amphibase.gateway.realtime.changes.recipients import Outdated, RecipientGroups, Subscribed
from amphibase.gateway.realtime.changes.round import (
    ChangeSubscriber,
    MessageForm,
    Recipient,
    Round,
    RoundOutcome,
    TimeLimit,
)
from amphibase.gateway.realtime.changes.row_policies import RowPolicies
from amphibase.gateway.realtime.changes.session import QuestionSession, Rows
from amphibase.gateway.realtime.changes.tables import (
    TableCatalog,
    TableName,
    Tables,
    oids_call,
    versions_call,
)
from amphibase.gateway.realtime.frames import Push
from amphibase.redaction import redacted_logger
from amphibase.replication.change import Relation, RowChange
from amphibase.replication.visibility import (
    are_visible,
    visibility_call,
    wait_until_visible,
)

logger = redacted_logger("amphibase.gateway.realtime")

EVENT = "postgres_changes"
TOO_SLOW = "takes too long, so the subscription has ended"
FAILS = "A policy fails, so that rows of this table are not delivered; the log says why"

Candidates = Mapping[Relation, Subscribed]
"""Who may want changes, by their tables."""

MAX_PREPARED = 1000
"""Pairs of a role and a table that are known to be prepared."""


class _Decision(NamedTuple):
    """What is to be sent.

    Attributes:
        changes: with what the stream lacks of them.
    """

    changes: Sequence[RowChange]
    tables: Tables
    outcome: RoundOutcome


class Lane:
    """Delivers changes in their order to the subscribers that it has.

    Args:
        database: as a role that may become the roles of subscribers.
        limit: of the policies of one round.
    """

    def __init__(self, database: PipelineDatabase, limit: TimeLimit) -> None:
        self._session = QuestionSession(database)
        self._asking = asyncio.Lock()  # for a round as a whole
        self._limit = limit
        self._prepared: set[tuple[str, TableName]] = set()
        self._prepared_session = 0
        self._index = BindingIndex[ChangeSubscriber]()
        self._catalog = TableCatalog()
        self._generated = GeneratedColumns()
        self._policies = RowPolicies()
        self._groups = RecipientGroups()
        self._notices: dict[ChangeSubscriber, set[str]] = defaultdict(set)

    def __contains__(self, subscriber: ChangeSubscriber) -> bool:
        return subscriber in self._index

    def add(self, subscriber: ChangeSubscriber, bindings: Sequence[Binding]) -> None:
        """Deliver the changes of the bindings to a subscriber from now on, and no others."""
        self._index.replace(subscriber, bindings)

    def remove(self, subscriber: ChangeSubscriber) -> Sequence[Binding]:
        """Deliver nothing more to a subscriber; return its bindings."""
        self._notices.pop(subscriber, None)
        self._groups.clear()
        return self._index.remove(subscriber)

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()

    async def prepare(self, role: str, names: Collection[TableName]) -> None:
        """Do what the first change of a table would wait for, and with it those that follow it:
        connect, read the table as a role may see it, and plan the questions about its rows.

        Args:
            names: of tables; those that are not there are left out.

        Raises:
            Unavailable: the database cannot be reached.
        """
        if not self._is_prepared(role, names):
            await uninterrupted(self._prepare(role, names))

    def _is_prepared(self, role: str, names: Collection[TableName]) -> bool:
        is_connected = self._session.is_open and self._session.number == self._prepared_session
        return is_connected and all((role, name) in self._prepared for name in names)

    async def _prepare(self, role: str, names: Collection[TableName]) -> None:
        async with self._asking:
            if self._is_prepared(role, names):  # meanwhile
                return
            with suppress(psycopg.Error):  # what fails here is logged with the first change
                (found,) = await self._session.run(oids_call(names))
                if self._prepared_session != self._session.number:
                    self._prepared_session = self._session.number
                    self._prepared.clear()
                elif len(self._prepared) > MAX_PREPARED:
                    self._prepared.clear()
                await self._plan(role, {oid: (schema, table) for oid, schema, table in found})
            self._prepared.update((role, name) for name in names)

    async def _plan(self, role: str, names: Mapping[int, TableName]) -> None:
        _, rows = await self._session.run(visibility_call(()), versions_call([*names]))
        tables = await self._catalog.read(self._session, dict(rows), [role])
        for (oid, _), table in tables.items():
            if table.asks_policies:
                relation = Relation(oid, *names[oid], [*table.columns], frozenset(), is_full=False)
                await self._policies.plan(self._session, relation, table, self._limit.milliseconds)

    def wants(self, relation: Relation) -> int:
        """Return how many subscribers name a table."""
        return self._index.count(relation.schema, relation.table)

    async def deliver(self, changes: Sequence[RowChange], candidates: Candidates) -> RoundOutcome:
        """Send changes to those who may see them.

        Args:
            candidates: who may want them.

        Returns:
            What was decided; nothing was sent to those whose policies are slow.

        Raises:
            Unavailable: the database cannot be reached.
            psycopg.Error: the connection has ended.
        """
        async with self._asking:
            return await self._deliver(changes, candidates)

    async def _deliver(self, changes: Sequence[RowChange], candidates: Candidates) -> RoundOutcome:
        decision = await self._decide_as_known(changes, candidates)
        while decision is None:
            (rows,) = await wait_until_visible(
                self._session.run,
                (change.xid for change in changes),
                versions_call({relation.oid for relation in candidates}),
            )
            versions: dict[int, str] = dict(rows)
            tables = await self._catalog.read(self._session, versions, self._roles(candidates))
            with suppress(Outdated):
                decision = await self._decide(changes, candidates, versions, tables)
        self._report(candidates, decision.outcome)
        await self._send(decision)
        return decision.outcome

    async def _decide_as_known(
        self, changes: Sequence[RowChange], candidates: Candidates
    ) -> _Decision | None:
        """Decide by the tables as they were read last, which most often is right, in one round trip
        with the check that it is, and that the questions see what the transactions did.

        Returns:
            None where they do not, the tables have changed, or the connection has ended.
        """
        oids = {relation.oid for relation in candidates}
        latest = self._catalog.latest(oids, self._roles(candidates))
        if latest is None:
            return None
        try:
            return await self._decide(changes, candidates, *latest)
        except (Outdated, psycopg.Error):
            return None

    async def _decide(
        self,
        changes: Sequence[RowChange],
        candidates: Candidates,
        versions: Mapping[int, str],
        tables: Tables,
    ) -> _Decision:
        """Decide by tables of these versions.

        They are compared after each question, in its transaction: whoever alters a policy waits for
        the end of that, and a question about a policy that was altered before does not count.

        Raises:
            Outdated: the tables have other versions by now, or are not visible yet.
            psycopg.Error: the connection has ended.
        """

        def accept(visible: Rows, latest: Rows) -> None:
            if not are_visible(visible) or dict(latest) != versions:
                raise Outdated

        oids = {relation.oid for relation in candidates}
        calls = visibility_call(change.xid for change in changes), versions_call(oids)
        with self._session.checking(*calls, accept):
            changes = await self._generated.add(self._session, changes, versions, tables)
            groups = [
                group
                for relation, named in candidates.items()
                for group in await self._groups.of_table(relation, named, versions, tables)
            ]
            outcome = await Round(changes, groups, tables).decide(
                self._session, self._policies, self._limit
            )
            await self._session.run()
        return _Decision(changes, tables, outcome)

    def candidates(self, changes: Sequence[RowChange]) -> Candidates:
        """Return who may want changes, by their tables."""
        named = {
            relation: self._index.of_table(relation.schema, relation.table)
            for relation in dict.fromkeys(change.relation for change in changes)
        }
        return {relation: of_table for relation, of_table in named.items() if of_table}

    def _roles(self, candidates: Candidates) -> Set[str]:
        return set().union(*(self._groups.roles(*each) for each in candidates.items()))

    def _report(self, relations: Iterable[Relation], outcome: RoundOutcome) -> None:
        """Tell those who get less than they want, and end what takes too long."""
        for subscriber, binding in self._groups.take_left_out(relations):
            self._notify(subscriber, binding, f"The role {subscriber.caller.role} {NOT_GRANTED}")
        for recipient in outcome.slow_filters:
            self.end(recipient, f"A filter {TOO_SLOW}")
        for recipient, error in outcome.failed:
            if self._notify(recipient.subscriber, recipient.binding, FAILS):
                logger.warning(
                    "A subscriber of the role %s gets nothing: %s", recipient.role, error
                )

    def _notify(self, subscriber: ChangeSubscriber, binding: Binding, message: str) -> bool:
        """Tell a subscriber once; return whether it is the first time.

        The status is ok: some clients take an error for the end of the channel.
        """
        text = f"{message}: {binding.describe()}"
        if text in self._notices[subscriber]:
            return False
        self._notices[subscriber].add(text)
        subscriber.system(text, extension=EVENT)
        return True

    def end(self, recipient: Recipient, reason: str) -> None:
        """End one binding, so that others do not wait for it."""
        if self._index.discard(recipient.subscriber, recipient.binding):
            message = f"{reason}: {recipient.binding.describe()}"
            recipient.subscriber.system(message, extension=EVENT, is_error=True)

    async def _send(self, decision: _Decision) -> None:
        composed = await _compose(self._session, decision)
        async for push, subscriber in paced(_deliveries(decision, composed)):
            if subscriber in self._index:  # it may have left meanwhile
                subscriber.push(push)


class _ChangeWriter:
    """Writes the messages about one change, each form once."""

    def __init__(self, change: RowChange, tables: Tables, composed: Composed) -> None:
        self._change = change
        self._tables = tables
        self._composed = composed
        self._events: dict[Any, bytes] = {}
        self._pushes: dict[MessageForm, Push] = {}

    def push(self, form: MessageForm) -> Push:
        """Return the message of a form."""
        if form not in self._pushes:
            self._pushes[form] = self._write(form)
        return self._pushes[form]

    def _write(self, form: MessageForm) -> Push:
        change, key = self._change, (form.role, form.columns)
        if key not in self._events:
            table = self._tables[change.relation.oid, form.role]
            self._events[key] = write_event(change, table, form.columns, self._composed)
        data = orjson.Fragment(self._events[key])
        if form.names_changes:
            return Push(form.wire_name, change.operation, data)
        return Push(form.wire_name, EVENT, {"ids": form.ids, "data": data})


def _deliveries(decision: _Decision, composed: Composed) -> Iterator[tuple[Push, ChangeSubscriber]]:
    """Yield what is sent, and to whom."""
    for change, groups in zip(decision.changes, decision.outcome.groups, strict=True):
        writer = _ChangeWriter(change, decision.tables, composed)
        others: dict[Any, list[Recipient]] = defaultdict(list)
        for group in groups:
            for form, audience in group.audiences.items():
                push = writer.push(form)
                for subscriber in audience:
                    yield push, subscriber
            for recipient in group.others:
                others[recipient.subscriber, recipient.binding.columns].append(recipient)
        for (subscriber, columns), recipients in others.items():
            ids = tuple(each.binding.id for each in recipients)
            yield (
                writer.push(MessageForm.of(subscriber, recipients[0].role, columns, ids)),
                subscriber,
            )


async def _compose(session: QuestionSession, decision: _Decision) -> Composed:
    """Return the JSON of the values that the database writes."""
    values = set()
    changes, tables, outcome = decision
    for change, groups in zip(changes, outcome.groups, strict=True):
        for role in {group.selection.role for group in groups}:
            table = tables[change.relation.oid, role]
            columns = [
                each for each in table.columns.values() if each.is_composed and each.is_selectable
            ]
            for row in (new_row(change), old_row(change, table)) if columns else ():
                texts = [(each.sql_type, (row or {}).get(each.name)) for each in columns]
                values |= {(role, type, text) for type, text in texts if isinstance(text, str)}
    return await compose(session, values)
