"""Who receives which changes of a block: by bindings, filters, and the policies of the database.

The changes that somebody wants or may see are the bits of a number, by their places in the block.
So what a thousand subscribers want of a hundred changes is a thousand numbers, and only what is
delivered costs more than that.
"""

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence, Set
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple, Protocol, Self

from amphibase.gateway.realtime.changes.binding import ALL, Binding
from amphibase.gateway.realtime.changes.event import new_row, old_row
from amphibase.gateway.realtime.changes.filters import EXACT, ChangeFilter
from amphibase.gateway.realtime.changes.pace import paced
from amphibase.gateway.realtime.changes.possible_rows import ANY_ROW, RowMasks
from amphibase.gateway.realtime.changes.questions import FilterQuestion, ask_filters
from amphibase.gateway.realtime.changes.row_policies import (
    Decisions,
    RowPolicies,
    RowQuestion,
    bits,
)
from amphibase.gateway.realtime.changes.session import QuestionSession
from amphibase.gateway.realtime.changes.tables import RoleTable, Tables
from amphibase.gateway.realtime.frames import Push
from amphibase.gateway.realtime.tokens import ChannelCaller
from amphibase.replication.change import Operation, Relation, Row, RowChange


class ChangeSubscriber(Hashable, Protocol):
    """A channel that wants changes."""

    @property
    def wire_name(self) -> str:
        """The topic as messages have it."""

    @property
    def caller(self) -> ChannelCaller:
        """Who decides what it may see."""

    @property
    def names_changes(self) -> bool:
        """Whether changes come as events of the name of their operation."""

    def push(self, push: Push) -> None:
        """Send a message to the client."""

    def system(self, message: str, *, extension: str = "system", is_error: bool = False) -> None:
        """Send the client a message about the channel itself."""

    def lose_changes(self, reason: str) -> None:
        """Let the client join again, since it may have missed changes."""


class Recipient(NamedTuple):
    """A binding of a subscriber that names the table of changes."""

    subscriber: ChangeSubscriber
    binding: Binding
    role: str


class BindingSelection(NamedTuple):
    """What a binding wants of a table; equal ones are evaluated once."""

    relation: Relation
    role: str
    event: str
    filters: tuple[ChangeFilter, ...]


class MessageForm(NamedTuple):
    """What a message about a change depends on beside the change.

    Attributes:
        role: for which it is written.
        columns: that are wanted; None for all.
        wire_name: the topic as messages have it.
        names_changes: see `ChangeSubscriber`.
        ids: of the bindings.
    """

    role: str
    columns: tuple[str, ...] | None
    wire_name: str
    names_changes: bool
    ids: tuple[int, ...]

    @classmethod
    def of(
        cls,
        subscriber: ChangeSubscriber,
        role: str,
        columns: tuple[str, ...] | None,
        ids: tuple[int, ...],
    ) -> Self:
        """Build the form of what a subscriber receives."""
        return cls(role, columns, subscriber.wire_name, subscriber.names_changes, ids)


class Group(NamedTuple):
    """Recipients who receive the same changes of a table.

    Attributes:
        question: has the claims by which the policies decide.
        audiences: of those who name the table once, who receive messages of the same form.
        others: those who name it several times, and receive one message for all of these.
    """

    selection: BindingSelection
    question: RowQuestion
    recipients: Sequence[Recipient]
    audiences: Mapping[MessageForm, Sequence[ChangeSubscriber]]
    others: Sequence[Recipient]

    @classmethod
    def of(
        cls,
        selection: BindingSelection,
        question: RowQuestion,
        recipients: Sequence[Recipient],
        counts: Mapping[ChangeSubscriber, int],
    ) -> Self:
        """Build the group of these recipients.

        Args:
            counts: how many bindings of each subscriber name the table.
        """
        audiences: dict[MessageForm, list[ChangeSubscriber]] = defaultdict(list)
        others = []
        for recipient in recipients:
            subscriber, binding, role = recipient
            if counts[subscriber] == 1:
                form = MessageForm.of(subscriber, role, binding.columns, (binding.id,))
                audiences[form].append(subscriber)
            else:
                others.append(recipient)
        return cls(selection, question, recipients, audiences, others)

    def without(self, subscribers: Set[ChangeSubscriber]) -> Self:
        """Return the group without some subscribers."""
        return self._replace(
            recipients=[each for each in self.recipients if each.subscriber not in subscribers],
            audiences={
                form: [each for each in audience if each not in subscribers]
                for form, audience in self.audiences.items()
            },
            others=[each for each in self.others if each.subscriber not in subscribers],
        )


class RoundOutcome(NamedTuple):
    """What is decided about a block.

    Attributes:
        groups: who receives each change.
        slow_filters: whose filters take too long.
        slow: whose policies take too long.
        undecided: who could not be asked in the time. Nothing of the block is for them, nor for
            those whose policies are slow.
        failed: whose policies raise an error, and its SQLSTATE and message.
    """

    groups: Sequence[Sequence[Group]]
    slow_filters: Sequence[Recipient]
    slow: Sequence[Recipient]
    undecided: Set[ChangeSubscriber]
    failed: Sequence[tuple[Recipient, str]]


class TimeLimit(NamedTuple):
    """How long policies may take.

    Attributes:
        milliseconds: of one statement.
        statements_seconds: after which no further statement of the round begins.
    """

    milliseconds: int
    statements_seconds: float


class Round:
    """The decision about one block of changes.

    Args:
        groups: those who may want the changes; each may select something of the table.
        tables: of their roles.
    """

    def __init__(
        self,
        changes: Sequence[RowChange],
        groups: Sequence[Group],
        tables: Tables,
    ) -> None:
        self._changes = changes
        self._tables = tables
        self._groups = groups
        self._operations: dict[tuple[Relation, str], int] = defaultdict(int)
        for place, change in enumerate(changes):
            for event in (ALL, change.operation):
                self._operations[change.relation, event] |= 1 << place
        self._rows: dict[tuple[int, bool], Row] = {}
        self._wanted: dict[BindingSelection, int] = {}
        self._slow_selections: set[BindingSelection] = set()

    async def decide(
        self, session: QuestionSession, policies: RowPolicies, limit: TimeLimit
    ) -> RoundOutcome:
        """Decide it. Raises psycopg.Error where the connection has ended."""
        await self._select(session)
        questions = await self._questions()
        decisions = Decisions()
        end = monotonic() + limit.statements_seconds
        for (oid, role), asked in questions.items():
            table, remaining = self._tables[oid, role], asked
            while remaining and monotonic() < end:
                latest = await policies.ask(
                    session, self._changes, remaining, table, limit.milliseconds
                )
                decisions.add(latest)
                if len(latest.undecided) == len(remaining):
                    break
                remaining = {each: asked[each] for each in latest.undecided}
            decisions.undecided += remaining
        return await self._outcome(decisions)

    async def _select(self, session: QuestionSession) -> None:
        """Evaluate what the bindings want, each combination of conditions once."""
        questions: dict[FilterQuestion, set[str | None]] = defaultdict(set)
        undecided: list[tuple[BindingSelection, int, list[tuple[FilterQuestion, str | None]]]] = []
        async for selection, *_ in paced(self._groups):
            if selection in self._wanted:
                continue
            wanted = self._operations[selection.relation, selection.event]
            if selection.filters:
                table = self._tables[selection.relation.oid, selection.role]
                if table.is_restricted and not table.has_known_key:
                    # What a row that is not shown holds could be found out by filters.
                    wanted = 0
                for place in bits(wanted):
                    asked = self._compare(place, selection, table)
                    if asked != []:
                        wanted ^= 1 << place
                    for question, value in asked or ():
                        questions[question].add(value)
                    if asked:
                        undecided.append((selection, 1 << place, asked))
            self._wanted[selection] = wanted
        passed = await ask_filters(session, {each: [*questions[each]] for each in questions})
        for selection, bit, asked in undecided:
            if any(passed[question] is None for question, _ in asked):
                self._slow_selections.add(selection)
            elif all((passed[question] or {}).get(value, False) for question, value in asked):
                self._wanted[selection] |= bit

    def _compare(
        self, place: int, selection: BindingSelection, table: RoleTable
    ) -> list[tuple[FilterQuestion, str | None]] | None:
        """Return what the database is to be asked; None where a filter does not hold already."""
        asked: list[tuple[FilterQuestion, str | None]] = []
        row = self._row(place, table)
        for condition in selection.filters:
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
                asked.append((FilterQuestion(selection.role, column.sql_type, condition), value))
        return asked

    def _row(self, place: int, table: RoleTable) -> Row:
        """Return the row that filters compare: the new one, or what is shown of a deleted one."""
        key = place, table.is_restricted
        if key not in self._rows:
            change = self._changes[place]
            self._rows[key] = new_row(change) or old_row(change, table) or {}
        return self._rows[key]

    async def _questions(self) -> Mapping[tuple[int, str], Mapping[RowQuestion, int]]:
        """Return which changes the policies are to be asked about, by table and role."""
        wanted: dict[RowQuestion, int] = defaultdict(int)
        asked: dict[tuple[Relation, str], int] = {}
        async for selection, question, *_ in paced(self._groups):
            key = selection.relation, selection.role
            if key not in asked:
                asked[key] = self._asked_changes(*key)
            wanted[question] |= self._wanted[selection] & asked[key]
        possible = self._possible_rows(asked)
        questions: dict[tuple[int, str], dict[RowQuestion, int]] = defaultdict(dict)
        async for question, mask in paced(wanted.items()):
            of_table = question.oid, question.role
            rows, condition = possible[of_table], self._tables[of_table].reading.condition
            if mask and condition is not ANY_ROW:
                mask &= condition.mask(rows, _claims(question.claims))
            if mask:
                questions[of_table][question] = mask
        return questions

    def _possible_rows(
        self, asked: Mapping[tuple[Relation, str], int]
    ) -> Mapping[tuple[int, str], RowMasks]:
        """Return the rows that the policies are asked about, by table and role."""
        rows: dict[tuple[int, str], dict[int, Row]] = defaultdict(dict)
        for (relation, role), mask in asked.items():
            for place in bits(mask):
                rows[relation.oid, role][place] = new_row(self._changes[place]) or {}
        return {key: RowMasks(rows[key]) for key in ((r.oid, role) for r, role in asked)}

    def _asked_changes(self, relation: Relation, role: str) -> int:
        """Return the changes of a table that policies decide about: deleted rows are not there."""
        if not self._tables[relation.oid, role].asks_policies:
            return 0
        operations = self._operations
        return operations[relation, ALL] & ~operations[relation, Operation.DELETE]

    async def _outcome(self, decisions: Decisions) -> RoundOutcome:
        undecided = {*decisions.undecided} | decisions.locked
        slow: list[Recipient] = []
        failed: list[tuple[Recipient, str]] = []
        waiting: set[ChangeSubscriber] = set()
        async for selection, question, recipients, *_ in paced(self._groups):
            if not self._wanted[selection] & self._asked_changes(*selection[:2]):
                continue
            if question in decisions.slow:
                slow += recipients
            if question in undecided:
                waiting.update(each.subscriber for each in recipients)
            if question in decisions.failed:
                failed += [(each, decisions.failed[question]) for each in recipients]
        left_out = waiting.union(each.subscriber for each in slow)
        receiving: list[list[Group]] = [[] for _ in self._changes]
        slow_filters: list[Recipient] = []
        async for group in paced(self._groups):
            selection = group.selection
            if selection in self._slow_selections:
                slow_filters += group.recipients
                continue
            hidden = self._asked_changes(*selection[:2]) & ~decisions.seen.get(group.question, 0)
            receivers = group.without(left_out) if left_out else group
            for place in bits(self._wanted[selection] & ~hidden):
                receiving[place].append(receivers)
        return RoundOutcome(receiving, slow_filters, slow, waiting, failed)


@lru_cache(4096)
def _claims(text: str) -> Mapping[str, Any]:
    claims: Mapping[str, Any] = json.loads(text)
    return claims
