"""What a move of accounts does where something is in its way."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import bcrypt
import psycopg
import pytest
from sqlalchemy import insert, make_url, update
from tests.move.accounts import (
    ANN,
    BOB,
    CAS,
    EVE,
    PASSWORD,
    add_people,
    moved,
    moving,
    official_client,
    project_end,
    rows_of,
    sql_accounts,
    sql_end,
    undone,
)

from amphibase.errors import EmailNotConfirmed, StorageFull, UserBanned
from amphibase.models import utc_now
from amphibase.move.accounts.api import ApiAccounts
from amphibase.move.accounts.rows import AuthTable, Values
from amphibase.move.accounts.sqlite import SqliteAccounts
from amphibase.move.endpoints import Role
from amphibase.move.plan import MappingPlan, UserColumns
from amphibase.move.stage import Outcome
from amphibase.schema.tables import tables
from amphibase.testing.supabase import LocalSupabase

NAMESPACE = UUID(int=4711)
PEOPLE = """
    CREATE TABLE people (
        id INTEGER PRIMARY KEY, mail TEXT, password TEXT, active BOOLEAN, joined TIMESTAMP
    )
"""


@pytest.fixture
def sqlite_people(prepared_sqlite: Path, tmp_path: Path) -> str:
    """A SQLite database with the tables of accounts: the rules are the same on every side."""
    shutil.copy(prepared_sqlite, tmp_path / "app.db")
    return f"sqlite:///{tmp_path}/app.db"


def add_own_people(url: str) -> None:
    """A table of users of an application's own: integer ids and bcrypt hashes."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    rows = [
        (1, "Ann@Example.com", hashed, True, "2024-02-29 12:30:15"),
        (2, "bob@example.com", hashed, False, "2024-02-29 12:30:15"),
    ]
    if url.startswith("sqlite"):
        database = sqlite3.connect(str(make_url(url).database))
        database.execute(PEOPLE)
        database.executemany("INSERT INTO people VALUES (?, ?, ?, ?, ?)", rows)
        database.commit()
        database.close()
        return
    with psycopg.connect(url) as connection:
        connection.execute(PEOPLE)
        for row in rows:
            connection.execute("INSERT INTO people VALUES (%s, %s, %s, %s, %s)", row)


async def test_a_table_of_users_with_integer_ids_becomes_accounts(
    database_url: str, supabase: LocalSupabase, tmp_path: Path
) -> None:
    add_own_people(database_url)
    verified = await moved(
        sql_end(Role.SOURCE, database_url),
        project_end(Role.TARGET, supabase, has_database=True),
        tmp_path,
        table="people" if database_url.startswith("sqlite") else "public.people",
        columns=UserColumns(
            id="id",
            email="mail",
            password_hash="password",
            is_active="active",
            created_at="joined",
        ),
        mappings={
            "people": MappingPlan(
                source="people" if database_url.startswith("sqlite") else "public.people",
                column="id",
                namespace=str(NAMESPACE),
                table="people_ids",
            )
        },
    )
    assert verified.differences == []
    assert verified.counts["auth.identities"] == (2, 2)
    users = await rows_of(supabase.db_url, "users", "email", "id")
    assert users == [
        ("ann@example.com", uuid5(NAMESPACE, "1")),
        ("bob@example.com", uuid5(NAMESPACE, "2")),
    ]
    async with sql_accounts(supabase.db_url) as backend:
        signed_in = await backend.accounts.sign_in("ann@example.com", PASSWORD)
        assert signed_in.account.created_at.isoformat() == "2024-02-29T12:30:15+00:00"
        with pytest.raises(UserBanned):
            await backend.accounts.sign_in("bob@example.com", PASSWORD)


async def test_a_table_of_users_with_uuids_keeps_them(prepared_url: str, tmp_path: Path) -> None:
    """As fastapi-users has it on SQLite."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    with closing(sqlite3.connect(f"{tmp_path}/here.db")) as database:
        database.execute(
            """CREATE TABLE user (id CHAR(36) PRIMARY KEY, email VARCHAR, hashed_password VARCHAR,
            is_active BOOLEAN, is_superuser BOOLEAN, is_verified BOOLEAN)"""
        )
        database.executemany(
            "INSERT INTO user VALUES (?, ?, ?, ?, ?, ?)",
            [
                (str(ANN), "ann@example.com", hashed, True, True, True),
                (str(BOB), "bob@example.com", hashed, True, False, False),
            ],
        )
        database.commit()
    verified = await moved(
        sql_end(Role.SOURCE, f"sqlite:///{tmp_path}/here.db"),
        sql_end(Role.TARGET, prepared_url),
        tmp_path,
        table="user",
        columns=UserColumns(
            id="id",
            email="email",
            password_hash="hashed_password",
            is_active="is_active",
            is_confirmed="is_verified",
            is_admin="is_superuser",
        ),
    )
    assert verified.differences == []
    async with sql_accounts(prepared_url) as backend:
        ann = (await backend.accounts.sign_in("ann@example.com", PASSWORD)).account
        assert (ann.id, ann.app_metadata["role"]) == (ANN, "admin")
        with pytest.raises(EmailNotConfirmed):
            await backend.accounts.sign_in("bob@example.com", PASSWORD)
        bob = await backend.accounts.get(BOB)
    assert bob is not None
    assert "role" not in bob.app_metadata


async def test_a_change_of_the_source_during_the_move_arrives_over_the_api_too(
    sqlite_people: str, supabase: LocalSupabase, tmp_path: Path
) -> None:
    await add_people(sqlite_people)
    source, target = sql_end(Role.SOURCE, sqlite_people), project_end(Role.TARGET, supabase)
    async with sql_accounts(sqlite_people) as backend:
        await backend.accounts.update(EVE, app_metadata={"role": "admin"})
    await moved(source, target, tmp_path)
    async with sql_accounts(sqlite_people) as backend:
        await backend.accounts.update(ANN, password="another password", user_metadata={"a": 1})
        await backend.accounts.update(EVE, email="eve@example.org", app_metadata={"role": None})
        await backend.accounts.delete(BOB)
        await backend.accounts.create("new@example.com", password=PASSWORD)
    async with moving(source, target, tmp_path) as stage:
        await stage.run()
        assert await stage.reconcile() == 3  # the new one came with the run
        assert await stage.reconcile() == 0
        assert (await stage.verify()).differences == []
    users = await rows_of(supabase.db_url, "users", "email", "raw_app_meta_data")
    assert [email for email, metadata in users if "role" in metadata] == ["ann@example.com"]
    emails = [email for (email,) in await rows_of(supabase.db_url, "users", "email")]
    assert emails == ["ann@example.com", "cas@example.com", "eve@example.org", "new@example.com"]
    async with sql_accounts(supabase.db_url) as backend:
        await backend.accounts.sign_in("ann@example.com", "another password")


async def test_a_run_that_was_cut_off_goes_on_and_writes_nobody_twice(
    sqlite_people: str, supabase: LocalSupabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_people(sqlite_people)
    source, target = sql_end(Role.SOURCE, sqlite_people), project_end(Role.TARGET, supabase)
    insert = ApiAccounts.insert

    async def cut_off(side: ApiAccounts, table: AuthTable, rows: list[Values]) -> Any:
        await insert(side, table, rows[:2])
        raise ConnectionError("the power went out")

    monkeypatch.setattr(ApiAccounts, "insert", cut_off)
    async with moving(source, target, tmp_path) as stage:
        with pytest.raises(ConnectionError):
            await stage.run()
    monkeypatch.undo()
    verified = await moved(source, target, tmp_path)
    assert verified.differences == []
    assert verified.counts["auth.users"] == (4, 4)
    assert await undone(source, target, tmp_path) == []
    assert await rows_of(supabase.db_url, "users", "id") == []


async def test_who_was_on_the_target_before_stays_and_is_not_undone(
    sqlite_people: str, supabase: LocalSupabase, tmp_path: Path
) -> None:
    await add_people(sqlite_people)
    async with sql_accounts(supabase.db_url) as backend:
        await backend.accounts.create("old.ann@example.com", id=ANN)
        await backend.accounts.create("bob@example.com")  # under another id
    source = sql_end(Role.SOURCE, sqlite_people)
    target = project_end(Role.TARGET, supabase, has_database=True)
    async with moving(source, target, tmp_path) as stage:
        (check,) = [each for each in await stage.check() if each.outcome is Outcome.FAIL]
        assert "merge = true" in check.message
    verified = await moved(source, target, tmp_path, merge=True)
    assert verified.differences == []
    emails = {email for (email,) in await rows_of(supabase.db_url, "users", "email")}
    assert emails == {
        "old.ann@example.com",
        "bob@example.com",
        "cas@example.com",
        "eve@example.com",
    }
    quarantined = (tmp_path / "plan.quarantine.jsonl").read_text()
    assert str(BOB) in quarantined
    assert "$2b$" not in quarantined
    async with sql_accounts(supabase.db_url) as backend:
        await backend.accounts.update(CAS, user_metadata={"used": True})
    kept = await undone(source, target, tmp_path, merge=True)
    assert [(each.key, each.reason) for each in kept] == [
        (str(CAS), "changed since: raw_user_meta_data, updated_at")
    ]
    emails = {email for (email,) in await rows_of(supabase.db_url, "users", "email")}
    assert emails == {"old.ann@example.com", "bob@example.com", "cas@example.com"}


async def test_people_stay_signed_in_where_tokens_are_found_by_their_hash(
    supabase: LocalSupabase, sqlite_people: str, tmp_path: Path
) -> None:
    async with official_client(supabase) as client:
        await client.auth.sign_up({"email": "ann@example.com", "password": PASSWORD})
        session = await client.auth.get_session()
        assert session is not None
    source = project_end(Role.SOURCE, supabase, has_database=True)
    verified = await moved(source, sql_end(Role.TARGET, sqlite_people), tmp_path)
    assert verified.differences == []
    assert verified.counts["auth.refresh_tokens"] == (1, 1)
    async with sql_accounts(sqlite_people) as backend:
        refreshed = await backend.accounts.refresh(session.refresh_token)
        assert str(refreshed.account.id) == session.user.id


async def test_sessions_whose_tokens_only_auth_can_make_are_counted_and_left(
    supabase: LocalSupabase, sqlite_people: str, tmp_path: Path
) -> None:
    async with official_client(supabase) as client:
        await client.auth.sign_up({"email": "ann@example.com", "password": PASSWORD})
    with psycopg.connect(supabase.db_url) as connection:
        connection.execute("UPDATE auth.sessions SET refresh_token_hmac_key = 'key'")
    source = project_end(Role.SOURCE, supabase, has_database=True)
    verified = await moved(source, sql_end(Role.TARGET, sqlite_people), tmp_path)
    assert verified.differences == []
    assert verified.counts["auth.sessions"] == (0, 0)
    assert verified.counts["auth.refresh_tokens"] == (0, 0)


async def test_identities_of_others_stay_where_the_plan_says_so(
    sqlite_people: str, supabase: LocalSupabase, tmp_path: Path
) -> None:
    await add_people(sqlite_people)
    target = project_end(Role.TARGET, supabase, has_database=True)
    verified = await moved(sql_end(Role.SOURCE, sqlite_people), target, tmp_path, identities=False)
    assert verified.differences == []
    assert verified.counts["auth.identities"] == (4, 4)
    providers = await rows_of(supabase.db_url, "identities", "provider")
    assert {*providers} == {("email",)}


async def test_what_does_not_move_is_named_before_it_does_not(
    sqlite_people: str, supabase: LocalSupabase, tmp_path: Path
) -> None:
    await add_people(sqlite_people)
    async with sql_accounts(sqlite_people) as backend, backend.database.write() as connection:
        users = tables(backend.database.dialect).users
        encrypted = '{"key_id": "k", "alg": "aes-gcm-hkdf", "data": "d", "nonce": "n"}'
        await connection.execute(
            update(users).where(users.c.id == BOB).values(encrypted_password=encrypted)
        )
        await connection.execute(update(users).where(users.c.id == CAS).values(email=None))
        await connection.execute(insert(users).values(id=uuid4(), is_anonymous=True, email=None))
        metadata = {"name": None, "notes": ["null"]}
        await connection.execute(
            update(users).where(users.c.id == ANN).values(raw_user_meta_data=metadata)
        )
    source, target = sql_end(Role.SOURCE, sqlite_people), project_end(Role.TARGET, supabase)
    async with moving(source, target, tmp_path) as stage:
        warned = [check.message for check in await stage.check() if check.outcome is Outcome.WARN]
        assert {reset async for reset in stage.must_reset()} == {
            "bob@example.com",
            "eve@example.com",
        }
    named = {message.removeprefix("do not move: ").partition(" (")[0] for message in warned}
    assert named == {
        "1 anonymous accounts",
        "1 identities of github",
        "1 second factors",
        "members of the metadata of 1 accounts that are null",
        "passwords of 1 accounts",
    }


@pytest.mark.parametrize(("which", "kept"), [("first", ANN), ("last", EVE)])
async def test_of_addresses_that_differ_by_case_alone_the_plan_says_which_account_moves(
    which: str, kept: UUID, sqlite_people: str, supabase: LocalSupabase, tmp_path: Path
) -> None:
    await add_people(sqlite_people)
    async with sql_accounts(sqlite_people) as backend, backend.database.write() as connection:
        users = tables(backend.database.dialect).users
        later = {"email": "Ann@Example.com", "created_at": utc_now()}
        await connection.execute(update(users).where(users.c.id == EVE).values(later))
    source, target = sql_end(Role.SOURCE, sqlite_people), project_end(Role.TARGET, supabase)
    async with moving(source, target, tmp_path) as stage:
        (failed,) = [each for each in await stage.check() if each.outcome is Outcome.FAIL]
        assert f"{ANN}, {EVE}" in failed.message
    verified = await moved(source, target, tmp_path, same_address=which)
    assert verified.differences == []
    ids = {id for (id,) in await rows_of(supabase.db_url, "users", "id")}
    assert ids == {kept, BOB, CAS}


@pytest.mark.parametrize("column", ["email", "encrypted_password"])
async def test_an_account_whose_text_is_not_utf_8_is_rejected_alone(
    column: str, prepared_sqlite: Path, tmp_path: Path, prepared_url: str
) -> None:
    shutil.copy(prepared_sqlite, tmp_path / "before.db")
    await add_people(f"sqlite:///{tmp_path}/before.db")
    with closing(sqlite3.connect(tmp_path / "before.db")) as database:
        statement = f"UPDATE auth_users SET {column} = CAST(x'ff40' AS TEXT) WHERE id = ?"
        database.execute(statement, [BOB.hex])
        database.commit()
    source = sql_end(Role.SOURCE, f"sqlite:///{tmp_path}/before.db")
    assert (await moved(source, sql_end(Role.TARGET, prepared_url), tmp_path)).differences == []
    ids = {id for (id,) in await rows_of(prepared_url, "users", "id")}
    if column == "email":
        assert ids == {ANN, CAS, EVE}
        assert "is not UTF-8" in (tmp_path / "plan.quarantine.jsonl").read_text()
    else:
        assert ids == {ANN, BOB, CAS, EVE}  # no hash of a known kind, which does not move


async def test_a_full_disk_is_named_while_accounts_are_written_to_sqlite(
    sqlite_people: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def nearly_full(path: str, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(path, **options)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    row: Values = {"id": str(ANN), "raw_user_meta_data": json.dumps("x" * 100_000)}
    monkeypatch.setattr(sqlite3, "connect", nearly_full)
    side = SqliteAccounts(make_url(sqlite_people))
    try:
        with pytest.raises(StorageFull, match="no room on the disk"):
            await side.insert(AuthTable.USERS, [row])
    finally:
        await side.close()


PROFILES = """
    CREATE TABLE public.own_profiles (id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE);
    CREATE FUNCTION public.make_own_profile() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.own_profiles VALUES (new.id); RETURN new; END';
    CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users
        FOR EACH ROW EXECUTE FUNCTION public.make_own_profile();
"""
NO_PROFILES = """
    DROP TRIGGER on_auth_user_created ON auth.users;
    DROP FUNCTION public.make_own_profile;
    DROP TABLE public.own_profiles;
"""


@pytest.fixture
def own_profiles(supabase: LocalSupabase) -> Iterator[psycopg.Connection]:
    """A table of profiles in the project, filled by a trigger as in Supabase's documentation."""
    with psycopg.connect(supabase.db_url, autocommit=True) as connection:
        connection.execute(PROFILES)
        try:
            yield connection
        finally:
            connection.execute(NO_PROFILES)


async def test_no_trigger_makes_a_profile_and_a_user_who_has_one_is_not_undone(
    own_profiles: psycopg.Connection, supabase: LocalSupabase, sqlite_people: str, tmp_path: Path
) -> None:
    await add_people(sqlite_people)
    source = sql_end(Role.SOURCE, sqlite_people)
    target = project_end(Role.TARGET, supabase, has_database=True)
    assert (await moved(source, target, tmp_path)).differences == []
    assert own_profiles.execute("SELECT count(*) FROM own_profiles").fetchone() == (0,)
    own_profiles.execute("INSERT INTO own_profiles VALUES (%s)", (ANN,))
    kept = await undone(source, target, tmp_path)
    assert [(each.key, each.reason) for each in kept] == [
        (str(ANN), "rows of own_profiles refer to it")
    ]
    assert await rows_of(supabase.db_url, "users", "id") == [(ANN,)]


async def test_who_is_deleted_at_a_project_during_the_move_is_deleted_here(
    supabase: LocalSupabase, sqlite_people: str, tmp_path: Path
) -> None:
    await add_people(supabase.db_url)
    source, target = project_end(Role.SOURCE, supabase), sql_end(Role.TARGET, sqlite_people)
    await moved(source, target, tmp_path)
    async with sql_accounts(supabase.db_url) as backend:
        await backend.accounts.delete(BOB)
    async with moving(source, target, tmp_path) as stage:
        assert await stage.reconcile() == 1
        assert (await stage.verify()).differences == []
    assert {id for (id,) in await rows_of(sqlite_people, "users", "id")} == {ANN, CAS, EVE}
