"""Rotation and reuse of refresh tokens in an SQL backend."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from amphibase import InvalidRefreshToken, SessionEnded
from amphibase.backend import SignedIn
from amphibase.models import utc_now
from amphibase.schema.tables import tables
from amphibase.sql.backend import SqlBackend

PASSWORD = "correct horse battery"


@pytest.fixture
def settings(make_settings):  # type: ignore[no-untyped-def]
    """No grace for used tokens: what counts is their place in the chain."""
    return make_settings(refresh_reuse_seconds=0)


async def refreshed(backend: SqlBackend, token: str) -> str:
    response: SignedIn = await backend.accounts.refresh(token)
    assert response.tokens is not None
    return response.tokens.refresh_token


async def first_token(backend: SqlBackend) -> str:
    signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
    assert signed_in.tokens is not None
    return signed_in.tokens.refresh_token


async def test_the_parent_of_the_active_token_gets_the_active_one(backend: SqlBackend) -> None:
    first = await first_token(backend)
    second = await refreshed(backend, first)
    assert await refreshed(backend, first) == second


async def test_a_token_used_long_before_ends_the_session_for_good(backend: SqlBackend) -> None:
    signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
    assert signed_in.tokens is not None
    first = signed_in.tokens.refresh_token
    third = await refreshed(backend, await refreshed(backend, first))
    with pytest.raises(InvalidRefreshToken, match="used before"):
        await backend.accounts.refresh(first)
    with pytest.raises(InvalidRefreshToken):
        await backend.accounts.refresh(third)
    with pytest.raises(SessionEnded):
        await backend.accounts.authenticate(signed_in.tokens.access_token)


async def test_the_users_other_sessions_live_on(backend: SqlBackend) -> None:
    first = await first_token(backend)
    elsewhere = await backend.accounts.sign_in("ann@example.com", PASSWORD)
    assert elsewhere.tokens is not None
    await refreshed(backend, await refreshed(backend, first))
    with pytest.raises(InvalidRefreshToken):
        await backend.accounts.refresh(first)
    await backend.accounts.refresh(elsewhere.tokens.refresh_token)


async def test_a_deleted_users_token_is_rejected(backend: SqlBackend) -> None:
    """An account that Supabase marked as deleted is not there, whatever sessions it left."""
    first = await first_token(backend)
    users = tables(backend.database.dialect).users
    async with backend.database.write() as connection:
        await connection.execute(update(users).values(deleted_at=utc_now()))
    with pytest.raises(InvalidRefreshToken):
        await backend.accounts.refresh(first)


async def test_a_session_that_was_never_refreshed_is_swept_too(backend: SqlBackend) -> None:
    """Its age is counted from its start where a backend noted no refresh."""
    await first_token(backend)
    table = tables(backend.database.dialect).sessions
    async with backend.database.write() as connection:
        long_ago = utc_now() - timedelta(days=31)
        await connection.execute(update(table).values(created_at=long_ago, refreshed_at=None))
    await backend.accounts.sign_in("ann@example.com", PASSWORD)
    async with backend.database.read() as connection:
        assert len((await connection.execute(select(table))).all()) == 1


async def test_used_tokens_are_deleted_when_they_have_expired(
    backend: SqlBackend,
) -> None:
    """A session that is refreshed for years does not gather a row each time."""
    second = await refreshed(backend, await first_token(backend))
    table = tables(backend.database.dialect).refresh_tokens
    async with backend.database.write() as connection:
        long_ago = utc_now() - timedelta(days=31)
        await connection.execute(
            update(table).where(table.c.revoked).values(created_at=long_ago, updated_at=long_ago)
        )
    await refreshed(backend, second)
    async with backend.database.read() as connection:
        assert len((await connection.execute(select(table))).all()) == 2


async def test_no_token_is_stored_as_it_is(backend: SqlBackend) -> None:
    first = await first_token(backend)
    second = await refreshed(backend, first)
    table = tables(backend.database.dialect).refresh_tokens
    async with backend.database.read() as connection:
        stored = str((await connection.execute(select(table))).all())
    assert first not in stored
    assert second not in stored
