"""The statements that change and delete rows, as far as a caller may."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Delete,
    Select,
    Update,
    and_,
    delete,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ClauseElement

from amphibase.access.conditions import Always, Condition, Matches, Never, all_of, any_of
from amphibase.backend import Where
from amphibase.errors import ForeignKeyViolation
from amphibase.models import utc_now
from amphibase.sql.records.limit import limited
from amphibase.sql.records.new_rows import changed_row, must_check_new
from amphibase.sql.records.query_builder import QueryBuilder, enclosed
from amphibase.sql.records.statement_tables import StatementTables
from amphibase.sql.records.tables_read import expressions_in

Changes = Mapping[Any, Any]
"""The values of an update, by columns."""


class ChangeStatements:
    """Builds the statements for the rows of a builder's model and caller."""

    def __init__(self, builder: QueryBuilder) -> None:
        self._builder = builder
        self._info = builder.info
        self._policy = builder.policy

    def condition(self, changes: Changes) -> Condition:
        """Return the condition of rows that the caller may change in these columns."""
        changeable, deletable = self._policy.changeable, self._policy.deletable
        if self._info.deleted_at not in changes or changeable == deletable:
            return changeable
        stays, is_deletion = self._is_deletion(changes)
        is_no_change = all_of(is_deletion, self._others_stay(changes))
        return all_of(any_of(stays, deletable), any_of(is_no_change, changeable))

    def _is_deletion(self, changes: Changes) -> tuple[Condition, Condition]:
        """Return that a row keeps the time of its soft deletion, and that it does not: then it is
        deleted or restored."""
        column: Any = self._info.deleted_at
        if column not in changes:
            return Always(), Never()
        value = changes[column]
        if not self._policy.with_deleted and not isinstance(value, ClauseElement):
            return (Always(), Never()) if value is None else (Never(), Always())
        stays = column.is_not_distinct_from(value)
        return Matches(stays), Matches(column.is_distinct_from(value))

    def _others_stay(self, changes: Changes) -> Condition:
        """Return that no column changes beside those that a soft deletion changes, too."""
        others = changes.keys() - {self._info.deleted_at, self._info.updated_at, self._info.version}
        if any(isinstance(column.type, JSON) for column in others):  # Postgres compares no JSON
            return Never()
        same = [column.is_not_distinct_from(changes[column]) for column in others]
        return all_of(*map(Matches, same))

    def _is_left(self, tables: StatementTables, changes: Changes) -> Sequence[ColumnElement[bool]]:
        """Return the condition that a row becomes what the caller may leave, as arguments of
        `where`. A soft deletion is no change, and no rule reads its time."""
        _, is_deletion = self._is_deletion(changes)
        exempt = all_of(is_deletion, self._others_stay(changes))
        changed = {**changes, **self._info.counted_up()}
        if isinstance(exempt, Always) or not must_check_new(self._policy, changed):
            return ()
        new = tables.where(self._policy.changed, changed_row(changed))
        return new if isinstance(exempt, Never) else (or_(*tables.where(exempt), *new),)

    def _refers(self, tables: StatementTables, changes: Changes) -> Sequence[ColumnElement[bool]]:
        """Return the conditions that the caller sees what a row refers to by the foreign keys that
        change, as arguments of `where`."""
        conditions = []
        for reference in self._policy.references:
            new = [(column, changes[column]) for column in reference.columns if column in changes]
            if new and not any(value is None for _, value in new):
                stays = [column.is_not_distinct_from(value) for column, value in new]
                sees = tables.where(reference, changed_row(changes))
                conditions.append(or_(and_(*stays), *sees))
        return conditions

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
        statement = statement.where(*self._is_left(tables, changes), *self._refers(tables, changes))
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
            ForeignKeyViolation: one would refer to a row that the caller does not see.
        """
        filters = enclosed(where)
        tables = self._builder.tables(*where, *expressions_in(changes.values()))
        is_left, refers = self._is_left(tables, changes), self._refers(tables, changes)
        reached: Select[Any] = select(literal_column("1")).select_from(self._info.table)
        reached = reached.where(*filters, *tables.where(self.condition(changes)))
        for required in (is_left, refers):
            if not required:
                continue
            wrong = tables.restrict(limited(reached.where(and_(*required).is_not(true())), 1))
            if (await connection.execute(wrong)).first() is not None:
                if required is refers:
                    raise ForeignKeyViolation
                self._policy.deny()
