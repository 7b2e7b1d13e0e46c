"""What somebody has done on the target since accounts moved is not undone by the next run."""

import shutil
from pathlib import Path
from uuid import UUID

import pytest
from tests.move.accounts import (
    ANN,
    BOB,
    CAS,
    EVE,
    PASSWORD,
    add_people,
    moved,
    moving,
    project_end,
    rows_of,
    sql_accounts,
    sql_end,
    undone,
)

from amphibase.move.endpoints import Role
from amphibase.testing.supabase import LocalSupabase

NEW = UUID(int=0x5 << 96 | 0x7 << 76 | 0x8 << 60)


@pytest.fixture
async def source_url(prepared_sqlite: Path, tmp_path: Path) -> str:
    """A SQLite database with people of every kind."""
    shutil.copy(prepared_sqlite, tmp_path / "before.db")
    url = f"sqlite:///{tmp_path}/before.db"
    await add_people(url)
    return url


async def test_a_later_run_keeps_what_the_target_has_changed_added_and_deleted(
    source_url: str, prepared_url: str, tmp_path: Path
) -> None:
    source, target = sql_end(Role.SOURCE, source_url), sql_end(Role.TARGET, prepared_url)
    await moved(source, target, tmp_path)
    async with moving(source, target, tmp_path) as stage:
        await stage.finish()
        async with sql_accounts(prepared_url) as backend:
            await backend.accounts.update(BOB, password="a new password")
            await backend.accounts.delete(CAS)
            await backend.accounts.create("new@example.com", id=NEW)
        async with sql_accounts(source_url) as backend:
            await backend.accounts.update(ANN, user_metadata={"name": "Ann of now"})
            await backend.accounts.delete(EVE)
        before = await rows_of(prepared_url, "users", "id", "encrypted_password")
        await stage.reconcile()
        assert await stage.reconcile() == 0
        users = await rows_of(prepared_url, "users", "id", "encrypted_password")
        assert users == [row for row in before if row[0] != EVE]
        metadata = dict(await rows_of(prepared_url, "users", "id", "raw_user_meta_data"))
        assert metadata[ANN]["name"] == "Ann of now"
        verified = await stage.verify()
    assert [
        (each.key, each.message.partition(",")[0])
        for each in sorted(verified.differences, key=lambda each: str(each.key))
        if each.subject == "auth.users"
    ] == [
        (str(BOB), "was changed on the target since"),
        (str(CAS), "was deleted on the target since"),
        (str(NEW), "is on the target alone"),
    ]
    assert verified.counts["auth.users"] == (3, 3)


async def test_a_run_that_overwrites_makes_the_accounts_those_of_the_source(
    source_url: str, prepared_url: str, tmp_path: Path
) -> None:
    source, target = sql_end(Role.SOURCE, source_url), sql_end(Role.TARGET, prepared_url)
    await moved(source, target, tmp_path)
    async with moving(source, target, tmp_path, overwrite=True) as stage:
        await stage.finish()
        async with sql_accounts(prepared_url) as backend:
            await backend.accounts.update(BOB, password="a new password")
            await backend.accounts.delete(CAS)
            await backend.accounts.create("new@example.com", id=NEW)
        await stage.reconcile()
        assert (await stage.verify()).differences == []
    users = await rows_of(prepared_url, "users", "id", "encrypted_password")
    hashes = dict(await rows_of(source_url, "users", "id", "encrypted_password"))
    assert {id for id, _ in users} == {ANN, BOB, CAS, EVE}
    assert dict(users)[BOB] == hashes[BOB]


async def test_over_the_api_a_later_run_keeps_what_the_target_has_changed_too(
    source_url: str, supabase: LocalSupabase, tmp_path: Path
) -> None:
    source, target = sql_end(Role.SOURCE, source_url), project_end(Role.TARGET, supabase)
    await moved(source, target, tmp_path)
    async with moving(source, target, tmp_path) as stage:
        await stage.finish()
        async with sql_accounts(supabase.db_url) as backend:
            await backend.accounts.update(BOB, email="bob@example.org")
            await backend.accounts.delete(CAS)
        async with sql_accounts(source_url) as backend:
            await backend.accounts.update(ANN, password="another password")
            await backend.accounts.update(EVE, email="eve@example.org")
        assert await stage.reconcile() == 1
        emails = {email for (email,) in await rows_of(supabase.db_url, "users", "email")}
        assert emails == {"ann@example.com", "bob@example.org", "eve@example.org"}
        different = {each.key for each in (await stage.verify()).differences}
    assert different == {str(BOB), str(CAS)}
    # That of Ann may be in use, and the API would take another of a new account only.
    assert str(ANN) in (tmp_path / "plan.quarantine.jsonl").read_text()
    async with sql_accounts(supabase.db_url) as backend:
        await backend.accounts.sign_in("ann@example.com", PASSWORD)


async def test_undo_keeps_who_was_used_since_even_if_the_source_has_lost_them(
    source_url: str, prepared_url: str, tmp_path: Path
) -> None:
    source, target = sql_end(Role.SOURCE, source_url), sql_end(Role.TARGET, prepared_url)
    await moved(source, target, tmp_path)
    async with sql_accounts(prepared_url) as backend:
        await backend.accounts.sign_in("ann@example.com", PASSWORD)
    async with sql_accounts(source_url) as backend:
        await backend.accounts.delete(ANN)
        await backend.accounts.delete(CAS)
    kept = await undone(source, target, tmp_path)
    assert [(each.key, each.reason) for each in kept] == [
        (str(ANN), "changed or used since, and is gone from the source")
    ]
    assert await rows_of(prepared_url, "users", "id") == [(ANN,)]
