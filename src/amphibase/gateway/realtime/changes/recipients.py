"""The recipients of a table's changes, in groups that are decided about together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

from amphibase.gateway.realtime.changes.binding import Binding
from amphibase.gateway.realtime.changes.pace import paced
from amphibase.gateway.realtime.changes.round import (
    BindingSelection,
    ChangeSubscriber,
    Group,
    Recipient,
)
from amphibase.gateway.realtime.changes.row_policies import RowQuestion
from amphibase.gateway.realtime.changes.tables import Tables
from amphibase.replication.change import Relation

Subscribed = Sequence[tuple[ChangeSubscriber, Binding]]
"""Those who name a table, and by which bindings."""

MAX_RELATIONS = 1000
"""Of which the groups are kept; the stream has a relation for each version of a table."""


class Outdated(Exception):
    """The tables have changed, or what the transactions did cannot be seen yet."""


class _TableGroups(NamedTuple):
    """The groups of one table.

    Attributes:
        subscribed: who is among them, or is left out.
        roles: of these.
        version: of the table.
        left_out: those who may select nothing, until they know.
    """

    subscribed: Subscribed
    roles: Set[str]
    version: str | None
    groups: Sequence[Group]
    left_out: list[tuple[ChangeSubscriber, Binding]]


class RecipientGroups:
    """The groups of all tables, kept while neither the subscribers nor the table change."""

    def __init__(self) -> None:
        self._of_tables: dict[Relation, _TableGroups] = {}

    def clear(self) -> None:
        """Forget all groups, and with them their subscribers."""
        self._of_tables.clear()

    def roles(self, relation: Relation, subscribed: Subscribed) -> Set[str]:
        """Return the roles of those who name a table.

        Args:
            subscribed: as `of_table` takes it.
        """
        latest = self._of_tables.get(relation)
        if latest is not None and latest.subscribed is subscribed:
            return latest.roles
        return {subscriber.caller.role for subscriber, _ in subscribed}

    async def of_table(
        self,
        relation: Relation,
        subscribed: Subscribed,
        versions: Mapping[int, str],
        tables: Tables,
    ) -> Sequence[Group]:
        """Return those who may select something of a table, if it is still there.

        Args:
            subscribed: the same object while it has the same content.
            versions: of the tables, by their oids.
            tables: of these versions.

        Raises:
            Outdated: the table was not read for the role of one of them.
        """
        version = versions.get(relation.oid)
        latest = self._of_tables.get(relation)
        if latest is not None and latest.subscribed is subscribed and latest.version == version:
            return latest.groups
        recipients: dict[tuple[BindingSelection, RowQuestion], list[Recipient]] = defaultdict(list)
        left_out = []
        async for subscriber, binding in paced(subscribed):
            role = subscriber.caller.role
            table = tables.get((relation.oid, role))
            if table is None and version is not None:  # a new token has another role
                raise Outdated
            if table is not None and table.is_readable:
                claims = table.reading.reduce(subscriber.caller.claims)
                selection = BindingSelection(relation, role, binding.event, binding.filters)
                question = RowQuestion(role, claims, relation.oid)
                recipients[selection, question].append(Recipient(subscriber, binding, role))
            elif table is not None and not binding.is_wildcard:
                left_out.append((subscriber, binding))
        if len(self._of_tables) >= MAX_RELATIONS:
            self._of_tables.clear()
        counts = Counter(subscriber for subscriber, _ in subscribed)
        groups = [Group.of(*key, of_group, counts) for key, of_group in recipients.items()]
        roles = self.roles(relation, subscribed)
        self._of_tables[relation] = _TableGroups(subscribed, roles, version, groups, left_out)
        return groups

    def take_left_out(
        self, relations: Iterable[Relation]
    ) -> list[tuple[ChangeSubscriber, Binding]]:
        """Return those who may select nothing of some tables, each once."""
        taken = []
        for relation in relations:
            if relation in self._of_tables:
                left_out = self._of_tables[relation].left_out
                taken += left_out
                left_out.clear()
        return taken
