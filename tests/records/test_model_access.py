"""Declarations of access, and what they come to for a model."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    String,
    Text,
    exists,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column, relationship
from tests import models
from tests.models import Folder, Pin

from amphibase.access import (
    Access,
    Add,
    Change,
    Rule,
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
from amphibase.access.conditions import (
    AllOf,
    Always,
    AnyOf,
    HasRelated,
    InScope,
    IsAdmin,
    IsAlive,
    IsOwner,
    IsSignedIn,
    Matches,
    Never,
    implies,
)
from amphibase.models import SoftDelete
from amphibase.records.model_access import access_of


class Models(DeclarativeBase):
    """Beside the application's models."""


class Organisation(Models):
    __tablename__ = "organisations"
    __access__ = Access(read=everyone)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    plan: Mapped[str]


class Membership(SoftDelete, Models):
    __tablename__ = "memberships"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    organisation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"))
    user_id: Mapped[uuid.UUID]
    role: Mapped[str] = mapped_column(String(20))
    is_active: Mapped[bool]
    parent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("memberships.id"))


mine = memberships(Membership.organisation_id, of=Membership.user_id)
agents = mine.where(Membership.role.in_(("agent", "owner")))


class Secret(Models):
    __tablename__ = "secrets"
    __access__ = Access(
        read=rule(lambda row: row.word != ""), delete=rule(lambda row: row.word == me.email)
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(server_default="", info={"read": service})


class Ticket(SoftDelete, Models):
    __tablename__ = "tickets"
    __access__ = Access(
        read=mine.has("organisation_id") | admin,
        add=mine.has("organisation_id"),
        change=agents.has("organisation_id"),
        delete=agents.has("organisation_id"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    organisation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"))
    parent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("tickets.id"))
    title: Mapped[str]
    number: Mapped[int]
    due_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    secret_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("secrets.id"))
    organisation: Mapped[Organisation] = relationship()
    secret: Mapped[Secret | None] = relationship()
    parent: Mapped["Ticket | None"] = relationship(remote_side=[id])
    comments: Mapped[list["Comment"]] = relationship(back_populates="ticket")


class Comment(Models):
    __tablename__ = "comments"
    __access__ = Access(
        read=through("ticket"),
        add=through("ticket"),
        change=owner,
        delete=owner | through("ticket", "delete"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID]
    ticket_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("tickets.id"))
    ticket: Mapped[Ticket] = relationship(back_populates="comments")


OWNER_ID: Column[Any] = Comment.__table__.c.owner_id  # type: ignore[assignment]


def declared(monkeypatch: pytest.MonkeyPatch, model: type[Any], access: Access) -> Any:
    monkeypatch.setattr(model, "__access__", access, raising=False)
    return access_of(model)


def test_a_scope_holds_the_memberships_that_are_alive_and_match() -> None:
    read = access_of(Ticket).read
    assert isinstance(read, AnyOf)
    in_scope, is_admin = read.parts
    assert isinstance(in_scope, InScope)
    assert isinstance(is_admin, IsAdmin)
    assert in_scope.column is Ticket.__table__.c.organisation_id
    assert in_scope.query.user is Membership.__table__.c.user_id
    assert [str(each) for each in in_scope.query.where] == ["memberships.deleted_at IS NULL"]
    change = access_of(Ticket).change_old
    assert isinstance(change, AllOf)
    assert isinstance(change.parts[1], InScope)
    assert "memberships.role IN" in str(change.parts[1].query.where[0])


def test_a_column_that_is_true_or_false_is_a_filter_of_a_scope(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    active = mine.where(Membership.is_active).has("organisation_id")
    read = declared(monkeypatch, Ticket, Access(read=active)).read
    assert isinstance(read, InScope)
    assert str(read.query.where[0]) == "memberships.is_active"


def test_a_related_row_must_be_alive_and_meet_its_own_rule() -> None:
    access = access_of(Comment)
    assert isinstance(access.read, HasRelated)
    assert isinstance(access.read.condition, AllOf)
    assert isinstance(access.read.condition.parts[0], IsAlive)
    assert access.read.condition.parts[1] == access_of(Ticket).read
    assert isinstance(access.delete, AllOf)
    ways = access.delete.parts[1]
    assert isinstance(ways, AnyOf)
    assert isinstance(ways.parts[1], HasRelated)
    assert implies(ways.parts[1].condition, access_of(Ticket).delete)


def test_each_operation_on_an_existing_row_needs_read(monkeypatch: pytest.MonkeyPatch) -> None:
    access = declared(monkeypatch, Comment, Access(read=admin, write=everyone))
    assert access.change_old == access.change_new == access.delete == IsAdmin()
    assert access.add == AllOf((IsAdmin(), IsOwner(OWNER_ID)))


def test_a_new_row_is_its_owners_unless_an_administrator_may_add_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = IsOwner(OWNER_ID)
    for access, expected in [
        (Access(add=everyone, read=everyone), own),
        (Access(add=owner | admin, read=everyone), AnyOf((own, IsAdmin()))),
        (Access(add=admin, read=everyone), IsAdmin()),
        (Access(add=Add(authenticated, visible=False)), own),
        (Access(add=service, read=everyone), Never()),
    ]:
        assert declared(monkeypatch, Comment, access).add == expected


def test_what_is_changed_must_be_readable_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    access = declared(monkeypatch, Comment, Access(read=owner, change=Change(old=everyone)))
    assert access.change_old == access.change_new == IsOwner(OWNER_ID)
    change = Change(old=admin, new=authenticated)
    access = declared(monkeypatch, Comment, Access(read=everyone, change=change))
    assert (access.change_old, access.change_new) == (IsAdmin(), IsSignedIn())


@pytest.mark.parametrize(
    ("combined", "expected"),
    [
        (owner | everyone, Always()),
        (owner & everyone, IsOwner(OWNER_ID)),
        (owner | authenticated, IsSignedIn()),
        (authenticated & (owner | admin), AnyOf((IsOwner(OWNER_ID), IsAdmin()))),
        (owner | service, IsOwner(OWNER_ID)),
        (owner & service, Never()),
        ((owner & admin) | owner, IsOwner(OWNER_ID)),
        (admin & owner & admin, AllOf((IsAdmin(), IsOwner(OWNER_ID)))),
    ],
)
def test_rules_combine_to_the_shortest_condition(
    combined: Rule, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert declared(monkeypatch, Comment, Access(read=combined)).read == expected


def test_two_expressions_are_two_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (rule(lambda row: row.number > 1), rule(lambda row: row.title == "a"))
    for combined, kind in ((first | second, AnyOf), (first & second, AllOf)):
        condition = declared(monkeypatch, Ticket, Access(read=combined)).read
        assert isinstance(condition, kind)
        assert len(condition.parts) == 2
    access = declared(monkeypatch, Ticket, Access(read=first, write=first))
    assert access.read is access.change_old is access.delete


def test_an_expression_knows_the_rows_that_its_subqueries_may_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(row: Any) -> Any:
        published = exists().where(Ticket.id == row.ticket_id, Ticket.title == me.email)
        return published | row.ticket.has(Ticket.number > 3)

    condition = declared(monkeypatch, Comment, Access(read=rule(build))).read
    assert isinstance(condition, Matches)
    for subquery in condition.subqueries:
        ((table, readable),) = subquery.conditions
        assert table is Ticket.__table__
        assert isinstance(readable, AllOf)
        assert readable.parts == (IsAlive(table.c.deleted_at), access_of(Ticket).read)
    assert len(condition.subqueries) == 2


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda row: True, "must return an SQLAlchemy expression"),
        (lambda row: text("1 = 1"), "must return an SQLAlchemy expression"),
        (lambda row: row.title == literal_column("user"), "SQL text"),
        (lambda row: func.random() > 1, "the function random"),
        (lambda row: func.count(row.id) > 1, "the function count"),
        (lambda row: func.other.lower(row.title) == "a", r"the function other\.lower"),
        (lambda row: row.title.op("~")("a"), "the operator ~"),
        (lambda row: row.title.regexp_match("^a"), "a regular expression"),
        (lambda row: row.title.collate("NOCASE") == "a", "a collation"),
        (lambda row: sql_cast(row.id, Text) == me.claim("team"), "a cast"),
        (lambda row: row.number, "must return a condition"),
        (lambda row: row.organisation_id == me.claim("team"), "which is text, with .* of Uuid"),
        (lambda row: me.claim("level") >= row.number, "which is text, with .* of Integer"),
        (lambda row: row.title == me.id, "which is a UUID, with .* of String"),
        (lambda row: row.id.in_(select(Comment.ticket_id)), r"exists\(\)\.where"),
        (lambda row: Organisation.plan == "free", "no column of the row"),
        (lambda row: exists().where(Ticket.title == "a"), "own table, in a subquery"),
        (lambda row: row.parent.has(), "alias"),
        (lambda row: exists().where(aliased(Organisation).id == row.organisation_id), "alias"),
        (lambda row: row.deleted_at.is_(None), "deleted_at"),
        (lambda row: row.title == "a\0b", "a NUL character"),
        (lambda row: row.title.in_(["a", "a\0b"]), "a NUL character"),
        (lambda row: row.due_at < datetime(2026, 1, 1), "the constant .* no time zone"),
        (lambda row: exists().where(Secret.word == row.title), "secrets.word, which is left to"),
        (lambda row: row.organisation_id == me.claim("number", type=int), "which is an integer"),
        (
            lambda row: exists().where(
                Organisation.id == row.organisation_id, exists().where(Membership.id == row.id)
            ),
            "a subquery in a subquery",
        ),
    ],
)
def test_an_expression_that_cannot_be_a_rule_everywhere_is_rejected(
    build: Callable[[Any], Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError, match=rf"^Ticket: change=rule\(<lambda at .*{reason}"):
        declared(monkeypatch, Ticket, Access(read=everyone, change=rule(build)))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (through("author"), "has no relationship author"),
        (through("comments"), r"many rows; .* row\.comments\.any\("),
        (through("parent"), "Ticket → Ticket lead in a circle"),
        (mine.has("organization_id"), "has no column organization_id"),
        (mine.has("number"), "number is INTEGER, and memberships.organisation_id is UUID"),
        (memberships(Membership.id, of=cast(Any, Membership.role)).has("id"), "is not a UUID"),
        (mine.where(Organisation.plan == "free").has("organisation_id"), "no column of the row"),
        (mine.where(Membership.user_id == me.id).has("organisation_id"), "columns of memberships"),
        (mine.where(func.now() > func.clock_timestamp()).has("organisation_id"), "clock_timestamp"),
        (owner, "Ticket grants access to owners, but has no owner_id"),
        (through("secret", "delete"), "secrets.word, which is left to the service"),
    ],
)
def test_a_rule_that_does_not_fit_its_model_is_rejected(
    wrong: Rule, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError, match=reason):
        declared(monkeypatch, Ticket, Access(read=everyone, delete=wrong))


def test_a_rule_reads_by_a_related_rows_own_policy_what_callers_may_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = declared(monkeypatch, Ticket, Access(read=through("secret")))
    assert isinstance(access.read, HasRelated)


@pytest.mark.parametrize(
    ("column", "declared"), [("role", "visible"), ("parent_id", "hidden"), ("parent_id", True)]
)
def test_a_reference_is_visible_or_any_of_a_foreign_key(
    column: str, declared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Membership.__table__.c[column].info, "references", declared)
    with pytest.raises(TypeError, match=rf'Membership.{column}: .*"visible" or "any".*{declared}'):
        access_of(Membership)


def test_references_to_owned_models_are_visible_by_default() -> None:
    """But not those that say otherwise, those to users, and those to what everyone reads."""
    expected: dict[Any, dict[str, str]] = {
        Pin: {"note_id": "t_notes"},
        Folder: {"parent_id": "t_folders"},
    }
    for model in (Pin, Folder, models.Clip, models.Comment, models.Book, Membership):
        references = access_of(model).references
        tables = {each.columns[0].name: each.table.name for each in references}
        assert tables == expected.get(model, {})


def test_a_reference_is_known_by_the_name_of_its_column() -> None:
    class Others(DeclarativeBase):
        pass

    class Node(Others):
        __tablename__ = "nodes"
        __access__ = Access(read=authenticated)
        id: Mapped[int] = mapped_column(primary_key=True)
        above: Mapped[int] = mapped_column(
            "above_id", ForeignKey("nodes.id"), key="up", info={"references": "visible"}
        )

    (reference,) = access_of(Node).references
    assert [column.name for column in reference.columns] == ["above_id"]
    assert reference.is_of_tree


def test_rules_that_lead_in_a_circle_are_rejected_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where each is for another operation: policies of Postgres recurse by table."""
    monkeypatch.setattr(
        Ticket, "__access__", Access(read=rule(lambda row: row.comments.any()), write=admin)
    )
    with pytest.raises(TypeError, match="Comment → Ticket → Comment lead in a circle"):
        access_of(Comment)


def test_a_declaration_reads_as_it_was_written() -> None:
    assert str(Access(read=owner | admin, write=owner)) == "read: owner | admin; write: owner"
    assert str((owner | admin) & authenticated) == "(owner | admin) & authenticated"
    assert str(Access(add=Add(everyone, visible=False), change=Change(old=admin, new=owner))) == (
        "read: service; add: Add(everyone, visible=False); change: Change(old=admin, new=owner); "
        "delete: service"
    )
    assert str(access_of(Comment).declared.delete) == 'owner | through("ticket", "delete")'
    assert str(agents.has("id")) == (
        "memberships(Membership.organisation_id, of=Membership.user_id)"
        ".where(memberships.role IN ('agent', 'owner')).has(\"id\")"
    )


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Access(write=owner, delete=admin),
        lambda: Access(read=cast(Any, "owner")),
        lambda: Access(delete=cast(Any, Change(old=owner))),
        lambda: owner | cast(Any, "admin"),
        lambda: memberships(Membership.id, of=Ticket.id),
        lambda: me.claim("level", type=float),
        lambda: me.claim("a\0b"),
    ],
)
def test_what_is_no_rule_is_rejected_where_it_is_written(declare: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        declare()


def test_a_claim_that_users_change_themselves_decides_nothing() -> None:
    with pytest.raises(ValueError, match="app_metadata"):
        me.claim("user_metadata", "plan")
    with pytest.raises(ValueError, match="read, change or delete"):
        through("ticket", "add")
