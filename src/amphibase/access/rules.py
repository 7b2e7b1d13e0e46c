"""What a model declares: rules, and the operations that they are for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import ColumnElement

OWNER_COLUMN = "owner_id"

Operation = Literal["read", "add", "change", "delete"]
OPERATIONS: tuple[Operation, ...] = ("read", "add", "change", "delete")


class Who(StrEnum):
    """A kind of caller, which needs no look at anything but the token and the row's owner."""

    EVERYONE = "everyone"
    AUTHENTICATED = "authenticated"
    OWNER = "owner"
    ADMIN = "admin"
    SERVICE = "service"


class Rule:
    """Which callers an operation on a row is for, beside the service.

    `a | b` admits whom either rule admits, `a & b` whom both do; `&` binds more tightly.
    """

    def __or__(self, other: "Rule") -> "Rule":
        return OrRule((*_parts(OrRule, self), *_parts(OrRule, other)))

    def __and__(self, other: "Rule") -> "Rule":
        return AndRule((*_parts(AndRule, self), *_parts(AndRule, other)))

    def walk(self) -> Iterator["Rule"]:
        """Yield this rule and every rule that it is made of."""
        yield self


@dataclass(frozen=True, slots=True)
class CallerRule(Rule):
    """Admits a kind of caller."""

    who: Who

    def __str__(self) -> str:
        return self.who


@dataclass(frozen=True, slots=True)
class ThroughRule(Rule):
    """Admits whom the rule of the related row admits."""

    relationship: str
    operation: Operation

    def __str__(self) -> str:
        operation = "" if self.operation == "read" else f', "{self.operation}"'
        return f'through("{self.relationship}"{operation})'


@dataclass(frozen=True, slots=True)
class ExpressionRule(Rule):
    """Admits callers for whom an expression over the row's columns is true."""

    build: Callable[[Any], ColumnElement[bool]]

    def __str__(self) -> str:
        code = self.build.__code__
        if self.build.__name__ == "<lambda>":
            return f"rule(<lambda at {Path(code.co_filename).name}:{code.co_firstlineno}>)"
        return f"rule({self.build.__name__})"


@dataclass(frozen=True, slots=True)
class OrRule(Rule):
    """Admits whom any of its parts admits."""

    parts: tuple[Rule, ...]

    def walk(self) -> Iterator[Rule]:
        yield self
        for part in self.parts:
            yield from part.walk()

    def __str__(self) -> str:
        return " | ".join(map(str, self.parts))


@dataclass(frozen=True, slots=True)
class AndRule(Rule):
    """Admits whom all of its parts admit."""

    parts: tuple[Rule, ...]

    def walk(self) -> Iterator[Rule]:
        yield self
        for part in self.parts:
            yield from part.walk()

    def __str__(self) -> str:
        return " & ".join(
            f"({part})" if isinstance(part, OrRule) else str(part) for part in self.parts
        )


everyone: Rule = CallerRule(Who.EVERYONE)
"""All callers, signed in or not."""
authenticated: Rule = CallerRule(Who.AUTHENTICATED)
"""Signed-in callers."""
owner: Rule = CallerRule(Who.OWNER)
"""The user whose id is the row's `owner_id`."""
admin: Rule = CallerRule(Who.ADMIN)
"""Users whose token says `app_metadata.role == "admin"`."""
service: Rule = CallerRule(Who.SERVICE)
"""The service only: jobs, scripts, the server's own code."""


def through(relationship: str, operation: Operation = "read") -> Rule:
    """Admit whom the related row's own rule admits.

    Args:
        relationship: the name of a relationship to one row. A row without a related row admits
            nobody, and so does one whose related row is softly deleted.
        operation: what the caller must be allowed to do with the related row, which they must see,
            too. The rule of `change` is that of the related row as it is (`Change.old`).

    Raises:
        ValueError: there is no such operation, or it is `add`, which is about new rows.
    """
    if operation not in OPERATIONS or operation == "add":
        raise ValueError(f"through: read, change or delete was expected, not {operation!r}")
    return ThroughRule(relationship, operation)


def rule(build: Callable[[Any], ColumnElement[bool]]) -> Rule:
    """Admit callers for whom an SQLAlchemy expression is true.

    Args:
        build: gets the model, returns the expression: over the row's own columns, the caller
            (`me`), and rows of other models by `exists`, `has()` or `any()`. Rows that the caller
            may not read, and those softly deleted, do not exist there.

    Example:
        `rule(lambda row: row.published & (row.plan == me.claim("app_metadata", "plan")))`
    """
    return ExpressionRule(build)


@dataclass(frozen=True, slots=True)
class Add:
    """Whom new rows are for.

    Args:
        new: the rule of a new row.
        visible: whether the caller must also see the new row, which keeps callers from placing rows
            where others alone see them. False makes a drop box, such as a contact form.
    """

    new: Rule
    visible: bool = True

    def __str__(self) -> str:
        return str(self.new) if self.visible else f"Add({self.new}, visible=False)"


@dataclass(frozen=True, slots=True)
class Change:
    """Whom changes of a row are for.

    Args:
        old: the rule of the row before the change; the caller must also see it.
        new: the rule of the row after the change, `old` by default; the caller must also see it.
    """

    old: Rule
    new: Rule | None = None

    def __str__(self) -> str:
        return str(self.old) if self.new is None else f"Change(old={self.old}, new={self.new})"


@dataclass(frozen=True, slots=True, init=False)
class Access:
    """A model's declaration, as its `__access__`; the service may do everything.

    Args:
        read: whose the rows are to see.
        write: short for `add`, `change` and `delete`.
        add: who may add a row, which they must also see; see `Add`.
        change: who may change a row that they see, before and after the change.
        delete: who may delete a row that they see; for a model with `SoftDelete`, also who may
            delete it softly and restore it.

    Raises:
        TypeError: `write` beside what it is short for, or something that is no rule.
    """

    read: Rule
    add: Add
    change: Change
    delete: Rule

    def __init__(
        self,
        read: Rule = service,
        write: Rule | None = None,
        *,
        add: Rule | Add | None = None,
        change: Rule | Change | None = None,
        delete: Rule | None = None,
    ) -> None:
        if write is not None:
            both = [name for name, rule in _named(add, change, delete) if rule is not None]
            if both:
                raise TypeError(f"Access: write is short for add, change and delete; {both[0]} too")
            add = change = delete = write
        for name, value in (("read", read), *_named(add, change, delete)):
            classes = {"add": (Rule, Add), "change": (Rule, Change)}.get(name, Rule)
            if not isinstance(value, classes) and value is not None:
                raise TypeError(f"Access: {name} must be a rule, such as owner, not {value!r}")
        add, change = add or service, change or service
        object.__setattr__(self, "read", read)
        object.__setattr__(self, "add", add if isinstance(add, Add) else Add(add))
        object.__setattr__(self, "change", change if isinstance(change, Change) else Change(change))
        object.__setattr__(self, "delete", delete or service)

    def __str__(self) -> str:
        writes = [(name, str(value)) for name, value in _named(self.add, self.change, self.delete)]
        if len({text for _, text in writes}) == 1:
            return f"read: {self.read}; write: {writes[0][1]}"
        return "; ".join([f"read: {self.read}", *(f"{name}: {text}" for name, text in writes)])

    def rules(self) -> Iterator[tuple[str, Rule]]:
        """Yield the rule of each operation, with the operation's name."""
        yield "read", self.read
        yield "add", self.add.new
        yield "change", self.change.old
        if self.change.new is not None:
            yield "change", self.change.new
        yield "delete", self.delete


def _parts(kind: type[OrRule | AndRule], rule: Rule) -> tuple[Rule, ...]:
    if not isinstance(rule, Rule):
        raise TypeError(f"A rule was expected beside | or &, not {rule!r}")
    return rule.parts if isinstance(rule, kind) else (rule,)


def _named(add: Any, change: Any, delete: Any) -> tuple[tuple[str, Any], ...]:
    return ("add", add), ("change", change), ("delete", delete)


SERVER_ONLY = Access()
"""What a model gets that declares nothing."""


def declaration_of(model: type[Any]) -> Access:
    """Return what a class declares, which may not be mapped yet.

    Raises:
        TypeError: its `__access__` is no Access.
    """
    access = getattr(model, "__access__", SERVER_ONLY)
    if not isinstance(access, Access):
        raise TypeError(f"{model.__name__}.__access__ must be an Access, as in Access(read=owner)")
    return access
