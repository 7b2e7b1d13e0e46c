"""Flows that go through an email, on a project that has addresses confirmed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.contract.signing_up import OTHER_PASSWORD, PASSWORD, tokens_of
from tests.supabase_projects import reset, settings_of

from amphibase import (
    ConfigurationError,
    EmailNotConfirmed,
    InvalidCredentials,
    InvalidLink,
    InvalidRefreshToken,
    SignUpClosed,
    WeakPassword,
)
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.supabase.backend import SupabaseBackend
from amphibase.testing.supabase import LocalSupabase, serve_projects

ANN = "ann@example.com"


@pytest.fixture(scope="module")
def confirming() -> Iterator[LocalSupabase]:
    """A project that sends confirmations."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GOTRUE_MAILER_AUTOCONFIRM", "false")
            patch.setenv("GOTRUE_SMTP_MAX_FREQUENCY", "0s")
            projects = stack.enter_context(serve_projects())
        yield stack.enter_context(projects.open())


@pytest.fixture
async def backend(confirming: LocalSupabase) -> AsyncIterator[SupabaseBackend]:
    reset(confirming)
    settings = settings_of(confirming, email_confirmation="required")
    opened = SupabaseBackend(settings, load_keys(settings))
    await opened.start()
    yield opened
    await opened.close()


async def emails(backend: SupabaseBackend) -> list[dict[str, Any]]:
    """Return what the project has sent, the latest first."""
    await backend.background.settle()
    async with httpx.AsyncClient() as http:
        response = await http.get(f"{backend.client.project.url}/inbox/api/messages")
    messages: list[dict[str, Any]] = response.json()["messages"]
    return messages


async def token_of_email(backend: SupabaseBackend) -> str:
    """Return the token of the link in the latest email."""
    email = (await emails(backend))[0]
    assert email["to"] == [ANN]
    (link,) = [word for word in email["text"].split() if "/auth/v1/verify?" in word]
    return str(parse_qs(urlsplit(link).query)["token"][0])


async def test_a_confirmation_lets_its_user_in(backend: SupabaseBackend) -> None:
    accounts = backend.accounts
    signed_up = await accounts.sign_up(ANN, PASSWORD, name="Ann")
    assert signed_up.tokens is None
    with pytest.raises(EmailNotConfirmed):
        await accounts.sign_in(ANN, PASSWORD)
    token = await token_of_email(backend)
    verified = await accounts.verify_email(token)
    assert verified.account.email_confirmed_at is not None
    assert verified.tokens is None
    with pytest.raises(InvalidLink):
        await accounts.verify_email(token)
    signed_in = await accounts.sign_in(ANN, PASSWORD)
    assert signed_in.account.user_metadata["name"] == "Ann"


async def test_a_confirmation_is_sent_again(backend: SupabaseBackend) -> None:
    await backend.accounts.sign_up(ANN, PASSWORD)
    await backend.accounts.resend_verification(ANN)
    await backend.accounts.verify_email(await token_of_email(backend))
    await backend.accounts.sign_in(ANN, PASSWORD)


async def test_a_reset_ends_all_sessions_and_the_link(backend: SupabaseBackend) -> None:
    accounts = backend.accounts
    await accounts.create(ANN, password=PASSWORD)
    tokens = tokens_of(await accounts.sign_in(ANN, PASSWORD))
    await accounts.forgot_password(ANN)
    token = await token_of_email(backend)
    with pytest.raises(WeakPassword):
        await accounts.reset_password(token, "short")
    await accounts.reset_password(token, OTHER_PASSWORD)
    with pytest.raises(InvalidLink):
        await accounts.reset_password(token, PASSWORD)
    with pytest.raises(InvalidRefreshToken):
        await accounts.refresh(tokens.refresh_token)
    with pytest.raises(InvalidCredentials):
        await accounts.sign_in(ANN, PASSWORD)
    await accounts.sign_in(ANN, OTHER_PASSWORD)


async def test_nothing_shows_that_an_address_is_unknown(backend: SupabaseBackend) -> None:
    await backend.accounts.forgot_password("nobody@example.com")
    await backend.accounts.resend_verification("nobody@example.com")
    assert not any("nobody@example.com" in email["to"] for email in await emails(backend))


async def test_an_invitation_is_accepted_with_a_password(backend: SupabaseBackend) -> None:
    accounts = backend.accounts
    invited = await accounts.invite(ANN, app_metadata={"role": "admin"})
    assert invited.app_metadata["role"] == "admin"
    accepted = await accounts.accept_invitation(await token_of_email(backend), PASSWORD, name="Ann")
    assert accepted.account.user_metadata["name"] == "Ann"
    caller = await accounts.authenticate(tokens_of(accepted).access_token)
    assert caller.is_admin
    await accounts.refresh(tokens_of(accepted).refresh_token)
    await accounts.sign_in(ANN, PASSWORD)


async def test_a_closed_sign_up_takes_neither_sign_ups_nor_invitations(
    backend: SupabaseBackend, confirming: LocalSupabase
) -> None:
    settings = settings_of(confirming, sign_up="closed")
    closed = SupabaseBackend(settings, load_keys(settings))
    with pytest.raises(SignUpClosed):
        await closed.accounts.sign_up(ANN, PASSWORD)
    with pytest.raises(SignUpClosed):
        await closed.accounts.invite(ANN)
    await closed.close()


@pytest.mark.parametrize(
    "overrides",
    [
        {"email_confirmation": "required"},
        {"sign_up": "invited"},
        {"sign_up": "closed"},
        {"confirmation_asks_password": True},
    ],
    ids=str,
)
async def test_a_protection_that_the_project_does_not_have_is_an_error_at_start(
    supabase: LocalSupabase, overrides: dict[str, object]
) -> None:
    settings = settings_of(supabase, **overrides)
    backend = SupabaseBackend(settings, load_keys(settings))
    with pytest.raises(ConfigurationError, match=next(iter(overrides)).upper()):
        await backend.start()
    await backend.close()
