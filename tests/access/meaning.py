"""What a declaration of access means, in plain Python: it shares no code with the backends.

A rule is a small tree of its own, of which `build` in `cases.py` makes a rule of Amphibase.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """everyone, authenticated, owner, admin or service."""

    name: str


@dataclass(frozen=True)
class In:
    """A scope: the caller's memberships, of some roles or of any."""

    roles: tuple[str, ...] | None


@dataclass(frozen=True)
class Via:
    """The rule of the one related row."""

    operation: str


@dataclass(frozen=True)
class Test:
    """A comparison of a column: with a constant, another column or a value of the caller."""

    __test__ = False
    column: str
    operator: str
    operand: Any


@dataclass(frozen=True)
class Some:
    """A related row that the caller may read: the team, or a membership of the caller's in it."""

    what: str
    role: str = ""


@dataclass(frozen=True)
class Not:
    part: Any


@dataclass(frozen=True)
class Both:
    left: Any
    right: Any
    within: str
    """`rule` or `expression`: where the operator stands."""


@dataclass(frozen=True)
class Either:
    left: Any
    right: Any
    within: str


@dataclass(frozen=True)
class Expression:
    """`rule(lambda row: …)`."""

    part: Any


@dataclass(frozen=True)
class Declared:
    """The access of a model.

    Args:
        visible: whether a new row must be readable.
        new: the rule of a row after a change; None for that of before.
    """

    read: Any
    add: Any
    visible: bool
    change: Any
    new: Any
    delete: Any


@dataclass(frozen=True)
class Who:
    """A caller."""

    id: UUID | None
    admin: bool = False
    plan: str | None = None
    email: str | None = None


@dataclass(frozen=True)
class World:
    """All rows, and what is declared for their models."""

    rows: Mapping[str, list[dict[str, Any]]]
    declared: Mapping[str, Declared]

    def exists(self, model: str, row: Row, who: Who) -> bool:
        """Return whether a row is there for a caller, which others may then refer to."""
        return row.get("deleted_at") is None and self.readable(model, row, who)

    def readable(self, model: str, row: Row, who: Who) -> bool:
        return self.holds(self.declared[model].read, model, row, who)

    def addable(self, model: str, row: Row, who: Who) -> bool:
        declared = self.declared[model]
        if row.get("owner_id") != who.id and not (who.admin and names_admin(declared.add)):
            return False
        return self.holds(declared.add, model, row, who) and (
            not declared.visible or self.readable(model, row, who)
        )

    def changeable(self, model: str, row: Row, who: Who) -> bool:
        return self.readable(model, row, who) and self.holds(
            self.declared[model].change, model, row, who
        )

    def leavable(self, model: str, row: Row, who: Who) -> bool:
        return self.readable(model, row, who) and self.left(model, row, who)

    def left(self, model: str, row: Row, who: Who) -> bool:
        """Return whether the rule of a row after a change admits a caller."""
        declared = self.declared[model]
        rule = declared.change if declared.new is None else declared.new
        return self.holds(rule, model, row, who)

    def deletable(self, model: str, row: Row, who: Who) -> bool:
        return self.readable(model, row, who) and self.holds(
            self.declared[model].delete, model, row, who
        )

    def holds(self, rule: Any, model: str, row: Row, who: Who) -> bool:
        """Return whether a rule admits a caller to a row."""
        match rule:
            case Kind("everyone"):
                return True
            case Kind("authenticated"):
                return who.id is not None
            case Kind("admin"):
                return who.admin
            case Kind("owner"):
                return who.id is not None and row["owner_id"] == who.id
            case Kind():
                return False
            case Both(left, right):
                return self.holds(left, model, row, who) and self.holds(right, model, row, who)
            case Either(left, right):
                return self.holds(left, model, row, who) or self.holds(right, model, row, who)
            case In(roles):
                return any(
                    member["team_id"] == row[team_of(model)]
                    for member in self.memberships(who)
                    if roles is None or member["role"] in roles
                )
            case Via(operation):
                there, related = related_to(model, row)
                return any(
                    self.may(operation, there, each, who)
                    for each in self.rows[there]
                    if each["id"] == related and each.get("deleted_at") is None
                )
            case Expression(part):
                return self.value(part, model, row, who) is True
        raise AssertionError(rule)

    def may(self, operation: str, model: str, row: Row, who: Who) -> bool:
        check = {"read": self.readable, "change": self.changeable, "delete": self.deletable}
        return check[operation](model, row, who)

    def memberships(self, who: Who) -> list[dict[str, Any]]:
        return [
            each
            for each in self.rows["Member"]
            if who.id is not None and each["user_id"] == who.id and each["deleted_at"] is None
        ]

    def value(self, part: Any, model: str, row: Row, who: Who) -> bool | None:
        """Return the value of an expression: true, false or unknown, as SQL has it."""
        match part:
            case Not(inner):
                value = self.value(inner, model, row, who)
                return None if value is None else not value
            case Both(left, right):
                values = [self.value(each, model, row, who) for each in (left, right)]
                return False if False in values else None if None in values else True
            case Either(left, right):
                values = [self.value(each, model, row, who) for each in (left, right)]
                return True if True in values else None if None in values else False
            case Some("team"):
                return any(
                    each["id"] == row["team_id"]
                    and each["plan"] == "gold"
                    and self.readable("Team", each, who)
                    for each in self.rows["Team"]
                )
            case Some("member", role):
                return any(
                    each["team_id"] == row["team_id"]
                    and each["role"] == role
                    and self.readable("Member", each, who)
                    for each in self.memberships(who)
                )
            case Test(column, operator, operand):
                there = row[operand.column] if isinstance(operand, Test) else operand
                if operand in ("me.id", "me.email", "me.plan"):
                    there = {"me.id": who.id, "me.email": who.email, "me.plan": who.plan}[operand]
                return compared(row[column], operator, there)
        raise AssertionError(part)


def compared(value: Any, operator: str, other: Any) -> bool | None:
    if operator == "is null":
        return value is None
    if value is None or other is None:
        return None
    if operator == "in":
        return value in other
    if operator == "is true":
        return bool(value)
    if operator == "<":
        return bool(value < other)
    return bool((value == other) == (operator == "=="))


def team_of(model: str) -> str:
    return "id" if model == "Team" else "team_id"


def related_to(model: str, row: Row) -> tuple[str, Any]:
    return ("Team", row["team_id"]) if model == "Item" else ("Item", row["item_id"])


def names_admin(rule: Any) -> bool:
    """Return whether `admin` stands in a rule."""
    match rule:
        case Kind(name):
            return name == "admin"
        case Both(left, right) | Either(left, right):
            return names_admin(left) or names_admin(right)
    return False
