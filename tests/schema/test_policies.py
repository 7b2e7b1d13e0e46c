"""Row level security: what a declaration makes, and what real roles may then see and do."""

import itertools
import uuid
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Column, Integer, MetaData, Table
from sqlalchemy.orm import Mapped, mapped_column
from sqlmodel import Field, SQLModel
from tests.schema.application import Application
from tests.schema.callers import (
    ANN,
    BOB,
    CALLERS,
    EVE,
    NOBODY,
    Asking,
    act_as,
    attempt,
    calling,
    fetch,
    models_of,
    note_in,
    run,
    set_claims,
    url_of,
)

from amphibase.access import (
    Access,
    Add,
    CallerRule,
    Rule,
    Who,
    admin,
    authenticated,
    everyone,
    owner,
    service,
)
from amphibase.errors import ConfigurationError
from amphibase.schema import commands as schema
from amphibase.schema.grants import COMMANDS, ROLES
from amphibase.schema.policies import TableRules, declared, policy_name

RULES = {
    "everyone": everyone,
    "authenticated": authenticated,
    "owner": owner,
    "admin": admin,
    "owner or admin": owner | admin,
    "everyone or owner": everyone | owner,
    "service": service,
}


def admits(rule: Rule, caller: Asking, row_owner: uuid.UUID | None) -> bool:
    """What a rule means, said once more in other words."""
    return any(
        {
            Who.EVERYONE: True,
            Who.AUTHENTICATED: caller.id is not None,
            Who.OWNER: caller.id is not None and caller.id == row_owner,
            Who.ADMIN: caller.is_admin,
        }[who]
        for who in callers_of(rule)
    )


def callers_of(rule: Rule) -> set[Who]:
    parts = [part for part in rule.walk() if isinstance(part, CallerRule)]
    return {part.who for part in parts} - {Who.SERVICE}


def may_own(access: Access, caller: Asking, row_owner: uuid.UUID | None) -> bool:
    """Return whether a caller may add a row with that owner, if they may add rows at all."""
    return row_owner == caller.id or (
        Who.ADMIN in callers_of(access.change.old) and caller.is_admin
    )


async def test_each_declaration_lets_each_caller_do_what_it_says_and_no_more(
    guarded: Application,
) -> None:
    """Every pair of rules, every caller, every command; reads and writes of others' rows fail."""
    pairs = {
        f"t{number}": Access(RULES[read], RULES[write])
        for number, (read, write) in enumerate(itertools.product(RULES, RULES))
    }
    for name, access in pairs.items():
        note_in(guarded, access, name)
    await guarded.ensure()
    for name in pairs:
        await run(guarded, f"INSERT INTO {name} (owner_id) VALUES ('{ANN}'), ('{BOB}')")
    for caller in CALLERS.values():
        with calling(url_of(guarded), caller) as connection:
            for name, access in pairs.items():
                table = Identifier(name)
                seen = [row for row in (ANN, BOB) if admits(access.read, caller, row)]
                changed = [row for row in seen if admits(access.change.old, caller, row)]
                case = f"{caller}: {access}"
                assert attempt(connection, SQL("SELECT * FROM {}").format(table)) == len(seen), case
                for verb in ("UPDATE {} SET title = 'x'", "UPDATE {} SET title = id || 'x'"):
                    # The first reads no column, and Postgres does not ask the policy for SELECT.
                    assert attempt(connection, SQL(verb).format(table)) == len(changed), case
                for row in (ANN, BOB, EVE):
                    add = SQL("INSERT INTO {} (owner_id) VALUES (%s)").format(table)
                    admitted = all(
                        admits(rule, caller, row) for rule in (access.read, access.add.new)
                    )
                    may = admitted and may_own(access, caller, row)
                    assert attempt(connection, add, row) == may, case
                connection.rollback()
                act_as(connection, caller)
                delete = SQL("DELETE FROM {}").format(table)
                assert attempt(connection, delete) == len(changed), case
                connection.rollback()
                act_as(connection, caller)


async def test_a_row_cannot_be_given_to_someone_else(guarded: Application) -> None:
    """Neither added for another nor handed over."""
    note_in(guarded)
    await guarded.ensure()
    with calling(url_of(guarded), CALLERS["ann"]) as connection:
        add = "INSERT INTO notes (owner_id, title) VALUES (%s, 'a') RETURNING id"
        assert attempt(connection, add, ANN) == 1
        assert attempt(connection, add, BOB) == 0
        assert attempt(connection, "UPDATE notes SET owner_id = %s", BOB) == 0
        assert attempt(connection, "UPDATE notes SET title = 'b'") == 1


async def test_a_row_of_anonymous_callers_is_nobodys(guarded: Application) -> None:
    class Feedback(models_of(guarded)):  # type: ignore[misc]
        __tablename__ = "feedback"
        __access__ = Access(add=Add(everyone, visible=False))
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[uuid.UUID | None]

    await guarded.ensure()
    add = "INSERT INTO feedback (owner_id) VALUES (%s)"
    with calling(url_of(guarded), CALLERS["nobody"]) as connection:
        assert attempt(connection, add, None) == 1
        assert attempt(connection, add, ANN) == 0
    with calling(url_of(guarded), CALLERS["ann"]) as connection:
        assert attempt(connection, add, ANN) == 1
        assert attempt(connection, add, None) == 0


async def test_it_is_the_policies_that_keep_callers_apart(guarded: Application) -> None:
    """The control: what was seen is not without its policy, what was not seen is without RLS."""
    note_in(guarded)
    await guarded.ensure()
    await run(guarded, f"INSERT INTO notes (owner_id) VALUES ('{ANN}'), ('{BOB}')")

    def seen() -> int:
        with calling(url_of(guarded), CALLERS["ann"]) as connection:
            return attempt(connection, "SELECT * FROM notes")

    assert seen() == 1
    await run(guarded, "DROP POLICY amphibase_notes_select ON notes")
    assert seen() == 0
    await run(guarded, "ALTER TABLE notes DISABLE ROW LEVEL SECURITY")
    assert seen() == 2
    await guarded.ensure()
    assert seen() == 1


async def test_roles_get_the_privileges_that_a_rule_opens_and_no_others(
    guarded: Application,
) -> None:
    """A table without a declaration, or without a model, opens nothing, and is guarded."""
    note_in(guarded, Access(read=everyone, write=owner), "posts")
    note_in(guarded, Access(add=Add(authenticated, visible=False)), "letters")
    note_in(guarded, Access(), "secrets")
    Table("tags", guarded.models, Column("id", Integer(), primary_key=True))
    await guarded.ensure()
    held = await fetch(
        guarded,
        "SELECT c.relname::text, r.rolname::text, p FROM pg_class c, pg_roles r, "
        "unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])"
        " AS p WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
        "AND rolname IN ('anon', 'authenticated') AND has_table_privilege(r.oid, c.oid, p)",
    )
    posts = {("posts", "authenticated", p) for p in ("SELECT", "INSERT", "UPDATE", "DELETE")}
    assert set(held) == posts | {
        ("posts", "anon", "SELECT"),
        ("letters", "authenticated", "INSERT"),
    }
    sequences = await fetch(
        guarded,
        "SELECT s.relname::text, r.rolname::text FROM pg_class s, pg_roles r WHERE relkind = 'S' "
        "AND rolname IN ('anon', 'authenticated') AND has_sequence_privilege(r.oid, s.oid, 'USAGE')"
        " AND relnamespace = 'public'::regnamespace",
    )
    assert set(sequences) == {
        ("posts_id_seq", "authenticated"),
        ("letters_id_seq", "authenticated"),
    }
    off = "SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relrowsecurity AND "
    schemas = "relnamespace = 'public'::regnamespace"
    assert await fetch(guarded, off + schemas) == [("alembic_version",)]


def test_names_of_policies_are_never_cut_by_postgres() -> None:
    """A long name is shortened the same way each time, and two that begin alike stay apart."""
    assert policy_name("notes", "SELECT") == "amphibase_notes_select"
    long = ["n" * 46, "n" * 47, "n" * 63, "ü" * 31, "ü" * 30 + "x"]
    parts = list(itertools.product(long, COMMANDS, ROLES))
    names = [policy_name(*part) for part in parts]
    assert all(len(name.encode()) <= 63 for name in names)
    assert len(set(names)) == len(names)
    assert names == [policy_name(*part) for part in parts]


def test_a_table_whose_name_postgres_would_cut_is_rejected_by_name() -> None:
    for name in ("n" * 64, "ü" * 32):
        with pytest.raises(ConfigurationError, match=f"{name} has a name of 64 bytes"):
            TableRules(Table(name, MetaData())).policies()
    assert TableRules(Table("n" * 63, MetaData())).policies() == []


async def test_odd_names_are_quoted(guarded: Application) -> None:
    """Upper case, reserved words, quotes, colons and percent signs go through every way."""
    name = 'Order:x "table" %s'
    note = note_in(guarded, Access(read=owner | admin, write=owner), name)
    note_in(guarded, Access(read=everyone, write=admin), "ü" * 31)
    assert await guarded.revision("odd") is not None
    await guarded.upgrade()
    assert await guarded.differences() == []
    note.__access__ = Access()
    assert await guarded.revision("none") is not None
    await guarded.upgrade()
    assert await guarded.differences() == []
    await guarded.downgrade("application", "0002")
    note.__access__ = Access(read=owner, write=admin)
    await guarded.ensure()
    assert await guarded.differences() == []


async def test_models_of_one_table_must_agree(postgres_application: Application) -> None:
    """A subclass in the same table that says otherwise is rejected, with both declarations."""
    note = note_in(postgres_application)

    class Draft(note):  # type: ignore[misc,valid-type]
        pass

    assert [str(each.declared) for each in declared(postgres_application.models)] == [
        "read: owner; write: owner",
        "read: service; write: service",
    ]
    Draft.__access__ = Access(read=everyone)
    words = r"^Draft \(read: everyone; write: service\) and Note \(read: owner.*notes: declare"
    with pytest.raises(ConfigurationError, match=words):
        schema.policies(postgres_application.models)


async def test_a_wrong_declaration_is_a_readable_error(postgres_application: Application) -> None:
    """Owners need an owner_id that is a UUID, in the table itself."""
    models = models_of(postgres_application)

    class Pet(models):  # type: ignore[misc,valid-type]
        __tablename__ = "pets"
        __access__: Any = Access(read=owner)
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[str]

    with pytest.raises(ConfigurationError, match=r"Pet grants .* has no owner_id that is a UUID"):
        schema.policies(postgres_application.models)
    Pet.__access__ = "owner"
    with pytest.raises(ConfigurationError, match=r"Pet\.__access__ must be an Access"):
        schema.policies(postgres_application.models)


async def test_models_of_other_bases_count_too(guarded: Application) -> None:
    """A SQLModel class whose table is the application's has its policies."""

    class Pet(SQLModel, table=True):
        __tablename__ = "pets"
        __access__ = Access(read=everyone)
        metadata = guarded.models
        id: uuid.UUID = Field(primary_key=True)

    await guarded.ensure()
    assert await fetch(guarded, "SELECT policyname::text FROM pg_policies") == [
        (policy_name(str(Pet.__tablename__), "SELECT"),)
    ]


async def test_the_functions_tell_who_is_asking(guarded: Application) -> None:
    """By the claims, by the settings of older versions, or nobody."""
    await guarded.upgrade()
    ask = "SELECT auth.uid(), auth.role(), auth.email(), auth.jwt()"
    with calling(url_of(guarded), NOBODY) as connection:
        assert connection.execute(ask).fetchone() == (None, None, None, None)
        for name, value in (("sub", ANN), ("role", "anon"), ("email", "ann@example.com")):
            setting = f"request.jwt.claim.{name}"
            connection.execute("SELECT set_config(%s, %s, true)", [setting, str(value)])
        assert connection.execute(ask).fetchone() == (ANN, "anon", "ann@example.com", None)
        claims = {"sub": str(BOB), "role": "authenticated", "email": "bob@example.com"}
        set_claims(connection, claims)
        expected = (BOB, "authenticated", "bob@example.com", claims)
        assert connection.execute(ask).fetchone() == expected
        connection.execute("SELECT set_config('request.jwt.claims', '', true)")
        connection.execute("SELECT set_config('request.jwt.claim.sub', '', true)")
        assert connection.execute("SELECT auth.uid()").fetchone() == (None,)


async def test_a_downgrade_drops_the_functions_it_created(guarded: Application) -> None:
    """Not those of others, and none that something depends on; roles stay."""
    await run(
        guarded,
        "CREATE SCHEMA auth",
        "CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql AS 'SELECT NULL'",
    )
    await guarded.upgrade()
    await run(guarded, "CREATE VIEW me AS SELECT auth.uid()")
    await guarded.downgrade("application", "0001")
    left = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'auth'::regnamespace ORDER BY 1"
    assert await fetch(guarded, left) == [("email",), ("uid",)]
    assert len(await fetch(guarded, "SELECT FROM pg_roles WHERE rolname = 'anon'")) == 1
    await guarded.upgrade()
    assert len(await fetch(guarded, left)) == 4
