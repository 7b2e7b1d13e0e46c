"""Accounts from one side to another: who they are, and that they sign in as before."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from tests.conftest import prepared_database
from tests.move.accounts import (
    ANN,
    BOB,
    CAS,
    EVE,
    PASSWORD,
    SECRET,
    add_people,
    database_of,
    moved,
    official_client,
    project_end,
    rows_of,
    sql_accounts,
    sql_end,
)

from amphibase.errors import InvalidCredentials, UserBanned
from amphibase.move.endpoints import Endpoint, Role
from amphibase.testing.supabase import LocalSupabase

USER_COLUMNS = (
    "id", "email", "phone", "email_confirmed_at", "phone_confirmed_at", "last_sign_in_at",
    "banned_until", "raw_user_meta_data", "raw_app_meta_data", "created_at", "role", "aud",
)  # fmt: skip
IDENTITY_COLUMNS = ("id", "user_id", "provider", "provider_id", "identity_data", "email")
FACTOR_COLUMNS = ("id", "user_id", "friendly_name", "factor_type", "status", "secret")


@pytest.fixture
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Two ends with a database each, of the kinds that the parameter names."""
    source, target = request.param
    folders = [tmp_path / "source", tmp_path / "target"]
    for folder in folders:
        folder.mkdir()

    def end(kind: str, role: Role, url: str) -> Endpoint:
        if kind == "project":
            project = request.getfixturevalue("supabase")
            return project_end(role, project, has_database=True)
        return sql_end(role, url)

    databases = [
        prepared_database("postgres" if kind == "postgres" else "sqlite", request, folder)
        for kind, folder in zip((source, target), folders, strict=True)
    ]
    with databases[0] as first, databases[1] as second:
        yield end(source, Role.SOURCE, first), end(target, Role.TARGET, second)


@pytest.mark.parametrize(
    "ends",
    [
        ("sqlite", "postgres"),
        ("postgres", "sqlite"),
        ("sqlite", "project"),
        ("project", "sqlite"),
        ("postgres", "project"),
        ("project", "postgres"),
    ],
    indirect=True,
    ids=lambda pair: " to ".join(pair),
)
async def test_accounts_arrive_as_they_were_by_database(
    ends: tuple[Endpoint, Endpoint], tmp_path: Path
) -> None:
    source, target = ends
    await add_people(database_of(source))
    verified = await moved(source, target, tmp_path)
    assert verified.differences == []
    assert verified.counts["auth.users"] == (4, 4)
    assert len({*verified.checksums["auth.users"]}) == 1
    for table, columns in (
        ("users", USER_COLUMNS),
        ("identities", IDENTITY_COLUMNS),
        ("mfa_factors", FACTOR_COLUMNS),
    ):
        before = await rows_of(database_of(source), table, *columns)
        assert await rows_of(database_of(target), table, *columns) == before
    hashes = dict(await rows_of(database_of(target), "users", "id", "encrypted_password"))
    assert hashes[EVE] == ""  # whose hash nobody verifies
    async with sql_accounts(database_of(target)) as backend:
        signed_in = await backend.accounts.sign_in("ann@example.com", PASSWORD)
        assert signed_in.account.id == ANN
        with pytest.raises(UserBanned):
            await backend.accounts.sign_in("bob@example.com", PASSWORD)


@pytest.mark.parametrize("has_database", [True, False], ids=["by database", "by admin API"])
async def test_people_sign_in_at_a_project_with_the_password_of_before(
    has_database: bool, prepared_url: str, supabase: LocalSupabase, tmp_path: Path
) -> None:
    source = sql_end(Role.SOURCE, prepared_url)
    target = project_end(Role.TARGET, supabase, has_database=has_database)
    await add_people(prepared_url)
    verified = await moved(source, target, tmp_path, probe=True)
    assert verified.differences == []
    assert bool(verified.unverified) is not has_database
    async with official_client(supabase) as client:
        signed_in = await client.auth.sign_in_with_password(
            {"email": "ann@example.com", "password": PASSWORD}
        )
        assert signed_in.user is not None
        assert signed_in.user.id == str(ANN)
        assert signed_in.user.user_metadata["name"] == "Ann"
        assert signed_in.user.app_metadata["role"] == "admin"
        if has_database:
            factor = (await client.auth.mfa.list_factors()).totp[0]
            code = pyotp.TOTP(SECRET).now()
            strong = await client.auth.mfa.challenge_and_verify(
                {"factor_id": factor.id, "code": code}
            )
            assert strong.user.id == str(ANN)
    rows: dict[Any, Any] = {
        id: rest
        for id, *rest in await rows_of(
            supabase.db_url, "users", "id", "phone", "email_confirmed_at", "banned_until"
        )
    }
    assert set(rows) == {ANN, BOB, CAS, EVE}
    assert rows[CAS][:2] == ["4930123456", None]
    assert rows[BOB][2] is not None


async def test_accounts_of_an_api_arrive_without_their_passwords(
    supabase: LocalSupabase, prepared_url: str, tmp_path: Path
) -> None:
    await add_people(supabase.db_url)
    source, target = project_end(Role.SOURCE, supabase), sql_end(Role.TARGET, prepared_url)
    verified = await moved(source, target, tmp_path)
    assert verified.differences == []
    assert [each.message for each in verified.unverified] != []
    for table, columns in (("users", USER_COLUMNS), ("identities", IDENTITY_COLUMNS)):
        before = await rows_of(supabase.db_url, table, *columns)
        assert await rows_of(prepared_url, table, *columns) == before
    async with sql_accounts(prepared_url) as backend:
        with pytest.raises(InvalidCredentials):
            await backend.accounts.sign_in("ann@example.com", PASSWORD)
