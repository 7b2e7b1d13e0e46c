"""Declarations that Hypothesis makes, the models that they are for, and the rows."""

import random
from collections import Counter
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast
from uuid import UUID

from hypothesis import strategies as st
from sqlalchemy import ForeignKey, MetaData, exists
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship, remote
from tests.access.meaning import (
    Both,
    Declared,
    Either,
    Expression,
    In,
    Kind,
    Not,
    Some,
    Test,
    Via,
    Who,
)

from amphibase import Base, Caller
from amphibase.access import (
    Access,
    Add,
    Change,
    Operation,
    Rule,
    Scope,
    admin,
    authenticated,
    everyone,
    me,
    memberships,
    owner,
    rule,
    service,
    through,
)
from amphibase.models import SoftDelete
from amphibase.search import search_index

DELETED = datetime(2026, 1, 1, tzinfo=UTC)
TEAMS, ROLES, PLANS = range(1, 5), ("lead", "guest"), ("gold", "free")


class Proof(DeclarativeBase):
    """Beside the application's models. Few foreign keys: a row may lead to none."""

    metadata = MetaData()
    type_annotation_map = Base.type_annotation_map


class Team(Proof):
    __tablename__ = "proof_teams"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    plan: Mapped[str | None]
    number: Mapped[int | None]


class Member(SoftDelete, Proof):
    __tablename__ = "proof_members"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    team_id: Mapped[int]
    user_id: Mapped[UUID]
    role: Mapped[str]


class Item(SoftDelete, Proof):
    __tablename__ = "proof_items"
    __table_args__ = (search_index("ix_proof_items_search", "plan"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner_id: Mapped[UUID | None]
    team_id: Mapped[int | None]
    plan: Mapped[str | None]
    number: Mapped[int | None]
    other: Mapped[int | None]
    published: Mapped[bool | None]
    team: Mapped[Team | None] = relationship(
        primaryjoin=lambda: foreign(Item.team_id) == remote(Team.id), viewonly=True
    )


class Note(Proof):
    __tablename__ = "proof_notes"
    __table_args__ = (search_index("ix_proof_notes_search", "plan"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner_id: Mapped[UUID]
    item_id: Mapped[int | None]
    plan: Mapped[str | None]
    number: Mapped[int | None]
    item: Mapped[Item | None] = relationship(
        primaryjoin=lambda: foreign(Note.item_id) == remote(Item.id), viewonly=True
    )


class Label(Proof):
    """Everyone's, on an item that they see; there are none before a case."""

    __tablename__ = "proof_labels"
    __access__ = Access(read=everyone, write=everyone)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    item_id: Mapped[int | None] = mapped_column(
        ForeignKey("proof_items.id"), info={"references": "visible"}
    )


MODELS: dict[str, type[Any]] = {each.__name__: each for each in (Team, Member, Item, Note, Label)}

PEOPLE = {
    "ann": Who(UUID(int=1), email="ann@example.com", plan="gold"),
    "bob": Who(UUID(int=2), plan="free"),
    "eve": Who(UUID(int=3)),
    "admin": Who(UUID(int=4), admin=True),
    "anonymous": Who(None),
}


def caller(who: Who) -> Caller:
    """The same caller to a backend."""
    if who.id is None:
        return Caller("anon")
    metadata = {"plan": who.plan, "role": "admin" if who.admin else "user"}
    metadata = {name: value for name, value in metadata.items() if value is not None}
    email = {} if who.email is None else {"email": who.email}
    return Caller("authenticated", who.id, claims={"app_metadata": metadata, **email})


def rows() -> dict[str, list[dict[str, Any]]]:
    """Make the rows that every case is tried on: all that columns can hold, in many mixtures."""
    chance = random.Random(14)
    users = [who.id for who in PEOPLE.values() if who.id]
    teams = [
        {"id": id, "plan": chance.choice((*PLANS, None)), "number": chance.choice((1, 2, None))}
        for id in TEAMS
    ]
    members = [
        {
            "id": id,
            "team_id": chance.choice(TEAMS),
            "user_id": chance.choice(users),
            "role": chance.choice(ROLES),
            "deleted_at": chance.choice((None, None, DELETED)),
        }
        for id in range(1, 13)
    ]
    items = [
        {
            "id": id,
            "owner_id": chance.choice((*users, None)),
            "team_id": chance.choice((*TEAMS, 9, None)),
            "plan": chance.choice((*PLANS, "ann@example.com", None)),
            "number": chance.choice((1, 2, 3, None)),
            "other": chance.choice((1, 2, None)),
            "published": chance.choice((True, False, None)),
            "deleted_at": chance.choice((None, None, None, DELETED)),
        }
        for id in range(1, 41)
    ]
    notes = [
        {
            "id": id,
            "owner_id": chance.choice(users),
            "item_id": chance.choice((*range(1, 41), 99, None)),
            "plan": chance.choice((*PLANS, None)),
            "number": chance.choice((1, 2, None)),
        }
        for id in range(1, 41)
    ]
    return {"Team": teams, "Member": members, "Item": items, "Note": notes, "Label": []}


# Declarations

COLUMNS = {
    "Team": ("plan", "number"),
    "Member": ("role",),
    "Item": ("plan", "number", "published"),
    "Note": ("plan", "number"),
}


def tests(model: str) -> st.SearchStrategy[Any]:
    """Make comparisons of a model's columns."""
    more: list[st.SearchStrategy[Any]]
    texts = st.sampled_from([Test("plan", "==", each) for each in (*PLANS, "me.plan", "me.email")])
    numbers = st.builds(
        Test, st.just("number"), st.sampled_from(["==", "!=", "<"]), st.integers(1, 3)
    )
    more = [st.just(Test("number", "is null", None)), st.just(Test("number", "in", (1, 3)))]
    if model == "Item":
        more += [
            st.just(Test("published", "is true", True)),
            st.just(Test("number", "<", Test("other", "", None))),
            st.just(Test("owner_id", "==", "me.id")),
            st.just(Some("team")),
            st.sampled_from([Some("member", role) for role in ROLES]),
        ]
    return st.one_of(texts, numbers, *more)


def expressions(model: str) -> st.SearchStrategy[Any]:
    """Make `rule(lambda row: …)`."""
    within = st.just("expression")
    parts = st.recursive(
        tests(model),
        lambda part: st.one_of(
            st.builds(Not, part),
            st.builds(Both, part, part, within),
            st.builds(Either, part, part, within),
        ),
        max_leaves=4,
    )
    return st.builds(Expression, parts)


@cache
def rules(model: str) -> st.SearchStrategy[Any]:
    """Make rules of a model."""
    kinds = ["everyone", "authenticated", "admin", "service"]
    if model in ("Item", "Note"):
        kinds += ["owner", "owner"]
    leaves = [st.sampled_from(kinds).map(Kind), expressions(model)]
    if model != "Note":
        leaves.append(st.sampled_from([None, ROLES, ROLES[:1]]).map(In))
    if model == "Item":
        leaves.append(st.just(Via("read")))
    if model == "Note":
        leaves += [st.sampled_from(["read", "change", "delete"]).map(Via)] * 2
    within = st.just("rule")
    return st.recursive(
        st.one_of(*leaves),
        lambda part: st.one_of(
            st.builds(Both, part, part, within), st.builds(Either, part, part, within)
        ),
        max_leaves=5,
    )


@cache
def simple_rules(model: str) -> st.SearchStrategy[Any]:
    leaves = [st.sampled_from(["everyone", "authenticated", "service"]).map(Kind)]
    return st.one_of(*leaves, st.just(In(None)), st.just(In(ROLES[:1])))


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, Declared]:
    """Make the access of all models."""
    none = Kind("service")
    declared = {
        "Team": Declared(draw(rules("Team")), none, True, none, None, none),
        "Member": Declared(draw(simple_rules("Member")), none, True, none, None, none),
    }
    alone = {"Item": st.just(Kind("owner")), "Note": st.sampled_from([Via("read"), Via("change")])}
    for model in ("Item", "Note"):
        made = st.one_of(rules(model), rules(model), rules(model), alone[model])
        new = draw(st.one_of(st.none(), made))
        visible = draw(st.sampled_from([True, True, False]))
        declared[model] = Declared(draw(made), draw(made), visible, draw(made), new, draw(made))
    return declared


# The same for Amphibase

mine = memberships(Member.team_id, of=Member.user_id)
SCOPES: dict[Any, Scope] = {
    None: mine,
    ROLES: mine.where(Member.role.in_(ROLES)),
    ROLES[:1]: mine.where(Member.role == ROLES[0]),
}
KINDS = {
    "everyone": everyone,
    "authenticated": authenticated,
    "admin": admin,
    "owner": owner,
    "service": service,
}


def build(tree: Any, model: str) -> Rule:
    """Make a rule of Amphibase."""
    match tree:
        case Kind(name):
            return KINDS[name]
        case Both(left, right):
            return build(left, model) & build(right, model)
        case Either(left, right):
            return build(left, model) | build(right, model)
        case In(roles):
            return SCOPES[roles].has("id" if model == "Team" else "team_id")
        case Via(operation):
            return through("team" if model == "Item" else "item", cast(Operation, operation))
        case Expression(part):
            return rule(lambda row: expression(part, row))
    raise AssertionError(tree)


def expression(part: Any, row: Any) -> Any:
    match part:
        case Not(inner):
            return ~expression(inner, row)
        case Both(left, right):
            return expression(left, row) & expression(right, row)
        case Either(left, right):
            return expression(left, row) | expression(right, row)
        case Some("team"):
            return row.team.has(Team.plan == "gold")
        case Some("member", role):
            same = Member.team_id == row.team_id
            return exists().where(same, Member.user_id == me.id, Member.role == role)
        case Test(name, "is null"):
            return getattr(row, name).is_(None)
        case Test(name, "is true"):
            return getattr(row, name) == True  # noqa: E712 - an expression
        case Test(name, "in", values):
            return getattr(row, name).in_(values)
        case Test(name, operator, operand):
            column = getattr(row, name)
            values = {
                "me.id": me.id,
                "me.email": me.email,
                "me.plan": me.claim("app_metadata", "plan"),
            }
            there = getattr(row, operand.column) if isinstance(operand, Test) else operand
            there = values.get(operand, there) if isinstance(operand, str) else there
            return {"==": column == there, "!=": column != there, "<": column < there}[operator]
    raise AssertionError(part)


def declare(declared: dict[str, Declared]) -> None:
    """Give the models their access."""
    for name, each in declared.items():
        new = None if each.new is None else build(each.new, name)
        MODELS[name].__access__ = Access(
            read=build(each.read, name),
            add=Add(build(each.add, name), visible=each.visible),
            change=Change(build(each.change, name), new),
            delete=build(each.delete, name),
        )


# What was tried

HISTOGRAM: Counter[str] = Counter()
"""In how many cases each is."""

OPERATORS = [
    *KINDS,
    *("scope", "scope of roles", "through read", "through change", "through delete"),
    *("rule", "& in rule", "| in rule", "& in expression", "| in expression", "~"),
    *("==", "!=", "<", "in", "is null", "is true", "me.id", "me.email", "me.plan"),
    *("has team", "has member"),
]
DEEP = [f"{operation} of depth 2 or more" for operation in ("read", "add", "change", "delete")]
EXPECTED = [*OPERATORS, *DEEP, "new rows that are not seen", "a rule of its own after a change"]
"""What many cases have to have."""


def count(declared: dict[str, Declared]) -> None:
    """Count a case for each thing that it is made of."""
    made_of = {"cases"}
    for model in ("Item", "Note"):
        each = declared[model]
        if not each.visible:
            made_of.add("new rows that are not seen")
        if each.new is not None:
            made_of.add("a rule of its own after a change")
        for operation in ("read", "add", "change", "delete"):
            tree = getattr(each, operation)
            made_of |= {*parts(tree), f"{operation} of depth {min(depth(tree), 2)} or more"}
            made_of |= {f"{operation}: {part}" for part in parts(tree)}
    HISTOGRAM.update(made_of)


def depth(tree: Any) -> int:
    match tree:
        case Both(left, right) | Either(left, right):
            return 1 + max(depth(left), depth(right))
        case Not(part) | Expression(part):
            return 1 + depth(part)
    return 1


def parts(tree: Any) -> list[str]:
    match tree:
        case Both(left, right, within):
            return [f"& in {within}", *parts(left), *parts(right)]
        case Either(left, right, within):
            return [f"| in {within}", *parts(left), *parts(right)]
        case Not(part):
            return ["~", *parts(part)]
        case Expression(part):
            return ["rule", *parts(part)]
        case Kind(name):
            return [name]
        case In(roles):
            return ["scope" if roles is None else "scope of roles"]
        case Via(operation):
            return [f"through {operation}"]
        case Some(what):
            return [f"has {what}"]
        case Test(_, operator, operand):
            return [operand if isinstance(operand, str) and "me." in operand else operator]
    raise AssertionError(tree)
