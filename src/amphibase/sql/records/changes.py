"""The statements that change and delete rows, as far as a caller may."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Delete, Select, Update, delete, literal_column, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.access.conditions import Condition, all_of
from amphibase.backend import Where
from amphibase.models import utc_now
from amphibase.records.access_policy import Write
from amphibase.sql.records.limit import limited
from amphibase.sql.records.new_rows import changed_row, must_check_new
from amphibase.sql.records.query_builder import QueryBuilder, enclosed
from amphibase.sql.records.tables_read import expressions_in

Changes = Mapping[Any, Any]
"""The values of an update, by columns."""


class ChangeStatements:
    """Builds the statements for the rows of a builder's model and caller."""

    def __init__(self, builder: QueryBuilder) -> None:
        self._builder = builder
        self._info = builder.info
        self._policy = builder.policy

    def operations(self, changes: Changes) -> Sequence[Write]:
        """Return what a change of columns is: of the time of a soft deletion, a deletion."""
        if self._info.deleted_at not in changes:
            return ["change"]
        others = changes.keys() - {self._info.deleted_at, self._info.version}
        return ["change", "delete"] if others else ["delete"]

    def condition(self, changes: Changes) -> Condition:
        """Return the condition of rows that the caller may change in these columns."""
        conditions = {"change": self._policy.changeable, "delete": self._policy.deletable}
        return all_of(*(conditions[operation] for operation in self.operations(changes)))

    def _must_check_new(self, changes: Changes) -> bool:
        # A soft deletion is no change, and no rule reads its time.
        return "change" in self.operations(changes) and must_check_new(self._policy, changes)

    def select(self, condition: Condition, *where: Where) -> Select[Any]:
        """Select and lock the rows that match, as far as a condition holds for them."""
        filters = enclosed(where)
        tables = self._builder.tables(*where)
        statement = self._info.select.where(*filters, *tables.where(condition))
        return tables.restrict(statement).with_for_update(of=self._info.table)

    def update(self, changes: Changes, *where: Where) -> Update:
        """Change the rows that match and that the caller may change, to what they may leave."""
        filters = enclosed(where)
        tables = self._builder.tables(*where, *expressions_in(changes.values()))
        changed = {**changes, **self._info.counted_up()}
        statement = update(self._info.table).where(*filters, *tables.where(self.condition(changes)))
        if self._must_check_new(changed):
            statement = statement.where(*tables.where(self._policy.changed, changed_row(changed)))
        return tables.restrict(statement.values(changed))

    def delete(self, *where: Where) -> Update | Delete:
        """Delete the rows that match and that the caller may delete, softly if the model does."""
        if self._info.deleted_at is not None and not self._policy.with_deleted:
            return self.update({self._info.deleted_at: utc_now()}, *where)
        filters = enclosed(where)
        tables = self._builder.tables(*where)
        statement = delete(self._info.table).where(*filters)
        return tables.restrict(statement.where(*tables.where(self._policy.deletable)))

    async def check(self, connection: AsyncConnection, changes: Changes, *where: Where) -> None:
        """Check that all rows that a change is about to reach may be left so.

        Raises:
            Unauthenticated, Forbidden: one may not.
        """
        changed = {**changes, **self._info.counted_up()}
        if not self._must_check_new(changed):
            return
        filters = enclosed(where)
        tables = self._builder.tables(*where, *expressions_in(changes.values()))
        (new,) = tables.where(self._policy.changed, changed_row(changed)) or (true(),)
        wrong: Select[Any] = select(literal_column("1")).select_from(self._info.table)
        wrong = wrong.where(*filters, *tables.where(self.condition(changes)), new.is_not(true()))
        if (await connection.execute(tables.restrict(limited(wrong, 1)))).first() is not None:
            self._policy.deny()
