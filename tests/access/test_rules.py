"""What rules over memberships, relationships and expressions let each caller do."""

import uuid
from contextlib import nullcontext
from typing import Any

import pytest
from sqlalchemy import func, literal, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.access.conftest import Desk
from tests.access.helpdesk import (
    ADMIN,
    ANN,
    BOB,
    EVE,
    Article,
    Comment,
    Membership,
    Message,
    Organisation,
    Ticket,
    user,
)
from tests.records.listings import read

from amphibase import ANONYMOUS, SERVICE, Base, Caller
from amphibase.access import Access, owner
from amphibase.errors import (
    Conflict,
    Forbidden,
    InvalidValue,
    NotSupported,
    StaleVersion,
    Unauthenticated,
)
from amphibase.sql.backend import SqlBackend

NOBODY = user(0xF)
"""Signed in, and a member of nothing."""


async def titles(desk: Desk, caller: Caller, *where: Any) -> list[str]:
    return sorted(row.title for row in await desk.of(Ticket, caller).list(*where))


class TestReading:
    @pytest.mark.parametrize(
        ("caller", "seen"),
        [
            (ANN, ["acme"]),
            (BOB, ["acme", "umb"]),
            (EVE, ["umb"]),
            (ADMIN, ["acme", "umb"]),
            (NOBODY, []),
            (ANONYMOUS, []),
            (SERVICE, ["acme", "umb"]),
        ],
        ids=["ann", "bob", "eve", "admin", "nobody", "anonymous", "service"],
    )
    async def test_a_scope_shows_the_rows_of_its_memberships(
        self, desk: Desk, caller: Caller, seen: list[str]
    ) -> None:
        tickets = desk.of(Ticket, caller)
        assert await titles(desk, caller) == seen
        assert await tickets.count() == len(seen)
        assert sorted([row.title for row in (await tickets.page()).items]) == seen
        assert sorted([row.title async for row in tickets.stream()]) == seen
        for ticket in (desk.ticket, desk.other):
            assert (await tickets.get(ticket.id) is not None) == (ticket.title in seen)
        comments = await desk.of(Comment, caller).list(load=[Comment.ticket])
        assert sorted(comment.ticket.title for comment in comments) == seen

    async def test_a_plan_serves_each_caller_by_their_own_values(self, desk: Desk) -> None:
        gold, free = (
            user(n, app_metadata={"plan": plan}) for n, plan in ((1, "gold"), (2, "free"))
        )
        for _ in range(2):
            for caller, names in ((gold, ["Umbrella"]), (free, ["Acme"]), (NOBODY, [])):
                organisations = desk.of(Organisation, caller)
                assert [row.name for row in await organisations.list()] == names
                assert (await organisations.get(desk.acme.id) is None) == ("Acme" not in names)

    async def test_an_expression_sees_only_rows_that_the_caller_sees(self, desk: Desk) -> None:
        draft = Article(title="x", owner_id=ANN.user_id, organisation_id=desk.umbrella.id)
        await desk.of(Article).add(draft)
        for caller in (ANN, BOB, EVE):  # Ann owns it, the others see its organisation
            assert await desk.of(Article, caller).get(draft.id) is not None
        assert await desk.of(Article, NOBODY).get(draft.id) is None

    async def test_filters_that_read_the_tables_of_a_rule_leave_the_rule_alone(
        self, desk: Desk
    ) -> None:
        """Bob sees no membership of his but by the rule of memberships; the rule reads them all."""
        led = select(Membership.organisation_id).where(Membership.role == "lead")
        of_leads = Ticket.organisation_id.in_(led)
        assert await titles(desk, BOB, of_leads) == ["umb"]
        assert await titles(desk, ANN, of_leads) == []
        assert await titles(desk, ANN, Ticket.organisation.has(Organisation.name == "Acme")) == [
            "acme"
        ]
        assert await titles(desk, ADMIN, Ticket.organisation.has()) == []
        assert await titles(desk, ANN, Ticket.comments.any(Comment.text == "hi")) == ["acme"]
        counted = select(func.count(Membership.id)).scalar_subquery()
        assert await titles(desk, ANN, counted == 2) == ["acme"]
        assert await titles(desk, NOBODY, counted >= 0) == []
        words = text("(SELECT count(*) FROM desk_memberships) = 2")
        assert await titles(desk, ANN, words) == ["acme"]

    async def test_a_filter_by_rows_of_the_same_table_reads_those_that_the_caller_sees(
        self, desk: Desk
    ) -> None:
        tickets = desk.of(Ticket)
        for parent in (desk.ticket, desk.other):
            place = desk.umbrella.id
            child = Ticket(title=f"of {parent.title}", organisation_id=place, parent_id=parent.id)
            await tickets.add(child)
        for caller, seen in ((ADMIN, ["acme", "umb"]), (BOB, ["acme", "umb"]), (EVE, ["umb"])):
            for title in ("acme", "umb"):
                below, above = [f"of {title}"], [title]
                by_parent = read(f"parent.title=eq.{title}", Ticket, max_relations=1).where
                by_child = read(f"children.title=eq.{below[0]}", Ticket, max_relations=1).where
                assert await titles(desk, caller, *by_parent) == (below if title in seen else [])
                assert await titles(desk, caller, *by_child) == (above if title in seen else [])
        await tickets.delete(desk.other.id)
        assert await titles(desk, BOB, *by_parent) == []

    async def test_no_pattern_tells_by_an_error_how_a_hidden_text_begins(self, desk: Desk) -> None:
        """Postgres rejects one that ends with a backslash when it compares that far."""
        tickets = desk.of(Ticket, EVE)
        for pattern in (
            Ticket.title.like("acm\\"),
            Ticket.title.ilike("x\\"),
            ~Ticket.title.like("acm/", escape="/"),
            Ticket.title.endswith(literal("c") + "m\\"),
        ):
            for work in (tickets.list, tickets.count, tickets.delete_where):
                with pytest.raises(InvalidValue, match="escapes nothing"):
                    await work(pattern)
        for whole in ("umb\\\\", "umb//"):
            assert await titles(desk, EVE, Ticket.title.like(whole, escape=whole[-1])) == []
        assert await titles(desk, EVE, Ticket.title.startswith("um\\")) == []

    @pytest.mark.parametrize("desk_backend", ["sqlite", "predicate"], indirect=True)
    def test_text_names_a_table_of_several_words(self, desk_backend: SqlBackend) -> None:
        class Local(DeclarativeBase):
            type_annotation_map = Base.type_annotation_map

        class Item(Local):
            __tablename__ = "Order-Items"
            __access__ = Access(read=owner)
            id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
            owner_id: Mapped[uuid.UUID]

        rows: Any = desk_backend.repository(Ticket, EVE)
        sql = 'EXISTS (SELECT 1 FROM {}"Order-Items")'
        sent = str(rows._builder.visible(rows._info.select, text(sql.format(""))))
        assert 'WITH "Order-Items" AS NOT MATERIALIZED' in sent
        for schema in ("public.", '"main" . '):
            with pytest.raises(NotSupported, match="Order-Items stands behind its schema"):
                rows._builder.visible(rows._info.select, text(sql.format(schema)))


class TestAdding:
    async def test_a_new_row_must_meet_the_rule(self, desk: Desk) -> None:
        tickets = desk.of(Ticket, EVE)
        await tickets.add(Ticket(title="new", organisation_id=desk.umbrella.id))
        for work in (
            lambda: tickets.add(Ticket(title="x", organisation_id=desk.acme.id)),
            lambda: tickets.upsert(Ticket(title="x", organisation_id=desk.acme.id)),
            lambda: tickets.add_many(
                [Ticket(title="x", organisation_id=each.id) for each in (desk.umbrella, desk.acme)]
            ),
        ):
            with pytest.raises(Forbidden):
                await work()
        assert await titles(desk, SERVICE) == ["acme", "new", "umb"]
        with pytest.raises(Unauthenticated):
            await desk.of(Ticket, ANONYMOUS).add(Ticket(title="x", organisation_id=desk.acme.id))

    async def test_a_new_row_must_be_seen_by_who_adds_it(self, desk: Desk) -> None:
        """The rule of adding alone admits every user."""
        articles = desk.of(Article, ANN)
        mine = await articles.add(Article(title="mine", organisation_id=desk.umbrella.id))
        assert mine.owner_id == ANN.user_id
        with pytest.raises(InvalidValue):
            await articles.add(Article(title="x", owner_id=BOB.user_id))

    async def test_many_rows_leave_a_column_that_their_rule_reads_to_the_database(
        self, desk: Desk
    ) -> None:
        articles = [Article(title="a"), Article(title="b", published=True), Article(title="c")]
        stored = await desk.of(Article, ANN).add_many(articles)
        assert [each.published for each in stored] == [False, True, False]
        assert await desk.of(Article, NOBODY).count() == 1

    async def test_no_expression_in_a_new_row_reads_what_its_caller_does_not_see(
        self, desk: Desk
    ) -> None:
        seen = select(func.max(Ticket.title)).where(Ticket.title < "b").scalar_subquery()
        for caller, title in ((ANN, "acme"), (EVE, "nothing")):
            text_ = func.coalesce(seen, "nothing")
            articles = desk.of(Article, caller)
            one, two = Article(title=text_), Article(title=text_)
            assert (await articles.add(one)).title == title
            assert [each.title for each in await articles.add_many([two])] == [title]

    async def test_a_drop_box_takes_what_its_sender_does_not_see(self, desk: Desk) -> None:
        for caller in (ANONYMOUS, NOBODY):
            await desk.of(Message, caller).add(Message(text="help"))
            assert await desk.of(Message, caller).count() == 0
        assert await desk.of(Message, ADMIN).count() == 2

    async def test_a_comment_is_added_where_its_ticket_is_seen(self, desk: Desk) -> None:
        comment = await desk.of(Comment, ANN).add(Comment(text="a", ticket_id=desk.ticket.id))
        assert comment.owner_id == ANN.user_id
        for ticket_id in (desk.other.id, uuid.uuid4()):
            with pytest.raises(Forbidden):
                await desk.of(Comment, ANN).add(Comment(text="a", ticket_id=ticket_id))

    async def test_no_row_gives_the_right_to_add_itself(self, desk: Desk) -> None:
        membership = Membership(organisation_id=desk.acme.id, user_id=EVE.user_id, role="lead")
        members = desk.of(Membership, EVE)
        for work in (members.add(membership), members.add_many([membership])):
            with pytest.raises(Forbidden):
                await work
        assert await titles(desk, EVE) == ["umb"]

    async def test_a_first_member_is_the_services_to_add(self, desk: Desk) -> None:
        organisation = await desk.of(Organisation).add(Organisation(name="New"))
        first = Membership(organisation_id=organisation.id, user_id=NOBODY.user_id, role="lead")
        with pytest.raises(Forbidden):
            await desk.of(Membership, NOBODY).add(first)
        await desk.of(Membership).add(first)
        second = Membership(organisation_id=organisation.id, user_id=ANN.user_id)
        await desk.of(Membership, NOBODY).add(second)


class TestChanging:
    async def test_who_sees_a_row_without_the_right_gets_403_and_others_nothing(
        self, desk: Desk
    ) -> None:
        assert await desk.of(Ticket, ANN).update(desk.ticket.id, title="by an agent") is not None
        assert await desk.of(Ticket, EVE).update(desk.ticket.id, title="x") is None
        assert await desk.of(Ticket, EVE).delete(desk.ticket.id) is False
        for caller in (BOB, ADMIN):
            with pytest.raises(Forbidden):
                await desk.of(Ticket, caller).update(desk.ticket.id, title="x")
            with pytest.raises(Forbidden):
                await desk.of(Ticket, caller).update(desk.ticket.id, title="x", if_version=7)
        with pytest.raises(StaleVersion):
            await desk.of(Ticket, ANN).update(desk.ticket.id, title="x", if_version=7)
        assert await desk.of(Ticket, BOB).update_where(everything=True, status="done") == 1

    async def test_no_row_is_moved_into_or_out_of_the_callers_sight(self, desk: Desk) -> None:
        for caller, ticket, to in (
            (ANN, desk.ticket, desk.umbrella),
            (BOB, desk.other, desk.acme),  # where he is no agent
        ):
            tickets = desk.of(Ticket, caller)
            with pytest.raises(Forbidden):
                await tickets.update(ticket.id, organisation_id=to.id)
            with pytest.raises(Forbidden):
                await tickets.update_where(Ticket.id == ticket.id, organisation_id=to.id)
        assert await titles(desk, ANN) == ["acme"]

    async def test_no_change_gives_the_right_to_itself(self, desk: Desk) -> None:
        own = await desk.of(Membership, EVE).first(Membership.user_id == EVE.user_id)
        assert own is not None
        for changes in ({"role": "lead"}, {"organisation_id": desk.acme.id}):
            with pytest.raises(Forbidden):
                await desk.of(Membership, EVE).update(own.id, **changes)
        assert await titles(desk, EVE) == ["umb"]

    async def test_what_a_row_becomes_has_a_rule_of_its_own(self, desk: Desk) -> None:
        articles = desk.of(Article, ANN)
        article = await articles.add(Article(title="one"))
        assert await articles.update(article.id, title="two", published=True) is not None
        for works in (
            articles.update(article.id, title=""),
            articles.update_where(everything=True, title=""),
        ):
            with pytest.raises(Forbidden):
                await works
        changed = await articles.update(article.id, title=func.lower("THREE"))
        assert changed is not None
        assert changed.title == "three"

    async def test_an_upsert_does_not_change_what_the_caller_may_not(self, desk: Desk) -> None:
        for caller, id, organisation, error in (
            (BOB, desk.ticket.id, desk.acme, Conflict),  # seen, but he is no agent
            (EVE, desk.ticket.id, desk.umbrella, Conflict),  # not seen
            (BOB, desk.other.id, desk.acme, Conflict),  # moved to where he is no agent
        ):
            ticket = Ticket(id=id, title="x", organisation_id=organisation.id)
            with pytest.raises(error):
                await desk.of(Ticket, caller).upsert(ticket)
        ticket = Ticket(id=desk.ticket.id, title="by an agent", organisation_id=desk.acme.id)
        assert (await desk.of(Ticket, ANN).upsert(ticket)).title == "by an agent"
        assert await titles(desk, SERVICE) == ["by an agent", "umb"]

    async def test_an_upsert_keeps_what_was_not_sent_though_a_rule_reads_it(
        self, desk: Desk
    ) -> None:
        await desk.of(Ticket).update(desk.ticket.id, status="done")
        ticket = Ticket(id=desk.ticket.id, title="two", organisation_id=desk.acme.id)
        stored = await desk.of(Ticket, ANN).upsert(ticket)
        assert (stored.title, stored.status) == ("two", "done")

    async def test_a_lock_is_for_those_who_may_change(self, desk: Desk) -> None:
        for caller, expected in ((ANN, True), (BOB, False), (EVE, False)):
            async with desk.backend.transaction(caller) as transaction:
                row = await transaction.repository(Ticket).get(desk.ticket.id, lock=True)
                assert (row is not None) == expected


class TestDeleting:
    async def test_a_soft_deletion_and_its_end_need_the_rule_of_deleting(self, desk: Desk) -> None:
        """Ann may change tickets of Acme, and delete none; Bob leads Umbrella."""
        for work in (
            lambda: desk.of(Ticket, ANN).delete(desk.ticket.id),
            lambda: desk.of(Ticket, ANN).update(desk.ticket.id, deleted_at=desk.ticket.created_at),
        ):
            with pytest.raises(Forbidden):
                await work()
        assert await desk.of(Ticket, ANN).delete_where(everything=True) == 0
        assert await desk.of(Ticket, BOB).delete(desk.other.id) is True
        assert await titles(desk, BOB) == ["acme"]
        assert await desk.of(Comment, BOB).count() == 1  # that of the deleted ticket is gone, too
        with pytest.raises(Forbidden):
            await desk.of(Ticket, EVE).with_deleted().update(desk.other.id, deleted_at=None)
        restored = desk.of(Ticket, BOB).with_deleted()
        assert await restored.update(desk.other.id, deleted_at=None) is not None
        assert await titles(desk, BOB) == ["acme", "umb"]

    async def test_an_upsert_deletes_softly_for_those_who_may_delete(self, desk: Desk) -> None:
        when = desk.ticket.created_at
        for caller, ticket, organisation, left in (
            (ANN, desk.ticket, desk.acme, ["acme", "umb"]),  # she may change it
            (BOB, desk.other, desk.umbrella, ["acme"]),
        ):
            deleted = Ticket(
                id=ticket.id, title="x", organisation_id=organisation.id, deleted_at=when
            )
            with nullcontext() if caller is BOB else pytest.raises(Conflict):
                await desk.of(Ticket, caller).upsert(deleted)
            assert await titles(desk, SERVICE) == left

    async def test_an_upsert_restores_for_those_who_may_delete(self, desk: Desk) -> None:
        await desk.of(Ticket).delete(desk.ticket.id)
        ticket = Ticket(id=desk.ticket.id, title="again", organisation_id=desk.acme.id)
        with pytest.raises(Conflict):
            await desk.of(Ticket, ANN).upsert(ticket)
        await desk.of(Ticket).delete(desk.other.id)
        ticket = Ticket(id=desk.other.id, title="again", organisation_id=desk.umbrella.id)
        await desk.of(Ticket, BOB).upsert(ticket)
        assert await titles(desk, SERVICE) == ["again"]

    async def test_a_related_row_decides_about_deleting(self, desk: Desk) -> None:
        theirs = Comment(text="x", ticket_id=desk.other.id, owner_id=EVE.user_id)
        await desk.of(Comment).add(theirs)
        assert await desk.of(Comment, BOB).delete(theirs.id) is True  # he leads Umbrella
        of_bob = await desk.of(Comment).one(Comment.ticket_id == desk.ticket.id)
        with pytest.raises(Forbidden):
            await desk.of(Comment, ANN).delete(of_bob.id)

    async def test_a_member_who_leaves_sees_nothing_from_then_on(self, desk: Desk) -> None:
        tickets = desk.of(Ticket, ANN)
        second = Ticket(title="second", organisation_id=desk.acme.id)
        await desk.of(Ticket).add(second)
        part = await tickets.page(limit=1)
        assert len(part.items) == 1
        await desk.of(Membership).delete_where(Membership.user_id == ANN.user_id)
        assert (await tickets.page(limit=1, cursor=part.next_cursor)).items == []
        assert await tickets.update(second.id, title="x") is None
