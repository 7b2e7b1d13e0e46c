"""A user's own change of address in a Supabase project."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from tests.backends import SECRET
from tests.supabase_projects import settings_of

from amphibase import ANONYMOUS, InvalidCredentials, InvalidLink
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import Backend
from amphibase.build import build_backend
from amphibase.testing.supabase import LocalSupabase

OLD, NEW, PASSWORD = "ann@example.com", "ann@new.example", "correct horse battery"


@pytest.fixture
async def backend(supabase: LocalSupabase, tmp_path: Path) -> AsyncIterator[Backend]:
    settings = settings_of(supabase, data_dir=tmp_path, secret_key=SECRET)
    opened = build_backend(settings, load_keys(settings))
    yield opened
    await opened.close()


def token_to(supabase: LocalSupabase, address: str) -> str:
    """Return the token of the newest email to an address."""
    items = httpx.get(f"{supabase.inbox_url}/api/messages").json()["messages"]
    text = next(item["text"] for item in items if address in item["to"])
    match = re.search(r"token=([^&\s]+)", text)
    assert match, text
    return unquote(match[1])


async def test_is_confirmed_by_a_link_and_signs_nobody_in(
    supabase: LocalSupabase, backend: Backend
) -> None:
    signed_up = await backend.accounts.sign_up(OLD, PASSWORD)
    assert signed_up.tokens is not None
    caller = await backend.accounts.authenticate(signed_up.tokens.access_token)
    with pytest.raises(InvalidCredentials):
        await backend.accounts.change_email(caller, "not the password", NEW)
    await backend.accounts.change_email(caller, PASSWORD, NEW)
    first, second = token_to(supabase, NEW), token_to(supabase, OLD)
    # One of them suffices where sign-ups confirm themselves, as upstream.
    account = await backend.accounts.confirm_email_change(ANONYMOUS, first)
    assert account is not None
    assert (account.id, account.email) == (signed_up.account.id, NEW)
    with pytest.raises(InvalidLink):
        await backend.accounts.confirm_email_change(ANONYMOUS, second)
    assert (await backend.accounts.sign_in(NEW, PASSWORD)).account.id == account.id


async def test_nothing_tells_that_an_address_has_an_account(backend: Backend) -> None:
    signed_up = await backend.accounts.sign_up(OLD, PASSWORD)
    await backend.accounts.sign_up(NEW, PASSWORD)
    assert signed_up.tokens is not None
    caller = await backend.accounts.authenticate(signed_up.tokens.access_token)
    await backend.accounts.change_email(caller, PASSWORD, NEW)
    account = await backend.accounts.get(signed_up.account.id)
    assert account is not None
    assert account.email == OLD
