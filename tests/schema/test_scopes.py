"""Rules over memberships, related rows and expressions as policies of a real Postgres."""

import asyncio
import functools
import os
import re
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from psycopg.errors import InsufficientPrivilege
from psycopg.sql import SQL, Identifier
from sqlalchemy import JSON, Computed, Enum, ForeignKey, exists, text
from sqlalchemy.orm import Mapped, mapped_column, relationship
from tests.schema.application import Application
from tests.schema.callers import (
    ANN,
    BOB,
    CALLERS,
    NOBODY,
    attempt,
    calling,
    fetch,
    models_of,
    run,
    url_of,
)

from amphibase.access import Access, Rule, admin, me, memberships, owner, rule, service, through
from amphibase.errors import ConfigurationError
from amphibase.models import SoftDelete
from amphibase.schema import commands as schema
from amphibase.schema.policies import MAX_SCOPES, declared, generated_functions
from amphibase.search import search_index

FUNCTIONS = (
    "SELECT proname::text FROM pg_proc WHERE pronamespace = to_regnamespace('amphibase') "
    "AND proname ^@ 'scope_'"
)


def help_desk(
    application: Application, where: Callable[[Any], Any] = lambda model: model.role == "agent"
) -> Any:
    """Models of organisations' tickets: members see and add them, agents change and delete them."""
    base = models_of(application)

    class Membership(SoftDelete, base):  # type: ignore[misc,valid-type]
        __tablename__ = "memberships"
        user_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        organisation_id: Mapped[int] = mapped_column(primary_key=True)
        role: Mapped[str] = mapped_column(Enum("agent", "member", name="member role"))
        deleted_at: Mapped[datetime | None]

    mine = memberships(Membership.organisation_id, of=Membership.user_id)
    agents = mine.where(where(Membership)).has("organisation_id")

    class Ticket(SoftDelete, base):  # type: ignore[misc,valid-type]
        __tablename__ = "tickets"
        __table_args__ = (search_index("ix_tickets_search", "title"),)
        __access__ = Access(
            read=mine.has("organisation_id") | admin,
            add=mine.has("organisation_id"),
            change=agents,
            delete=agents,
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        organisation_id: Mapped[int]
        title: Mapped[str] = mapped_column(server_default="")
        deleted_at: Mapped[datetime | None]

    class Comment(base):  # type: ignore[misc,valid-type]
        __tablename__ = "comments"
        __table_args__ = (search_index("ix_comments_search", "body", language="english"),)
        __access__ = Access(
            read=through("ticket") | rule(lambda row: row.body == "a\npublic: %s $$ $f$"),
            add=through("ticket"),
            change=owner,
            delete=owner | through("ticket", "delete"),
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[uuid.UUID]
        ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
        body: Mapped[str] = mapped_column(server_default="")
        ticket: Mapped[Ticket] = relationship()

    class Label(base):  # type: ignore[misc,valid-type]
        __tablename__ = "labels"
        __access__ = Access(
            read=rule(
                lambda row: (
                    exists().where(Ticket.id == row.ticket_id, Ticket.title != "")
                    & (row.plan == me.claim("app_metadata", "role"))
                )
            )
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
        plan: Mapped[str]

    application.models.info["kept"] = models = (Membership, Ticket, Comment, Label)
    return models


async def fill(application: Application) -> None:
    """Ann is an agent of 1 and was a member of 2; Bob is a member of 2."""
    await run(
        application,
        "INSERT INTO memberships (user_id, organisation_id, role, deleted_at) VALUES "
        f"('{ANN}', 1, 'agent', NULL), ('{ANN}', 2, 'agent', now()), ('{BOB}', 2, 'member', NULL)",
        "INSERT INTO tickets (id, organisation_id, title, deleted_at) VALUES "
        "(11, 1, 'a', NULL), (12, 1, '', NULL), (13, 1, 'c', now()), (14, 1, 'e', NULL), "
        "(21, 2, 'd', NULL)",
        "INSERT INTO comments (id, owner_id, ticket_id, body) VALUES "
        f"(1, '{ANN}', 11, ''), (2, '{BOB}', 11, ''), (3, '{ANN}', 21, ''), (4, '{BOB}', 13, ''), "
        f"(5, '{BOB}', 21, E'a\\npublic\\: %s $$ $f$')",
        "INSERT INTO labels (id, ticket_id, plan) VALUES "
        "(1, 11, 'clerk'), (2, 12, 'clerk'), (3, 13, 'clerk'), (4, 21, 'clerk'), (5, 11, 'other')",
    )


READ = {
    "nobody": {"tickets": [], "comments": [5], "labels": []},
    "ann": {"tickets": [11, 12, 13, 14], "comments": [1, 2, 5], "labels": [1]},
    "bob": {"tickets": [21], "comments": [3, 5], "labels": [4]},
    "admin": {"tickets": [11, 12, 13, 14, 21], "comments": [1, 2, 3, 5], "labels": []},
}

WRITTEN = {
    "INSERT INTO tickets (id, organisation_id) VALUES (90, 1)": {"ann": 1},
    "INSERT INTO tickets (id, organisation_id) VALUES (90, 2)": {"bob": 1},
    "UPDATE tickets SET title = 'x'": {"ann": 4},
    "UPDATE tickets SET organisation_id = 2 WHERE id = 11": {},
    "DELETE FROM tickets WHERE id = 14": {"ann": 1},
    f"INSERT INTO comments (id, owner_id, ticket_id) VALUES (90, '{ANN}', 11)": {"ann": 1},
    f"INSERT INTO comments (id, owner_id, ticket_id) VALUES (90, '{ANN}', 13)": {},
    f"INSERT INTO comments (id, owner_id, ticket_id) VALUES (90, '{BOB}', 11)": {},
    "UPDATE comments SET body = 'x'": {"ann": 1, "bob": 1},
    "UPDATE comments SET ticket_id = 21 WHERE id = 1": {},
    "DELETE FROM comments": {"ann": 2, "bob": 1},
}
"""How many rows each caller may write; none by others."""


async def test_each_caller_reads_and_writes_what_the_rules_admit(guarded: Application) -> None:
    """Memberships and related rows that are softly deleted admit nobody."""
    help_desk(guarded)
    await guarded.ensure()
    await fill(guarded)
    for name, readable in READ.items():
        with calling(url_of(guarded), CALLERS[name]) as connection:
            for table, ids in readable.items():
                query = SQL("SELECT id FROM {} ORDER BY id").format(Identifier(table))
                if ids or attempt(connection, query):
                    assert [id for (id,) in connection.execute(query)] == ids, (name, table)
            for statement, rows in WRITTEN.items():
                with connection.transaction(force_rollback=True):
                    assert attempt(connection, statement) == rows.get(name, 0), (name, statement)


async def test_a_scope_shows_the_callers_own_values_and_nothing_to_anonymous_callers(
    guarded: Application,
) -> None:
    help_desk(guarded)
    await guarded.ensure()
    await fill(guarded)
    names = [name for (name,) in await fetch(guarded, FUNCTIONS)]
    assert len(names) == 2
    for name in names:
        call = SQL("SELECT amphibase.{}()").format(Identifier(name))
        with calling(url_of(guarded), CALLERS["ann"]) as connection:
            assert connection.execute(call).fetchall() == [([1],)]
            assert attempt(connection, "SELECT FROM memberships") == 0
        with (
            calling(url_of(guarded), NOBODY) as connection,
            pytest.raises(InsufficientPrivilege),
        ):
            connection.execute(call)


async def test_scopes_and_searches_go_into_the_database_and_back(guarded: Application) -> None:
    """Written, run, changed, undone; what a start made is no obstacle."""
    every = (
        "SELECT tablename || policyname || coalesce(qual, '') || coalesce(with_check, '') "
        "FROM pg_policies UNION ALL SELECT "
        r"regexp_replace(pg_get_functiondef(oid), '\s+', ' ', 'g') || proacl\:\:text FROM pg_proc "
        "WHERE pronamespace = to_regnamespace('amphibase') ORDER BY 1"
    )
    help_desk(guarded)
    path = await guarded.revision("help desk")
    assert path is not None
    written = path.read_text()
    assert "REVOKE ALL ON FUNCTION amphibase.scope_memberships_organisation_id_" in written
    assert "organisation_id = ANY ((SELECT amphibase.scope_memberships" in written
    assert "REVOKE ALL ON FUNCTION amphibase.search_comments_" in written
    await guarded.upgrade()
    assert await guarded.differences() == []
    await guarded.require_current()
    assert await guarded.revision("again") is None
    first = await fetch(guarded, every)

    for name in ("memberships", "tickets", "comments", "labels"):
        guarded.models.remove(guarded.models.tables[name])
    help_desk(guarded, lambda model: model.role != "member")
    old = set(re.findall(r"FUNCTION amphibase\.(\w+)", "".join(text for (text,) in first)))
    new = {function.name for function in generated_functions(declared(guarded.models))}
    lines = [line for line in await guarded.differences() if line.startswith("function")]
    assert sorted(lines) == sorted(
        [
            *(f"function amphibase.{name} is missing from the database" for name in new - old),
            *(f"function amphibase.{name} is in the database alone" for name in old - new),
        ]
    )
    await guarded.ensure()
    assert await guarded.differences() == []
    await guarded.revision("agents are not members")
    assert [each.status for each in await guarded.upgrade()] == ["applied"]
    assert await guarded.differences() == []
    assert await guarded.revision("again") is None
    await guarded.downgrade("application", "-1")
    assert await fetch(guarded, every) == first
    await guarded.downgrade("application", "0002")
    assert await fetch(guarded, every) == []


async def test_what_differs_of_a_function_is_reported_and_made_right(guarded: Application) -> None:
    """Its text, its callers, and an owner to whom the policies of its tables would apply."""
    help_desk(guarded)
    await guarded.ensure()
    (first, second) = sorted(name for (name,) in await fetch(guarded, FUNCTIONS))
    functions = generated_functions(declared(guarded.models))
    definers = [each for each in functions if each.is_definer and each.name > "search_comments"]
    third = next(each.name for each in definers if each.callers == ("authenticated",))
    role = f"plain_{os.getpid()}"
    await run(
        guarded,
        f"ALTER FUNCTION amphibase.{first}() SECURITY INVOKER",
        f"GRANT EXECUTE ON FUNCTION amphibase.{second}() TO PUBLIC",
        f"CREATE ROLE {role}",
        f"ALTER FUNCTION amphibase.{second}() OWNER TO {role}",
        f"ALTER FUNCTION amphibase.{third}(text) OWNER TO {role}",
    )
    differences = await guarded.differences()
    assert not any("%1$I" in line for line in differences)
    assert [line.partition(": it should be CREATE")[0] for line in differences] == [
        f"function amphibase.{first}",
        f"function amphibase.{second}: the policies of memberships limit its owner too, who should "
        "own the tables",
        f"function amphibase.{second}: its callers should be authenticated, are authenticated, "
        "public",
        f"function amphibase.{third}: the policies of comments, memberships, tickets limit its "
        "owner too, who should own the tables",
    ]
    with pytest.raises(ConfigurationError, match="does not guard rows") as rejected:
        await guarded.require_current()
    assert f"(function amphibase.{first} has changed; " in str(rejected.value)
    assert "SECURITY DEFINER" not in str(rejected.value)
    await run(
        guarded,
        f"ALTER FUNCTION amphibase.{second}() OWNER TO CURRENT_USER",
        f"ALTER FUNCTION amphibase.{third}(text) OWNER TO CURRENT_USER",
    )
    await guarded.ensure()
    assert await guarded.differences() == []
    await run(guarded, f"DROP ROLE {role}")


async def test_comparing_scopes_waits_for_nobody(guarded: Application) -> None:
    help_desk(guarded)
    await guarded.ensure()
    async with guarded.database.write() as busy:
        await busy.execute(text("LOCK TABLE memberships, tickets IN EXCLUSIVE MODE"))
        async with asyncio.timeout(60):
            assert await guarded.differences() == []


async def test_scopes_are_limited_in_number(postgres_application: Application) -> None:
    base = models_of(postgres_application)

    class Membership(base):  # type: ignore[misc,valid-type]
        __tablename__ = "memberships"
        user_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        team_id: Mapped[int]

    mine = memberships(Membership.team_id, of=Membership.user_id)
    rules = (mine.where(Membership.team_id > n).has("team_id") for n in range(MAX_SCOPES + 1))

    class Team(base):  # type: ignore[misc,valid-type]
        __tablename__ = "teams"
        __access__ = Access(read=functools.reduce(Rule.__or__, rules))
        team_id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ConfigurationError, match=f"declare {MAX_SCOPES + 1} scopes"):
        schema.policies(postgres_application.models)


class Softly:
    """What a caller does to a ticket that they may delete or change."""

    DELETE = "UPDATE tickets SET deleted_at = now(), revision = 'b' WHERE id = 1"
    CHANGE = "UPDATE tickets SET title = 'x' WHERE id = 1"
    BOTH = "UPDATE tickets SET title = 'x', deleted_at = now() WHERE id = 1"
    MOVE = "UPDATE tickets SET organisation_id = 2 WHERE id = 1"
    RESTORE = "UPDATE tickets SET deleted_at = NULL WHERE id = 2"


@pytest.mark.parametrize(
    ("member", "allowed"),
    [
        ("editor", {Softly.CHANGE}),
        ("cleaner", {Softly.DELETE, Softly.RESTORE}),
        ("agent", {Softly.DELETE, Softly.CHANGE, Softly.BOTH, Softly.RESTORE}),
        ("reader", set()),
    ],
)
async def test_to_delete_softly_takes_the_rule_for_deleting_and_no_other(
    guarded: Application, member: str, allowed: set[str]
) -> None:
    base = models_of(guarded)

    class Membership(base):  # type: ignore[misc,valid-type]
        __tablename__ = "memberships"
        user_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        organisation_id: Mapped[int] = mapped_column(primary_key=True)
        role: Mapped[str]

    mine = memberships(Membership.organisation_id, of=Membership.user_id)

    def are(*roles: str) -> Rule:
        return mine.where(Membership.role.in_(roles)).has("organisation_id")

    class Ticket(SoftDelete, base):  # type: ignore[misc,valid-type]
        __tablename__ = "tickets"
        __access__ = Access(
            read=mine.has("organisation_id"),
            change=are("editor", "agent"),
            delete=are("cleaner", "agent"),
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        organisation_id: Mapped[int]
        title: Mapped[str] = mapped_column(server_default="")
        slug: Mapped[str] = mapped_column(Computed("lower(title)", persisted=True))
        details: Mapped[dict[str, str] | None] = mapped_column(JSON)
        revision: Mapped[str] = mapped_column(server_default="a", onupdate=lambda: "b")
        notes: Mapped[dict[str, str] | None] = mapped_column(
            JSON, info={"read": service, "write": service}
        )
        deleted_at: Mapped[datetime | None]

    await guarded.revision("tickets")
    await guarded.upgrade()
    assert await guarded.differences() == []
    await run(
        guarded,
        "ALTER TABLE tickets ADD size int GENERATED ALWAYS AS (length(title)) STORED",
        "INSERT INTO tickets (id, organisation_id, deleted_at) VALUES (1, 1, NULL), (2, 1, now())",
        r"""UPDATE tickets SET notes = '{"a"\: "\u0000"}', details = notes""",
        f"INSERT INTO memberships VALUES ('{ANN}', 1, '{member}'), ('{ANN}', 2, 'reader')",
    )
    with calling(url_of(guarded), CALLERS["ann"]) as connection:
        for name, statement in vars(Softly).items():
            if name.isupper():
                with connection.transaction(force_rollback=True):
                    assert attempt(connection, statement) == (statement in allowed), name
    await guarded.downgrade("application", "0002")
    functions = "SELECT FROM pg_proc WHERE proname = 'amphibase_tickets_soft_delete'"
    assert await fetch(guarded, functions) == []
