"""Full text search under rules of access, which row level security keeps from the index."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import and_, func, not_, text
from tests.access.conftest import Desk
from tests.access.helpdesk import ADMIN, ANN, BOB, EVE, Article, Comment, Models, Ticket, user
from tests.schema.callers import set_claims

from amphibase import ANONYMOUS, Caller
from amphibase.database.url import to_conninfo
from amphibase.records.model_access import access_of
from amphibase.schema.search_functions import search_functions
from amphibase.search import matches

NOBODY = user(0x99)
CALLERS = {"ann": ANN, "bob": BOB, "eve": EVE, "admin": ADMIN, "no member": NOBODY, "": ANONYMOUS}

SEARCHES: dict[type[Models], Any] = {
    Ticket: lambda query: matches(Ticket.title, Ticket.status, query=query),
    Comment: lambda query: matches(Comment.text, query=query, language="english"),
    Article: lambda query: matches(Article.title, query=query),
}

FOUND = {
    Ticket: {
        "red": {"ann": "a1", "bob": "a1 u1", "eve": "u1", "admin": "a1 u1"},
        "red closed": {"bob": "u1", "eve": "u1", "admin": "u1"},
    },
    Comment: {
        "apple": {"ann": "c1", "bob": "c1 c2", "eve": "c2", "admin": "c1 c2"},
    },
    Article: {
        "red": {
            "ann": "p1 d1", "bob": "p1 d2", "eve": "p1 d2", "admin": "p1", "no member": "p1",
            "": "p1",
        },
    },
}  # fmt: skip
"""The first words of what each caller finds."""


@pytest.fixture
async def searched(desk: Desk) -> Desk:
    acme, umbrella = desk.acme.id, desk.umbrella.id
    tickets = [
        Ticket(title="a1 red", organisation_id=acme),
        Ticket(title="u1 red", organisation_id=umbrella, status="closed"),
        Ticket(title="gone red", organisation_id=umbrella),
    ]
    await desk.of(Ticket).add_many(tickets)
    await desk.of(Ticket).delete(tickets[2].id)
    await desk.of(Comment).add_many(
        Comment(text=f"{name} an apple", ticket_id=ticket.id, owner_id=EVE.user_id)
        for name, ticket in zip(("c1", "c2", "c3"), tickets, strict=True)
    )
    await desk.of(Article).add_many(
        [
            Article(title="p1 red", owner_id=BOB.user_id, published=True),
            Article(title="d1 red", owner_id=ANN.user_id),
            Article(title="d2 red", owner_id=user(0x97).user_id, organisation_id=umbrella),
            Article(title="d3 red", owner_id=user(0x98).user_id, organisation_id=acme),
        ]
    )
    return desk


def first_words(rows: Any) -> set[str]:
    return {getattr(row, "title", getattr(row, "text", "")).split()[0] for row in rows}


@pytest.mark.parametrize("model", SEARCHES)
async def test_a_search_finds_what_its_caller_sees(searched: Desk, model: type[Any]) -> None:
    """By the index, in `|` and `~`, and in every method that takes filters."""
    search = SEARCHES[model]
    for query, found in FOUND[model].items():
        for name, caller in CALLERS.items():
            expected = {*found.get(name, "").split()}
            rows = searched.of(model, caller)
            assert first_words(await rows.list(search(query))) == expected, (query, name)
            both = and_(search(query), model.id.is_not(None))
            assert first_words(await rows.list(both)) == expected
            assert await rows.count(search(query)) == len(expected)
            assert await rows.aggregate(func.count(), where=[search(query)]) == [(len(expected),)]
            assert await rows.count(search(query) | search("nothing")) == len(expected)
            assert not expected & first_words(await rows.list(not_(search(query))))


def functions_of(model: type[Models]) -> dict[str, tuple[str, ...]]:
    return {
        each.name: each.callers
        for search in search_functions(model.__table__, access_of(model).read)  # type: ignore[arg-type]
        for each in search.generated()
    }


@contextmanager
def calling(desk: Desk, caller: Caller) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(to_conninfo(desk.backend.database.url)) as connection:
        if caller.user_id is not None:
            set_claims(connection, {"sub": str(caller.user_id), **caller.claims})
        connection.execute(SQL("SET LOCAL ROLE {}").format(Identifier(caller.role)))
        yield connection
        connection.rollback()


@pytest.mark.parametrize("desk_backend", ["rls"], indirect=True)
@pytest.mark.parametrize("model", SEARCHES)
async def test_a_search_function_called_by_hand_shows_what_policies_admit(
    searched: Desk, model: type[Any]
) -> None:
    table = Identifier(model.__tablename__)
    for name, caller in CALLERS.items():
        for function, roles in functions_of(model).items():
            call = SQL("SELECT id FROM amphibase.{}(%s)").format(Identifier(function))
            with calling(searched, caller) as connection:
                if caller.role not in roles:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(call, ["red"])
                    continue
                admitted = {*connection.execute(SQL("SELECT id FROM {}").format(table)).fetchall()}
                for query in ("red or apple", "-nothing"):
                    found = connection.execute(call, [query]).fetchall()
                    assert {*found} <= admitted, (name, function)
                    assert found or not admitted
                assert {*connection.execute(call, ["-nothing"]).fetchall()} == admitted


ALL = {"c1", "c2", "c3"}
BY_HAND: list[tuple[str, set[str], bool]] = [
    ("desk_comments AS PERMISSIVE FOR SELECT USING (true)", ALL, False),
    ("desk_comments AS RESTRICTIVE FOR ALL USING (text <> 'c2 an apple')", {"c1"}, False),
    # Softly deleted tickets admit no comment, whatever their policies say.
    ("desk_tickets FOR SELECT TO authenticated USING (true)", {"c1", "c2"}, False),
    ("desk_tickets AS RESTRICTIVE USING (title <> 'u1 red')", {"c1"}, False),
    ("desk_comments FOR UPDATE USING (true)", {"c1", "c2"}, True),
    ("desk_comments FOR SELECT TO pg_monitor USING (true)", {"c1", "c2"}, True),
]
"""Policies, what Bob finds with them, and whether the index is used."""


@pytest.mark.parametrize("desk_backend", ["rls"], indirect=True)
async def test_a_policy_by_hand_decides_about_searches_too(searched: Desk) -> None:
    by_index = next(
        name
        for name, callers in functions_of(Comment).items()
        if name.endswith("_by_index") and "authenticated" in callers
    )
    call = SQL("SELECT id FROM amphibase.{}('apple')").format(Identifier(by_index))
    for policy, found, is_used in BY_HAND:
        async with searched.backend.database.write() as connection:
            await connection.execute(text(f"CREATE POLICY own ON {policy}"))
        try:
            rows = await searched.of(Comment, BOB).list(SEARCHES[Comment]("apple"))
            assert first_words(rows) == found, policy
            with calling(searched, BOB) as own:
                assert bool(own.execute(call).fetchall()) == is_used, policy
        finally:
            async with searched.backend.database.write() as connection:
                await connection.execute(text(f"DROP POLICY own ON {policy.split()[0]}"))


@pytest.mark.parametrize("desk_backend", ["rls"], indirect=True)
async def test_under_policies_a_search_reads_the_index(searched: Desk) -> None:
    """Where the policies would have every row read."""
    search = next(iter(search_functions(Ticket.__table__, access_of(Ticket).read)))  # type: ignore[arg-type]
    statement = f"EXPLAIN {search.statement}\n    AND {search.rule}".replace("$1", "'red'")
    for name, value in reversed(search.variables):  # a scope reads the caller
        statement = statement.replace(name, value.partition(":=")[2])
    with psycopg.connect(to_conninfo(searched.backend.database.url)) as connection:
        connection.execute("SET enable_seqscan TO off")
        connection.execute("SET enable_indexscan TO off")
        plan = str(connection.execute(statement.encode()).fetchall())
    assert "ix_desk_tickets_search" in plan, plan
    rows: Any = searched.of(Ticket, BOB)
    sent = str(rows._builder.visible(rows._info.select, SEARCHES[Ticket]("red")))
    assert search.name in sent
    assert "websearch_to_tsquery" not in sent
