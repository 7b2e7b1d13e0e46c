"""Accounts whose passwords stayed behind in a Supabase project."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.backends import SECRET
from tests.supabase_projects import settings_of

from amphibase import load_settings
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.build import build_backend
from amphibase.errors import ConfigurationError, InvalidCredentials, Unavailable
from amphibase.sql.backend import SqlBackend
from amphibase.supabase.backend import SupabaseBackend
from amphibase.testing.supabase import LocalSupabase

EMAIL, PASSWORD = "ann@example.com", "the password of before"


@pytest.fixture
async def project(supabase: LocalSupabase) -> AsyncIterator[SupabaseBackend]:
    """The project that the accounts have come from."""
    settings = settings_of(supabase)
    opened = SupabaseBackend(settings, load_keys(settings))
    yield opened
    await opened.close()


def backend_of(url: str, tmp_path: Path, project_url: str, key: str) -> SqlBackend:
    settings = load_settings(
        database_url=url,
        data_dir=tmp_path,
        secret_key=SECRET,
        previous_supabase_url=project_url,
        previous_supabase_key=key,
    )
    opened = build_backend(settings, load_keys(settings))
    assert isinstance(opened, SqlBackend)
    return opened


@pytest.fixture
async def backend(
    prepared_url: str, supabase: LocalSupabase, tmp_path: Path
) -> AsyncIterator[SqlBackend]:
    """The backend that the accounts have come to."""
    opened = backend_of(prepared_url, tmp_path, supabase.url, supabase.anon_key)
    yield opened
    await opened.close()


async def moved(project: SupabaseBackend, backend: SqlBackend, **options: Any) -> UUID:
    """An account with a password there, and without one here."""
    account = await project.accounts.create(EMAIL, password=PASSWORD)
    await backend.accounts.create(EMAIL, **{"id": account.id, **options})
    return account.id


async def test_the_first_sign_in_takes_the_password_over(
    project: SupabaseBackend, backend: SqlBackend, caplog: pytest.LogCaptureFixture
) -> None:
    id = await moved(project, backend)
    with caplog.at_level(logging.INFO, "amphibase.accounts"):
        await backend.accounts.start()
        with pytest.raises(InvalidCredentials):
            await backend.accounts.sign_in(EMAIL, "another password")
        assert (await backend.accounts.sign_in(EMAIL, PASSWORD)).account.id == id
        await backend.accounts.start()
    counts = [record.args for record in caplog.records if "previous project" in record.msg]
    assert counts == [(1,), (0,)]
    await project.accounts.delete(id)  # from now on, nobody needs it for that
    assert (await backend.accounts.sign_in(EMAIL, PASSWORD)).account.id == id


@pytest.mark.parametrize("reason", ["has another password here", "is another's there"])
async def test_no_account_takes_over_a_password_that_is_not_its_own(
    reason: str, project: SupabaseBackend, backend: SqlBackend
) -> None:
    own = {"password": "a new password"} if "here" in reason else {"id": uuid4()}
    await moved(project, backend, **own)
    with pytest.raises(InvalidCredentials):
        await backend.accounts.sign_in(EMAIL, PASSWORD)
    assert await project.accounts.get_by_email(EMAIL) is not None


async def test_a_project_that_does_not_respond_is_no_wrong_password(
    prepared_url: str, tmp_path: Path
) -> None:
    backend = backend_of(prepared_url, tmp_path, "http://127.0.0.1:9", "sb_publishable_key")
    with pytest.raises(Unavailable):
        await backend.accounts.sign_in(EMAIL, PASSWORD)
    await backend.close()


def test_a_project_without_its_key_is_an_error_at_start() -> None:
    with pytest.raises(ConfigurationError, match="PREVIOUS_SUPABASE_KEY"):
        load_settings(previous_supabase_url="https://abcdefgh.supabase.co")
