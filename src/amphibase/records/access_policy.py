"""Access as a predicate: which rows of a model a caller may see and change."""

from collections.abc import Sequence
from copy import copy
from typing import Any, NoReturn, Self

from sqlalchemy import ColumnElement, FromClause, Uuid, and_, bindparam, false

from amphibase.access import OWNER_COLUMN, Rule, Who, callers_of
from amphibase.backend import Caller
from amphibase.errors import Forbidden, InvalidValue, Unauthenticated
from amphibase.records.model_info import ABSENT, ModelInfo

CALLER = "caller"
"""The name of the parameter that holds the caller's id."""


class AccessPolicy:
    """Decides what one caller may do with the rows of one model.

    Args:
        by_database: whether policies of the database decide; then nothing is added to statements.
        with_deleted: whether softly deleted rows are visible.
    """

    def __init__(
        self, info: ModelInfo[Any], caller: Caller, *, by_database: bool, with_deleted: bool
    ) -> None:
        self.info = info
        self._caller = caller
        self._by_database = by_database or caller.role == "service_role"
        self.with_deleted = with_deleted
        self._owner: ColumnElement[Any] | None = info.owner
        self._deleted_at: ColumnElement[Any] | None = info.deleted_at

    def within(self, source: FromClause) -> Self:
        """Return the same policy for another FROM clause with the columns of the table.

        Args:
            source: its columns have the names that they have in the database.
        """
        policy = copy(self)
        if self.info.owner is not None:
            policy._owner = source.c[self.info.owner.name]
        if self.info.deleted_at is not None:
            policy._deleted_at = source.c[self.info.deleted_at.name]
        return policy

    @property
    def readable(self) -> ColumnElement[bool] | None:
        """The rows that the caller may see; None where that is every row."""
        return _all(self._alive(), self._admitted(self.info.access.declared.read))

    @property
    def kind(self) -> tuple[bool, ...]:
        """What the predicates of any model depend on beside the caller's id."""
        caller = self._caller
        signed_in = caller.user_id is not None
        return (
            self.with_deleted,
            self._by_database,
            caller.role == "service_role",
            signed_in,
            signed_in and caller.is_admin,
        )

    @property
    def writable(self) -> ColumnElement[bool] | None:
        """The rows that the caller may change: those that they also see."""
        access = self.info.access.declared
        return _all(self._alive(), self._admitted(access.read), self._admitted(access.change.old))

    @property
    def may_select(self) -> bool:
        """Whether the database lets the caller read the table at all, as GRANT decides it."""
        by_grants = self._by_database and self._caller.role != "service_role"
        return not by_grants or self._is_granted(self.info.access.declared.read)

    @property
    def may_write(self) -> bool:
        """Whether the declaration lets such a caller write rows at all, as GRANT decides it."""
        return self._is_granted(self.info.access.declared.change.old)

    @property
    def may_add(self) -> bool:
        """Whether the declaration lets the caller add a row of their own."""
        rule = self.info.access.declared.change.old
        owns = Who.OWNER in callers_of(rule) and self._caller.user_id is not None
        return self._static(rule) or owns

    def sees(self, values: dict[str, Any]) -> bool:
        """Return whether the caller may see a row with these values, once it is stored."""
        rule = self.info.access.declared.read
        if self._caller.role == "service_role" or self._static(rule):
            return True
        own = self._caller.user_id is not None and values.get(OWNER_COLUMN) == self._caller.user_id
        return Who.OWNER in callers_of(rule) and own

    def check_writes(self) -> None:
        """Check that the caller may write rows of the model at all, as GRANT decides it.

        Raises:
            Unauthenticated, Forbidden: the caller may not.
        """
        if not (self._by_database or self.may_write):
            self.deny()

    def own(self, values: dict[str, Any]) -> None:
        """Set the owner of a new row.

        Raises:
            Unauthenticated, Forbidden: the caller may not add rows.
            InvalidValue: the row names another owner.
        """
        if self._owns():
            (values[OWNER_COLUMN],) = self._owners([values.get(OWNER_COLUMN)])

    def own_all(self, columns: dict[str, list[Any]]) -> None:
        """Set the owners of new rows, which come as a list of values for each column.

        Raises:
            Unauthenticated, Forbidden: the caller may not add rows.
            InvalidValue: a row names another owner.
        """
        if self._owns():
            columns[OWNER_COLUMN] = self._owners(columns[OWNER_COLUMN])

    def _owns(self) -> bool:
        """Return whether the caller's new rows get their owner here."""
        caller, owner = self._caller, self.info.owner
        if caller.role == "service_role":
            return False
        self.check_writes()
        if not (self._by_database or self.may_add):
            self.deny()
        if owner is None:
            return False
        if caller.user_id is None and not owner.nullable:
            raise Unauthenticated
        return True

    def _owners(self, values: Sequence[Any]) -> list[Any]:
        caller, rule = self._caller, self.info.access.declared.change.old
        owners = [caller.user_id if value is None or value is ABSENT else value for value in values]
        if not (Who.ADMIN in callers_of(rule) and caller.is_admin):
            for owner in owners:
                if owner != caller.user_id:
                    raise InvalidValue("owner_id is set by the server", field=OWNER_COLUMN)
        return owners

    def deny(self) -> NoReturn:
        """Raise Unauthenticated for anonymous callers, Forbidden for others."""
        if self._caller.user_id is None:
            raise Unauthenticated
        raise Forbidden(f"You may not write {self.info.model.__name__}")

    def _alive(self) -> ColumnElement[bool] | None:
        if self._deleted_at is None or self.with_deleted:
            return None
        return self._deleted_at.is_(None)

    def _admitted(self, rule: Rule) -> ColumnElement[bool] | None:
        if self._by_database or self._static(rule):
            return None
        if Who.OWNER in callers_of(rule) and self._caller.user_id is not None:
            assert self._owner is not None
            return self._owner == bindparam(CALLER, self._caller.user_id, Uuid())
        return false()

    def _is_granted(self, rule: Rule) -> bool:
        return Who.EVERYONE in callers_of(rule) or (
            self._caller.user_id is not None and bool(callers_of(rule))
        )

    def _static(self, rule: Rule) -> bool:
        """Return whether the rule admits the caller for every row."""
        caller = self._caller
        return (
            Who.EVERYONE in callers_of(rule)
            or (Who.AUTHENTICATED in callers_of(rule) and caller.user_id is not None)
            or (Who.ADMIN in callers_of(rule) and caller.user_id is not None and caller.is_admin)
        )


def _all(*conditions: ColumnElement[bool] | None) -> ColumnElement[bool] | None:
    present = [condition for condition in conditions if condition is not None]
    return and_(*present) if present else None
