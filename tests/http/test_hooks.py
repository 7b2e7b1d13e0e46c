"""Hooks of an application: on sign-ups and invitations, and on access tokens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI, HTTPException
from tests.column_models import Receipt
from tests.conftest import SECRET, MakeSettings
from tests.outbox import messages, token_in

from amphibase import (
    SERVICE,
    Account,
    Amphibase,
    Claims,
    ConfigurationError,
    Forbidden,
    NotSupported,
    Settings,
    SignUpAttempt,
    Transaction,
    User,
    load_settings,
)
from amphibase.backend.combined import CombinedBackend
from amphibase.http.state import State
from amphibase.services.hooks import HookFunctions
from amphibase.sql.backend import SqlBackend
from amphibase.testing.client import Client, open_client

NEW = {"email": "ann@example.com", "password": "correct horse battery", "name": "Ann"}
CREDENTIALS = {"email": NEW["email"], "password": NEW["password"]}


@pytest.fixture
def db(make_settings: MakeSettings, request: pytest.FixtureRequest) -> Amphibase:
    """An application of the settings that a test names; its hooks are the test's."""
    return Amphibase(make_settings(**getattr(request, "param", {})))


@pytest.fixture
def app(db: Amphibase) -> FastAPI:
    return db.mount(FastAPI())


Start = Callable[[], Awaitable[Client]]


@pytest.fixture
async def start(app: FastAPI) -> AsyncIterator[Start]:
    """Starts the application, once the test has registered its hooks."""
    async with AsyncExitStack() as stack:
        yield lambda: stack.enter_async_context(open_client(app))


async def rows(db: Amphibase) -> tuple[list[UUID], list[UUID], list[UUID]]:
    """Return the ids of accounts, of profiles, and of the users of receipts."""
    backend = db.state.backend
    accounts = [account.id for account in (await backend.accounts.list()).items]
    profiles = [row.id for row in await backend.repository(User, SERVICE).list()]
    receipts = [row.user_id for row in await backend.repository(Receipt, SERVICE).list()]
    return accounts, profiles, receipts


async def last_token(db: Amphibase) -> str:
    backend = db.state.backend
    parts = backend._backends if isinstance(backend, CombinedBackend) else [backend]
    for part in parts:
        assert isinstance(part, SqlBackend)
        await part.background.settle()
    return token_in(messages(db.settings.data_dir)[-1])


async def sign_up(db: Amphibase, client: Client) -> Any:
    return await client.post("/auth/sign-up", json=NEW)


async def sign_up_and_confirm(db: Amphibase, client: Client) -> Any:
    requested = await client.post("/auth/sign-up", json=NEW)
    if requested.status_code != 201:
        return requested
    return await client.post("/auth/email/verify", json={"token": await last_token(db)})


async def accept_invitation(db: Amphibase, client: Client) -> Any:
    await db.state.users.invite("ann@example.com")
    body = {"token": await last_token(db), "password": NEW["password"], "name": "Ann"}
    return await client.post("/auth/invitations/accept", json=body)


WaysIn = Callable[[Amphibase, Client], Awaitable[Any]]

every_way_in = pytest.mark.parametrize(
    ("db", "enter"),
    [
        ({}, sign_up),
        ({"email_confirmation": "required"}, sign_up_and_confirm),
        ({"sign_up": "invited"}, accept_invitation),
    ],
    indirect=["db"],
    ids=["sign-up", "confirmation", "invitation"],
)


async def add_receipt(account: Account, transaction: Transaction) -> None:
    await transaction.repository(Receipt).add(Receipt(user_id=account.id))


@every_way_in
async def test_a_new_account_gets_its_profile_and_what_the_hook_adds(
    db: Amphibase, start: Start, enter: WaysIn
) -> None:
    attempts: list[SignUpAttempt] = []

    @db.before_sign_up
    async def record(attempt: SignUpAttempt) -> None:
        attempts.append(attempt)

    db.after_sign_up(add_receipt)
    response = await enter(db, await start())
    assert response.status_code < 300, response.text
    id = UUID(response.json()["user"]["id"])
    assert response.json()["user"]["name"] == "Ann"
    assert await rows(db) == ([id], [id], [id])
    (attempt,) = attempts
    assert (attempt.email, attempt.user_metadata) == ("ann@example.com", {"name": "Ann"})
    assert attempt.invited is (enter is accept_invitation)


@every_way_in
async def test_what_before_sign_up_raises_is_the_response_and_nothing_is_stored(
    db: Amphibase, start: Start, enter: WaysIn
) -> None:
    @db.before_sign_up
    async def reject(attempt: SignUpAttempt) -> None:
        raise Forbidden("Ask your company's administrator")

    client = await start()
    response = await enter(db, client)
    assert response.status_code == 403
    assert response.json()["detail"] == "Ask your company's administrator"
    assert (await rows(db))[1] == []
    assert (await client.post("/auth/sign-in", json=CREDENTIALS)).json()["code"] == (
        "invalid_credentials"
    )


@every_way_in
async def test_what_after_sign_up_raises_leaves_nothing_and_the_link_good(
    db: Amphibase, start: Start, enter: WaysIn
) -> None:
    errors = [HTTPException(409, "The team is full")]

    @db.after_sign_up
    async def limit(account: Account, transaction: Transaction) -> None:
        await add_receipt(account, transaction)
        if errors:
            raise errors.pop()

    client = await start()
    response = await enter(db, client)
    assert (response.status_code, response.json()["detail"]) == (409, "The team is full")
    assert (await rows(db))[1:] == ([], [])
    if enter is not accept_invitation:
        assert (await rows(db))[0] == []
    if enter is sign_up_and_confirm:
        body = {"token": token_in(messages(db.settings.data_dir)[-1])}
        assert (await client.post("/auth/email/verify", json=body)).status_code == 200
    else:
        assert (await enter(db, client)).status_code < 300
    assert [len(ids) for ids in await rows(db)] == [1, 1, 1]


async def test_an_administrator_makes_accounts_without_the_hooks(
    db: Amphibase, start: Start
) -> None:
    @db.before_sign_up
    async def reject(attempt: SignUpAttempt) -> None:
        raise Forbidden

    db.after_sign_up(add_receipt)
    client = await start()
    await client.as_user("ann@example.com")
    assert [len(ids) for ids in await rows(db)] == [1, 1, 0]


async def claims_of(db: Amphibase, response: Any) -> Claims:
    caller = await db.state.backend.accounts.authenticate(response.json()["access_token"])
    return caller.claims


@every_way_in
async def test_before_token_adds_claims_to_every_access_token(
    db: Amphibase, start: Start, enter: WaysIn
) -> None:
    @db.before_token
    async def count(account: Account, claims: Claims, transaction: Transaction) -> dict[str, Any]:
        assert claims["sub"] == str(account.id)
        receipts = await transaction.repository(Receipt).count(Receipt.user_id == account.id)
        return {"receipts": receipts, "plan": "free"}

    @db.before_token
    async def upgrade(account: Account, claims: Claims, transaction: Transaction) -> Claims | None:
        return {"plan": "paid"} if claims["plan"] == "free" else None

    db.after_sign_up(add_receipt)
    client = await start()
    entered = await enter(db, client)
    signed_in = await client.post("/auth/sign-in", json=CREDENTIALS)
    body = {"refresh_token": signed_in.json()["refresh_token"]}
    responses = [signed_in, await client.post("/auth/refresh", json=body)]
    if "access_token" in entered.json() and entered.json()["access_token"]:
        responses.append(entered)
    for response in responses:
        claims = await claims_of(db, response)
        assert (claims["receipts"], claims["plan"]) == (1, "paid")
        assert claims["role"] == "authenticated"


@pytest.mark.parametrize(
    "added", [{"role": "service_role"}, {"app_metadata": {}}, {"exp": 0}, {"at": UUID(int=1)}, 5]
)
async def test_a_claim_that_no_hook_sets_opens_no_session(
    db: Amphibase, start: Start, caplog: pytest.LogCaptureFixture, added: Any
) -> None:
    results = [added]

    @db.before_token
    async def wrong(account: Account, claims: Claims, transaction: Transaction) -> Any:
        return results.pop() if results else None

    client = await start()
    await db.state.users.create(NEW["email"], password=NEW["password"])
    response = await client.post("/auth/sign-in", json=CREDENTIALS)
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "wrong returned" in caplog.text
    signed_in = await client.post("/auth/sign-in", json=CREDENTIALS)
    headers = {"Authorization": f"Bearer {signed_in.json()['access_token']}"}
    sessions = await client.get("/auth/sessions", headers=headers)
    assert len(sessions.json()["items"]) == 1


async def test_a_refresh_that_a_hook_rejects_can_be_repeated(db: Amphibase, start: Start) -> None:
    outcomes = iter([None, Forbidden("Your company has left"), None])

    @db.before_token
    async def reject(account: Account, claims: Claims, transaction: Transaction) -> None:
        if error := next(outcomes):
            raise error

    client = await start()
    body = {"refresh_token": (await sign_up(db, client)).json()["refresh_token"]}
    assert (await client.post("/auth/refresh", json=body)).status_code == 403
    assert (await client.post("/auth/refresh", json=body)).status_code == 200


@pytest.mark.parametrize("db", [{"hook_timeout_seconds": 0.05}], indirect=True)
async def test_a_hook_that_takes_too_long_is_503_and_nothing_is_stored(
    db: Amphibase, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    @db.after_sign_up
    async def sleep(account: Account, transaction: Transaction) -> None:
        await add_receipt(account, transaction)
        await asyncio.sleep(30)

    response = await sign_up(db, await start())
    assert (response.status_code, response.json()["code"]) == (503, "hook_timeout")
    assert "sleep took longer than 0.05 s" in caplog.text
    assert await rows(db) == ([], [], [])


async def test_accounts_in_a_database_of_their_own_have_hooks_on_the_records(
    tmp_path: Path,
) -> None:
    db = Amphibase(
        load_settings(
            database_url=f"sqlite:///{tmp_path}/records.db",
            accounts_database_url=f"sqlite:///{tmp_path}/accounts.db",
            data_dir=tmp_path / "data",
            secret_key=SECRET,
        )
    )
    errors: list[Exception] = []

    @db.after_sign_up
    async def limit(account: Account, transaction: Transaction) -> None:
        await add_receipt(account, transaction)
        if errors:
            raise errors.pop()

    async with open_client(db.mount(FastAPI())) as client:
        response = await sign_up(db, client)
        assert response.status_code == 201, response.text
        id = UUID(response.json()["user"]["id"])
        assert await rows(db) == ([id], [id], [id])
        errors.append(Forbidden())
        rejected = await client.post("/auth/sign-up", json=NEW | {"email": "bob@example.com"})
        assert rejected.status_code == 403
        assert await rows(db) == ([id], [id], [id])


async def test_hooks_are_registered_before_the_start_and_are_async(
    db: Amphibase, app: FastAPI
) -> None:
    with pytest.raises(ConfigurationError, match="async def"):
        db.before_sign_up(lambda attempt: None)  # type: ignore[type-var]
    async with open_client(app):
        with pytest.raises(ConfigurationError, match="has been started"):
            db.after_sign_up(add_receipt)


async def test_a_backend_that_cannot_run_hooks_does_not_start_with_them(
    settings: Settings, backend: SqlBackend
) -> None:
    backend.capabilities = replace(backend.capabilities, hooks=False)
    State(settings, backend, User, HookFunctions())
    with pytest.raises(NotSupported, match="has no hooks"):
        State(settings, backend, User, HookFunctions(after_sign_up=[add_receipt]))


async def test_with_row_level_security_a_hook_acts_as_the_service(
    postgres_url: str, tmp_path: Path
) -> None:
    db = Amphibase(
        load_settings(database_url=postgres_url, rls=True, data_dir=tmp_path, secret_key=SECRET)
    )

    @db.before_token
    async def count(account: Account, claims: Claims, transaction: Transaction) -> dict[str, Any]:
        return {"receipts": await transaction.repository(Receipt).count()}

    db.after_sign_up(add_receipt)
    async with open_client(db.mount(FastAPI())) as client:
        response = await sign_up(db, client)
        assert response.status_code == 201, response.text
        assert (await claims_of(db, response))["receipts"] == 1
        headers = {"Authorization": f"Bearer {response.json()['access_token']}"}
        assert (await client.get("/users/me", headers=headers)).status_code == 200
