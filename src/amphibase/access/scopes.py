"""Scopes: the values that the caller's own rows of a table have in a column."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.exc import CompileError

from amphibase.access.caller import replace_caller_values
from amphibase.access.rules import Rule

if TYPE_CHECKING:  # what says who may do what of no model need not import the ORM
    from sqlalchemy.orm import QueryableAttribute


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Scope:
    """The values of a column in the caller's rows of a table, such as their organisations.

    Softly deleted rows do not count. What the caller may read of the table does not matter.

    Args:
        column: whose values are in the scope.
        of: the column of the user's id, by which a row is the caller's.
        conditions: which of the caller's rows count.
    """

    column: "QueryableAttribute[Any]"
    of: "QueryableAttribute[UUID]"
    conditions: tuple[ColumnElement[bool], ...] = ()

    def where(self, *conditions: "ColumnElement[bool] | QueryableAttribute[bool]") -> "Scope":
        """Return the scope of those rows that also match.

        Args:
            conditions: SQLAlchemy expressions over columns of the same table and constants.
        """
        from sqlalchemy.orm import QueryableAttribute

        expressions = [
            each.__clause_element__() if isinstance(each, QueryableAttribute) else each
            for each in conditions
        ]
        return Scope(self.column, self.of, (*self.conditions, *expressions))

    def has(self, column: str) -> Rule:
        """Admit callers in whose scope the value of a column of the row is.

        Args:
            column: the name of the attribute.
        """
        return ScopeRule(self, column)

    @property
    def model(self) -> type[Any]:
        """The class of the memberships."""
        return cast(type[Any], self.column.class_)

    def __str__(self) -> str:
        model = self.model.__name__
        text = f"memberships({model}.{self.column.key}, of={model}.{self.of.key})"
        conditions = ", ".join(map(_text_of, self.conditions))
        return f"{text}.where({conditions})" if conditions else text


@dataclass(frozen=True, slots=True)
class ScopeRule(Rule):
    """Admits callers whose scope has the value of a column of the row."""

    scope: Scope
    column: str

    def __str__(self) -> str:
        return f'{self.scope}.has("{self.column}")'


def memberships(column: "QueryableAttribute[Any]", *, of: "QueryableAttribute[UUID]") -> Scope:
    """Return the scope of a table that says who belongs to what.

    Args:
        column: what the user belongs to, as `Membership.organisation_id`.
        of: the column of the user's id, as `Membership.user_id`.

    Raises:
        TypeError: the two are not columns of one model.
    """
    from sqlalchemy.orm import QueryableAttribute

    for each in (column, of):
        if not isinstance(each, QueryableAttribute):
            raise TypeError(f"memberships: a column of a model was expected, not {each!r}")
    if column.class_ is not of.class_:
        raise TypeError(f"memberships: {column} and {of} are columns of different models")
    return Scope(column, of)


def _text_of(condition: ColumnElement[bool]) -> str:
    named = replace_caller_values(condition, lambda value: literal_column(str(value)))
    try:
        return str(named.compile(compile_kwargs={"literal_binds": True}))
    except CompileError:  # a value that SQL has no plain form of
        return str(named)
