"""Access for one caller: which operations on a model's rows they may try, and on which rows."""

from collections.abc import Callable, Container, Sequence
from typing import Any, Literal, NoReturn
from uuid import UUID

from amphibase.access import OWNER_COLUMN
from amphibase.access.conditions import Always, Condition, IsAlive, Never, RefersTo, all_of, any_of
from amphibase.backend import ANONYMOUS, Caller
from amphibase.errors import Forbidden, InvalidValue, Unauthenticated
from amphibase.records.model_info import ABSENT, ModelInfo
from amphibase.records.predicates import fold

Write = Literal["add", "change", "delete"]

_ADMIN = Caller("authenticated", UUID(int=0), claims={"app_metadata": {"role": "admin"}})


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
        self.caller = caller
        self._is_service = caller.role == "service_role"
        self._by_database = by_database or self._is_service
        self.with_deleted = with_deleted

    @property
    def kind(self) -> tuple[bool, ...]:
        """What the predicates of any model depend on beside the caller's values."""
        caller = self.caller
        signed_in = caller.user_id is not None
        return (
            self.with_deleted,
            self._by_database,
            self._is_service,
            signed_in,
            signed_in and caller.is_admin,
        )

    # Conditions of rows, as a statement has to state them

    @property
    def readable(self) -> Condition:
        """Of rows that the caller may see."""
        return self._stated("read", lambda access: access.read)

    @property
    def changeable(self) -> Condition:
        """Of rows that the caller may change, as they are."""
        return self._stated("change", lambda access: access.change_old)

    @property
    def changed(self) -> Condition:
        """Of rows as the caller may leave them."""
        if self._by_database:
            return Always()
        return fold(self.info.access.change_new, self.caller)

    @property
    def deletable(self) -> Condition:
        """Of rows that the caller may delete, softly or not, and restore."""
        return self._stated("delete", lambda access: access.delete)

    def replaceable(self, *, deletes: bool) -> Condition:
        """Return the condition of rows that the caller may put another in the place of: one that
        was deleted softly comes back.

        Args:
            deletes: whether the other is deleted softly itself.
        """
        changeable = self.changeable
        if self.info.deleted_at is None or isinstance(self.deletable, Always):
            return changeable
        if deletes:
            return all_of(changeable, self.deletable)
        return all_of(changeable, any_of(IsAlive(self.info.deleted_at), self.deletable))

    def addable(self, *, own: bool) -> Condition:
        """Return the condition of new rows.

        Args:
            own: whether they are the caller's own.
        """
        if self._by_database:
            return Always()
        return fold(self.info.access.add, self.caller, is_own=own)

    @property
    def references(self) -> tuple[RefersTo, ...]:
        """Of new rows, and of changed ones whose foreign keys change."""
        if self._by_database:
            return ()
        folded = (fold(each, self.caller) for each in self.info.access.references)
        return tuple(each for each in folded if isinstance(each, RefersTo))

    # What is decided without a row

    @property
    def may_select(self) -> bool:
        """Whether the database lets the caller read the table at all, as GRANT decides it."""
        if self._is_service or not self._by_database:
            return True
        cache, key = self.info.cache, ("may select", self.caller.user_id is None)
        if key not in cache:
            cache[key] = self._is_granted(self.info.access.read)
        return bool(cache[key])

    def may(self, operation: Write) -> bool:
        """Return whether such callers may do that with any row at all, as GRANT decides it."""
        access = self.info.access
        conditions = {"add": access.add, "change": access.change_old, "delete": access.delete}
        return self._is_service or self._is_granted(conditions[operation])

    def check(self, *operations: Write) -> None:
        """Check that such callers may do one of the operations with any row at all.

        Raises:
            Unauthenticated, Forbidden: they may not.
        """
        if not any(map(self.may, operations)):
            self.deny()

    def operations(self, changes: Container[Any]) -> Sequence[Write]:
        """Return what a change of columns may be; of the time of a soft deletion, that depends on
        the row."""
        return ["change", "delete"] if self.info.deleted_at in changes else ["change"]

    def sees_new(self, *, own: bool) -> bool:
        """Return whether the caller is known to see new rows, once they are stored.

        Args:
            own: whether they are the caller's own.
        """
        access = self.info.access
        if self._is_service or access.declared.add.visible:
            return True
        return isinstance(fold(access.read, self.caller, is_own=own), Always)

    # New rows

    def own(self, values: dict[str, Any]) -> bool:
        """Set the owner of a new row.

        Returns:
            Whether the row is the caller's own.

        Raises:
            Unauthenticated, Forbidden: the caller may not add rows.
            InvalidValue: the row names another owner.
        """
        owners = self._owners([values.get(OWNER_COLUMN)])
        if owners is None:
            return False
        (values[OWNER_COLUMN],) = owners
        return bool(owners[0] == self.caller.user_id)

    def own_all(self, columns: dict[str, list[Any]]) -> bool:
        """Set the owners of new rows, which come as a list of values for each column.

        Returns:
            Whether all rows are the caller's own.

        Raises:
            Unauthenticated, Forbidden: the caller may not add rows.
            InvalidValue: a row names another owner.
        """
        owners = self._owners(columns.get(OWNER_COLUMN, []))
        if owners is None:
            return False
        columns[OWNER_COLUMN] = owners
        return {*owners} <= {self.caller.user_id}

    def _owners(self, values: Sequence[Any]) -> list[Any] | None:
        """Return the owners of new rows; None where they get none here."""
        caller, column, add = self.caller, self.info.owner, self.info.access.add
        if self._is_service:
            return None
        self.check("add")
        if isinstance(fold(add, caller, is_own=True), Never):
            self.deny()
        if column is None:
            return None
        if caller.user_id is None and not column.nullable:
            raise Unauthenticated
        owners = [caller.user_id if value is None or value is ABSENT else value for value in values]
        if isinstance(fold(add, caller, is_own=False), Never):
            for owner in owners:
                if owner != caller.user_id:
                    raise InvalidValue("owner_id is set by the server", field=OWNER_COLUMN)
        return owners

    def deny(self) -> NoReturn:
        """Raise Unauthenticated for anonymous callers, Forbidden for others."""
        if self.caller.user_id is None:
            raise Unauthenticated
        raise Forbidden(f"You may not write {self.info.model.__name__}")

    def _stated(self, name: str, condition: Callable[[Any], Condition]) -> Condition:
        """Return a condition of rows that are not softly deleted, unless these are visible."""
        cache, key = self.info.cache, ("condition", name, self.kind)
        stated: Condition | None = cache.get(key)
        if stated is None:  # for this kind of caller
            access, caller = self.info.access, self.caller
            declared = Always() if self._by_database else fold(condition(access), caller)
            stated = cache[key] = all_of(self._alive, declared)
        return stated

    @property
    def _alive(self) -> Condition:
        column = self.info.deleted_at
        return Always() if column is None or self.with_deleted else IsAlive(column)

    def _is_granted(self, condition: Condition) -> bool:
        caller = ANONYMOUS if self.caller.user_id is None else _ADMIN
        return not isinstance(fold(condition, caller), Never)
