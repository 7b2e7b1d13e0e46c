"""Accounts and files over the API of a project that fails as networks and busy servers do."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from tests.move import accounts, files
from tests.move.accounts import add_people, project_end, sql_end
from tests.move.files import BUCKET, FILES, LARGE, ProjectStore, SqlStore, TestFile
from tests.supabase.fault_proxy import (
    BAD_GATEWAY,
    SERVER_BUSY,
    FaultProxy,
    fault_proxy,
    too_many_requests,
)

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.errors import MoveFailed
from amphibase.move.endpoints import Role
from amphibase.move.files.project import ProjectFileSide
from amphibase.supabase import retry
from amphibase.supabase.resumable_upload import PART_BYTES
from amphibase.testing.supabase import LocalSupabase

FAULTS: list[str | bytes | float] = [
    too_many_requests(1),
    "lose",
    BAD_GATEWAY,
    "drop",
    SERVER_BUSY,
    "lose",
    "cut",
]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)


@pytest.fixture
async def proxy(supabase: LocalSupabase) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(supabase.url) as opened:
        yield opened


@pytest.fixture
def faulty(supabase: LocalSupabase, proxy: FaultProxy) -> LocalSupabase:
    """The project behind the proxy."""
    return replace(supabase, url=proxy.url)


@pytest.fixture
def sql(prepared_sqlite: Path, tmp_path: Path) -> SqlStore:
    shutil.copy(prepared_sqlite, tmp_path / "app.db")
    return SqlStore(f"sqlite:///{tmp_path}/app.db", tmp_path / "blobs")


async def test_accounts_arrive_once_whatever_fails_on_the_way(
    sql: SqlStore, faulty: LocalSupabase, proxy: FaultProxy, tmp_path: Path
) -> None:
    await add_people(sql.url)
    source, target = sql_end(Role.SOURCE, sql.url), project_end(Role.TARGET, faulty)
    async with accounts.moving(source, target, tmp_path) as stage:
        await stage.check()
        proxy.faults = [*FAULTS]
        await stage.run()
        proxy.faults = [*FAULTS]
        assert await stage.reconcile() == 0
        verified = await stage.verify()
    assert verified.differences == []
    assert verified.counts["auth.users"] == (4, 4)


async def test_files_arrive_whole_whatever_fails_on_the_way(
    sql: SqlStore, supabase: LocalSupabase, faulty: LocalSupabase, proxy: FaultProxy, tmp_path: Path
) -> None:
    await sql.add(FILES)
    source, target = sql_end(Role.SOURCE, sql.url, sql.files), project_end(Role.TARGET, faulty)
    async with files.moving(source, target, tmp_path) as stage:
        proxy.faults = [*FAULTS]
        await stage.run()
        proxy.faults = [*FAULTS, *FAULTS]  # while they are read
        assert (await stage.verify()).differences == []
    assert await ProjectStore(supabase).read() == FILES


@pytest.mark.parametrize("kind", [accounts, files], ids=["accounts", "files"])
async def test_a_key_that_expires_ends_the_move_and_rejects_nothing(
    kind: ModuleType, sql: SqlStore, supabase: LocalSupabase, tmp_path: Path
) -> None:
    await add_people(sql.url)
    await sql.add({"a": TestFile(b"first")})
    keys = KeyRing([Key.from_secret(supabase.jwt_secret)])
    expired = replace(supabase, service_role_key=keys.issue({"role": "service_role", "exp": 1}))
    source, target = sql_end(Role.SOURCE, sql.url, sql.files), project_end(Role.TARGET, expired)
    async with kind.moving(source, target, tmp_path) as stage:
        with pytest.raises(MoveFailed, match="SUPABASE_SERVICE_KEY"):
            await stage.run()
    assert not (tmp_path / "plan.quarantine.jsonl").exists()


async def test_a_large_upload_goes_on_where_a_run_was_cut_off(
    sql: SqlStore, supabase: LocalSupabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sql.add({"large.bin": TestFile(LARGE)})
    source, target = sql_end(Role.SOURCE, sql.url, sql.files), project_end(Role.TARGET, supabase)
    send = ProjectFileSide._send_part
    sent: list[int] = []

    async def cut_off(
        side: ProjectFileSide, path: str, offset: int, part: bytes, *rest: dict[str, str]
    ) -> None:
        if sent:
            raise ConnectionError("the power went out")
        sent.append(len(part))
        await send(side, path, offset, part, *rest)

    async def counted(
        side: ProjectFileSide, path: str, offset: int, part: bytes, *rest: dict[str, str]
    ) -> None:
        sent.append(len(part))
        await send(side, path, offset, part, *rest)

    monkeypatch.setattr(ProjectFileSide, "_send_part", cut_off)
    async with files.moving(source, target, tmp_path) as stage:
        with pytest.raises(ConnectionError):
            await stage.run()
    monkeypatch.setattr(ProjectFileSide, "_send_part", counted)
    assert (await files.moved(source, target, tmp_path)).differences == []
    assert sent == [PART_BYTES, len(LARGE) - PART_BYTES]


async def test_a_run_that_was_cut_off_leaves_no_bytes_without_a_row(
    sql: SqlStore, supabase: LocalSupabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ProjectStore(supabase).add({"a": TestFile(b"first"), "b": TestFile(b"second")})
    source, target = project_end(Role.SOURCE, supabase), sql_end(Role.TARGET, sql.url, sql.files)

    async def cut_off(*_: object) -> None:
        raise SystemError("the power went out")

    with monkeypatch.context() as patch:
        patch.setattr("amphibase.move.files.sql.swap", cut_off)  # bytes are there, and no row
        async with files.moving(source, target, tmp_path) as stage:
            with pytest.raises(SystemError):
                await stage.run()
    assert sql.blobs > 0
    assert (await files.moved(source, target, tmp_path)).differences == []
    assert sql.blobs == 2
    async with files.moving(source, target, tmp_path) as stage:
        assert [kept async for kept in stage.undo()] == []
    assert sql.blobs == 0
    assert BUCKET not in await sql.buckets()
