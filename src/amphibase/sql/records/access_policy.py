"""Access as a predicate: which rows of a model a caller may see and change."""

from collections.abc import Sequence
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, Uuid, and_, bindparam, false

from amphibase.access import OWNER_COLUMN, Rule, Who
from amphibase.backend import Caller
from amphibase.errors import Forbidden, InvalidValue, Unauthenticated
from amphibase.sql.records.model_info import ABSENT, ModelInfo

CALLER = "caller"
"""The name of the parameter that holds the caller's id."""


class AccessPolicy:
    """What one caller may do with the rows of one model.

    Args:
        by_database: whether policies of the database decide; then nothing is added to statements.
        with_deleted: whether rows that were deleted softly are there.
    """

    def __init__(
        self, info: ModelInfo[Any], caller: Caller, *, by_database: bool, with_deleted: bool
    ) -> None:
        self._info = info
        self._caller = caller
        self._by_database = by_database or caller.role == "service_role"
        self.with_deleted = with_deleted

    @property
    def readable(self) -> ColumnElement[bool] | None:
        """The rows that the caller may see; None where that is every row."""
        return _all(self._alive(), self._admitted(self._info.access.read))

    @property
    def kind(self) -> tuple[bool, bool, bool]:
        """What `readable` depends on beside the caller's id."""
        rule = self._info.access.read
        decided = self._by_database or self._static(rule)
        return self.with_deleted, decided, self._caller.user_id is not None

    @property
    def writable(self) -> ColumnElement[bool] | None:
        """The rows that the caller may change: those that they also see."""
        access = self._info.access
        return _all(self._alive(), self._admitted(access.read), self._admitted(access.write))

    @property
    def may_write(self) -> bool:
        """Whether the declaration lets such a caller write rows at all, as GRANT decides it."""
        admits = self._info.access.write.admits
        return Who.EVERYONE in admits or (self._caller.user_id is not None and bool(admits))

    @property
    def may_add(self) -> bool:
        """Whether the declaration lets the caller add a row of their own."""
        rule = self._info.access.write
        owns = Who.OWNER in rule.admits and self._caller.user_id is not None
        return self._static(rule) or owns

    def sees(self, values: dict[str, Any]) -> bool:
        """Whether the caller may see a row with these values, once it is there."""
        rule = self._info.access.read
        if self._caller.role == "service_role" or self._static(rule):
            return True
        own = self._caller.user_id is not None and values.get(OWNER_COLUMN) == self._caller.user_id
        return Who.OWNER in rule.admits and own

    def check_writes(self) -> None:
        """Whether the caller may write rows of the model at all, as GRANT decides it.

        Raises:
            Unauthenticated, Forbidden: no.
        """
        if not (self._by_database or self.may_write):
            self.refuse()

    def own(self, values: dict[str, Any]) -> None:
        """Say whose a new row is.

        Raises:
            Unauthenticated, Forbidden: the caller may not add rows.
            InvalidValue: the row names another owner.
        """
        if self._owns():
            (values[OWNER_COLUMN],) = self._owners([values.get(OWNER_COLUMN)])

    def own_all(self, columns: dict[str, list[Any]]) -> None:
        """Say whose new rows are, of which there is a list of values a column.

        Raises:
            Unauthenticated, Forbidden: the caller may not add rows.
            InvalidValue: a row names another owner.
        """
        if self._owns():
            columns[OWNER_COLUMN] = self._owners(columns[OWNER_COLUMN])

    def _owns(self) -> bool:
        """Whether it is decided here whose the caller's new rows are."""
        caller, owner = self._caller, self._info.owner
        if caller.role == "service_role":
            return False
        self.check_writes()
        if not (self._by_database or self.may_add):
            self.refuse()
        if owner is None:
            return False
        if caller.user_id is None and not owner.nullable:
            raise Unauthenticated
        return caller.user_id is not None

    def _owners(self, given: Sequence[Any]) -> list[Any]:
        caller, rule = self._caller, self._info.access.write
        owners = [caller.user_id if each is None or each is ABSENT else each for each in given]
        if not (Who.ADMIN in rule.admits and caller.is_admin):
            for owner in owners:
                if owner != caller.user_id:
                    raise InvalidValue("owner_id is set by the server", field=OWNER_COLUMN)
        return owners

    def refuse(self) -> NoReturn:
        """Raises Unauthenticated for anonymous callers, Forbidden for others."""
        if self._caller.user_id is None:
            raise Unauthenticated
        raise Forbidden(f"You may not write {self._info.model.__name__}")

    def _alive(self) -> ColumnElement[bool] | None:
        if self._info.deleted_at is None or self.with_deleted:
            return None
        return self._info.deleted_at.is_(None)

    def _admitted(self, rule: Rule) -> ColumnElement[bool] | None:
        if self._by_database or self._static(rule):
            return None
        if Who.OWNER in rule.admits and self._caller.user_id is not None:
            assert self._info.owner is not None
            return self._info.owner == bindparam(CALLER, self._caller.user_id, Uuid())
        return false()

    def _static(self, rule: Rule) -> bool:
        """Whether the rule admits the caller whatever the row."""
        caller = self._caller
        return (
            Who.EVERYONE in rule.admits
            or (Who.AUTHENTICATED in rule.admits and caller.user_id is not None)
            or (Who.ADMIN in rule.admits and caller.user_id is not None and caller.is_admin)
        )


def _all(*conditions: ColumnElement[bool] | None) -> ColumnElement[bool] | None:
    found = [condition for condition in conditions if condition is not None]
    return and_(*found) if found else None
