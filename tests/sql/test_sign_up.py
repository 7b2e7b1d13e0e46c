"""Whose password counts when several people sign up with one address."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select, update
from tests.conftest import MakeSettings
from tests.outbox import messages, token_in

from amphibase import (
    EmailAlreadyRegistered,
    EmailNotConfirmed,
    InvalidCredentials,
    InvalidLink,
    Settings,
)
from amphibase.backend import Device, SignedIn
from amphibase.schema.tables import tables
from amphibase.sql.backend import SqlBackend

ANN = "ann@example.com"
OWN, STRANGE = "correct horse battery", "a password of a stranger"
HERE, ELSEWHERE = Device(ip="192.0.2.1"), Device(ip="203.0.113.7")


@pytest.fixture
def settings(make_settings: MakeSettings, request: pytest.FixtureRequest) -> Settings:
    asks = getattr(request, "param", False)
    return make_settings(email_confirmation="required", confirmation_asks_password=asks)


async def sign_up(backend: SqlBackend, settings: Settings, *who: str) -> dict[str, str]:
    """Sign up in turn as the stranger and the owner; return the token that each was sent."""
    passwords = {"stranger": (STRANGE, ELSEWHERE), "owner": (OWN, HERE)}
    tokens = {}
    for name in who:
        password, device = passwords[name]
        await backend.accounts.sign_up(ANN, password, name=name, device=device)
        await backend.background.settle()
        tokens[name] = token_in(messages(settings.data_dir)[-1])
    return tokens


async def count(backend: SqlBackend, name: str) -> int:
    table = getattr(tables(backend.database.dialect), name)
    async with backend.database.read() as connection:
        rows = await connection.execute(select(func.count()).select_from(table))
        return int(rows.scalar_one())


async def rejected(backend: SqlBackend, password: str) -> type[Exception] | None:
    try:
        await backend.accounts.sign_in(ANN, password)
    except (EmailNotConfirmed, InvalidCredentials) as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("settings", "order", "opened"),
    [
        (False, ["stranger", "owner"], "owner"),
        (False, ["stranger", "owner"], "stranger"),
        (False, ["owner", "stranger"], "owner"),
        (False, ["owner", "stranger"], "stranger"),
        (True, ["stranger"], "stranger"),
    ],
    indirect=["settings"],
)
async def test_the_password_of_another_user_never_signs_in(
    backend: SqlBackend, settings: Settings, order: list[str], opened: str
) -> None:
    tokens = await sign_up(backend, settings, *order)
    verified = await backend.accounts.verify_email(tokens[opened], device=HERE)
    assert verified.password_required
    assert verified.account.user_metadata == {"name": opened}
    assert await rejected(backend, STRANGE) is InvalidCredentials
    assert await count(backend, "pending_sign_ups") == 0
    for token in tokens.values():
        with pytest.raises(InvalidLink):
            await backend.accounts.verify_email(token)
    # The reader is signed in and chooses a password without an earlier one.
    assert verified.tokens is not None
    caller = await backend.accounts.authenticate(verified.tokens.access_token)
    await backend.accounts.change_password(caller, None, "one of my own")
    assert await rejected(backend, "one of my own") is None
    with pytest.raises(InvalidCredentials):
        await backend.accounts.change_password(caller, None, "another one")


@pytest.mark.parametrize("settings", [True], indirect=True)
async def test_the_password_that_the_confirmation_requests_is_kept(
    backend: SqlBackend, settings: Settings
) -> None:
    tokens = await sign_up(backend, settings, "owner")
    verified = await backend.accounts.verify_email(tokens["owner"], password=OWN)
    assert not verified.password_required
    assert await rejected(backend, OWN) is None


async def test_a_sign_up_makes_no_account_until_its_address_is_proven(
    backend: SqlBackend, settings: Settings
) -> None:
    tokens = await sign_up(backend, settings, "owner")
    assert await count(backend, "users") == 0
    assert await rejected(backend, OWN) is EmailNotConfirmed
    verified = await backend.accounts.verify_email(tokens["owner"])
    assert (verified.tokens, verified.account.user_metadata) == (None, {"name": "owner"})
    assert await rejected(backend, OWN) is None


async def test_the_same_password_twice_counts_by_either_link(
    backend: SqlBackend, settings: Settings
) -> None:
    first = await sign_up(backend, settings, "owner")
    await sign_up(backend, settings, "owner")
    assert not (await backend.accounts.verify_email(first["owner"])).password_required


async def test_a_sixth_sign_up_sends_nothing_and_yet_counts_as_another_password(
    backend: SqlBackend, settings: Settings
) -> None:
    tokens = await sign_up(backend, settings, *["stranger"] * 5)
    await sign_up(backend, settings, "owner")
    assert len(messages(settings.data_dir)) == 5
    assert (await backend.accounts.verify_email(tokens["stranger"])).password_required


async def test_sign_ups_at_once_are_compared_with_one_another(
    backend: SqlBackend, settings: Settings
) -> None:
    """None of them is stored as if it were alone."""
    passwords = [OWN, STRANGE, OWN]
    await asyncio.gather(*(backend.accounts.sign_up(ANN, each) for each in passwords))
    await backend.background.settle()
    token = token_in(messages(settings.data_dir)[0])
    assert (await backend.accounts.verify_email(token)).password_required


async def test_a_resent_link_renews_the_sign_up_of_its_own_client_alone(
    backend: SqlBackend, settings: Settings
) -> None:
    for device, required in ((ELSEWHERE, False), (HERE, True)):
        await sign_up(backend, settings, "stranger")
        await backend.accounts.resend_verification(ANN, device=device)
        await backend.background.settle()
        token = token_in(messages(settings.data_dir)[-1])
        verified = await backend.accounts.verify_email(token)
        assert await rejected(backend, STRANGE) is (InvalidCredentials if required else None)
        await backend.accounts.delete(verified.account.id)


async def test_an_account_whose_confirmation_is_taken_back_stays_an_account(
    backend: SqlBackend, settings: Settings
) -> None:
    """Whatever its user wrote into the metadata, which mark unconfirmed sign-ups elsewhere."""
    account = await backend.accounts.create(ANN, password=OWN)
    await backend.accounts.sign_in(ANN, OWN)
    await backend.accounts.update(account.id, user_metadata={"sub": str(account.id)})
    await backend.accounts.update(account.id, email_confirmed=False)
    tokens = await sign_up(backend, settings, "stranger")
    verified = await backend.accounts.verify_email(tokens["stranger"])
    assert verified.account.id == account.id
    assert await rejected(backend, STRANGE) is InvalidCredentials
    assert await rejected(backend, OWN) is None


async def test_a_start_says_how_many_accounts_no_email_has_confirmed(
    backend: SqlBackend, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = await sign_up(backend, settings, "owner")
    await backend.accounts.verify_email(tokens["owner"])
    await backend.start()
    assert "count as confirmed" not in caplog.text
    await backend.accounts.create("bob@example.com", password=OWN)
    await backend.start()
    assert "count as confirmed: 1" in caplog.text


async def test_an_account_of_an_administrator_keeps_its_password_and_name(
    backend: SqlBackend, settings: Settings
) -> None:
    await backend.accounts.create(
        ANN, password=OWN, email_confirmed=False, user_metadata={"name": "Ann"}
    )
    tokens = await sign_up(backend, settings, "stranger")
    verified = await backend.accounts.verify_email(tokens["stranger"])
    assert verified.account.user_metadata == {"name": "Ann"}
    assert await rejected(backend, OWN) is None
    assert await rejected(backend, STRANGE) is InvalidCredentials


@pytest.mark.parametrize("change", ["create", "address", "confirmation", "deletion"])
async def test_pending_sign_ups_end_when_an_administrator_decides_on_the_address(
    backend: SqlBackend, settings: Settings, change: str
) -> None:
    other = await backend.accounts.create("bob@example.com", email_confirmed=False)
    tokens = await sign_up(backend, settings, "stranger")
    match change:
        case "create":
            await backend.accounts.create(ANN)
        case "address":
            await backend.accounts.update(other.id, email=ANN)
        case "confirmation":
            await backend.accounts.update(other.id, email=ANN, email_confirmed=True)
        case "deletion":
            await backend.accounts.update(other.id, email=ANN)
            tokens |= await sign_up(backend, settings, "stranger")
            await backend.accounts.delete(other.id)
    with pytest.raises(InvalidLink):
        await backend.accounts.verify_email(tokens["stranger"])
    assert await count(backend, "pending_sign_ups") == 0


@pytest.mark.parametrize(
    "change", [{"password": OWN}, {"email_confirmed": True}, {"email": "anna@example.com"}, "ban"]
)
async def test_a_change_by_an_administrator_voids_links_that_are_under_way(
    backend: SqlBackend, settings: Settings, change: Any
) -> None:
    account = await backend.accounts.create(ANN, password=STRANGE)
    await backend.accounts.forgot_password(ANN)
    await backend.background.settle()
    token = token_in(messages(settings.data_dir)[-1])
    if change == "ban":
        await backend.accounts.ban(account.id, None)
        assert await count(backend, "one_time_tokens") == 1
        await backend.accounts.ban(account.id, settings.access_token_lifetime)
    else:
        await backend.accounts.update(account.id, **change)
    with pytest.raises(InvalidLink):
        await backend.accounts.reset_password(token, "one of a stranger")


async def test_new_pending_and_confirmed_addresses_cost_the_same_statements(
    backend: SqlBackend, settings: Settings, statements: Any
) -> None:
    """Neither the time of a sign-up nor that of the request after it tells which it was."""
    await backend.accounts.create("bob@example.com")
    with statements(backend) as new:
        await backend.accounts.sign_up(ANN, OWN)
    with statements(backend) as pending:
        await backend.accounts.sign_up(ANN, OWN)
    with statements(backend) as confirmed:
        await backend.accounts.sign_up("bob@example.com", OWN)
    assert new == pending == confirmed


@pytest.mark.parametrize("call", ["forgot_password", "resend_verification"])
async def test_an_unknown_address_costs_as_many_writes_as_a_known_one(
    backend: SqlBackend, settings: Settings, call: str, statements: Any
) -> None:
    await backend.accounts.create("bob@example.com")
    await sign_up(backend, settings, "owner")
    written = {}
    known = "bob@example.com" if call == "forgot_password" else ANN
    for email in (known, "nobody@example.com"):
        with statements(backend) as sent:
            await getattr(backend.accounts, call)(email)
            await backend.background.settle()
        written[email] = [verb for verb in sent if verb != "SELECT"]
    assert len(written[known]) == len(written["nobody@example.com"]) > 1


async def test_a_seeded_address_in_mixed_case_is_one_account(
    backend: SqlBackend, settings: Settings
) -> None:
    account = await backend.accounts.create(ANN, password=OWN)
    users = tables(backend.database.dialect).users
    async with backend.database.write() as connection:
        await connection.execute(update(users).values(email="Ann@Example.com"))
    assert await rejected(backend, OWN) is None
    found = await backend.accounts.get_by_email(ANN)
    assert found is not None
    assert found.id == account.id
    with pytest.raises(EmailAlreadyRegistered):
        await backend.accounts.create(ANN)
    tokens: SignedIn = await backend.accounts.sign_up(ANN, STRANGE)
    assert tokens.tokens is None
    await backend.accounts.forgot_password(ANN)
    await backend.background.settle()
    token = token_in(messages(settings.data_dir)[-1])
    await backend.accounts.reset_password(token, "one of my own")
    assert await rejected(backend, "one of my own") is None


@pytest.fixture
def statements() -> Any:
    """Record the verbs of the statements that a backend sends, on any connection."""
    from collections.abc import Iterator
    from contextlib import contextmanager

    from sqlalchemy import event

    @contextmanager
    def recorded(backend: SqlBackend) -> Iterator[list[str]]:
        sent: list[str] = []

        def record(_: Any, __: Any, statement: str, *___: Any) -> None:
            sent.append(statement.split()[0])

        engine = backend.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", record)
        try:
            yield sent
        finally:
            event.remove(engine, "before_cursor_execute", record)

    return recorded
