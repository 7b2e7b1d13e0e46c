"""Reset links and confirmation of addresses in an SQL backend."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.outbox import messages, token_in

from amphibase import EmailNotConfirmed, InvalidCredentials, InvalidLink, SessionEnded, Settings
from amphibase.accounts.one_time_tokens import OneTimeTokens
from amphibase.accounts.passwords import PasswordWorkers
from amphibase.models import utc_now
from amphibase.schema.tables import tables
from amphibase.sql.backend import SqlBackend

PASSWORD = "correct horse battery"
OTHER_PASSWORD = "another horse, another battery"


async def requested_reset(backend: SqlBackend, settings: Settings) -> str:
    await backend.accounts.forgot_password("Ann@example.com")
    await backend.background.settle()
    return token_in(messages(settings.data_dir)[-1])


class TestReset:
    async def test_sets_a_password_and_ends_all_sessions(
        self, backend: SqlBackend, settings: Settings
    ) -> None:
        signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
        token = await requested_reset(backend, settings)
        await backend.accounts.reset_password(token, OTHER_PASSWORD)
        assert signed_in.tokens is not None
        with pytest.raises(SessionEnded):
            await backend.accounts.authenticate(signed_in.tokens.access_token)
        with pytest.raises(InvalidCredentials):
            await backend.accounts.sign_in("ann@example.com", PASSWORD)
        await backend.accounts.sign_in("ann@example.com", OTHER_PASSWORD)

    async def test_a_token_is_good_once(self, backend: SqlBackend, settings: Settings) -> None:
        await backend.accounts.sign_up("ann@example.com", PASSWORD)
        token = await requested_reset(backend, settings)
        await backend.accounts.reset_password(token, OTHER_PASSWORD)
        with pytest.raises(InvalidLink):
            await backend.accounts.reset_password(token, PASSWORD)

    async def test_a_newer_email_makes_the_older_void(
        self, backend: SqlBackend, settings: Settings
    ) -> None:
        await backend.accounts.sign_up("ann@example.com", PASSWORD)
        older = await requested_reset(backend, settings)
        newer = await requested_reset(backend, settings)
        with pytest.raises(InvalidLink):
            await backend.accounts.reset_password(older, OTHER_PASSWORD)
        await backend.accounts.reset_password(newer, OTHER_PASSWORD)

    async def test_who_asks_several_times_at_once_gets_as_many_emails(
        self, backend: SqlBackend, settings: Settings
    ) -> None:
        await backend.accounts.sign_up("ann@example.com", PASSWORD)
        token = await requested_reset(backend, settings)
        sent = len(messages(settings.data_dir))
        await asyncio.gather(
            *(backend.accounts.forgot_password("ann@example.com") for _ in range(8)),
        )
        await backend.background.settle()
        assert len(messages(settings.data_dir)) == sent + 8
        with pytest.raises(InvalidLink):
            await backend.accounts.reset_password(token, OTHER_PASSWORD)

    async def test_changing_the_password_makes_the_email_void(
        self, backend: SqlBackend, settings: Settings
    ) -> None:
        signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
        token = await requested_reset(backend, settings)
        assert signed_in.tokens is not None
        caller = await backend.accounts.authenticate(signed_in.tokens.access_token)
        await backend.accounts.change_password(caller, PASSWORD, OTHER_PASSWORD)
        with pytest.raises(InvalidLink):
            await backend.accounts.reset_password(token, PASSWORD)

    @pytest.mark.parametrize("kind", ["recovery_token", "confirmation_token"])
    @pytest.mark.parametrize("by_hand", [False, True])
    async def test_an_email_to_an_earlier_address_is_void(
        self, backend: SqlBackend, kind: Any, by_hand: bool
    ) -> None:
        """Who reads the mail of an address that the account has no longer, gets nothing by it."""
        account = await backend.accounts.create("ann@example.com", email_confirmed=False)
        found = tables(backend.database.dialect)
        async with backend.database.write() as connection:
            issued = await OneTimeTokens(found).issue(
                connection, account.id, kind, "ann@example.com"
            )
        token = issued.token
        if by_hand:
            async with backend.database.write() as connection:
                await connection.execute(update(found.users).values(email="anna@example.com"))
        else:
            await backend.accounts.update(account.id, email="anna@example.com")
            await backend.accounts.update(account.id, email="ann@example.com")
        redeemed = (
            backend.accounts.reset_password(token, OTHER_PASSWORD)
            if kind == "recovery_token"
            else backend.accounts.verify_email(token)
        )
        with pytest.raises(InvalidLink):
            await redeemed

    async def test_a_guess_costs_no_hash(
        self, backend: SqlBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A token that is not valid is rejected before the new password is hashed."""
        hashed: list[str] = []
        monkeypatch.setattr(PasswordWorkers, "hash", lambda _, password: hashed.append(password))
        with pytest.raises(InvalidLink):
            await backend.accounts.reset_password("a guess", OTHER_PASSWORD)
        assert hashed == []

    async def test_a_token_expires(self, backend: SqlBackend, settings: Settings) -> None:
        await backend.accounts.sign_up("ann@example.com", PASSWORD)
        token = await requested_reset(backend, settings)
        table = tables(backend.database.dialect).one_time_tokens
        async with backend.database.write() as connection:
            long_ago = utc_now() - timedelta(hours=1, seconds=1)
            await connection.execute(update(table).values(created_at=long_ago))
        with pytest.raises(InvalidLink):
            await backend.accounts.reset_password(token, OTHER_PASSWORD)

    async def test_a_token_is_stored_hashed(self, backend: SqlBackend, settings: Settings) -> None:
        await backend.accounts.sign_up("ann@example.com", PASSWORD)
        token = await requested_reset(backend, settings)
        found = tables(backend.database.dialect)
        async with backend.database.read() as connection:
            for table in (found.one_time_tokens, found.users):
                assert token not in str((await connection.execute(select(table))).all())

    async def test_an_unknown_address_gets_no_email(
        self, backend: SqlBackend, settings: Settings
    ) -> None:
        await backend.accounts.forgot_password("nobody@example.com")
        await backend.background.settle()
        assert messages(settings.data_dir) == []


class TestConfirmation:
    @pytest.fixture
    def settings(self, make_settings):  # type: ignore[no-untyped-def]
        return make_settings(email_confirmation="required")

    async def test_signing_in_waits_for_it(self, backend: SqlBackend, settings: Settings) -> None:
        signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
        assert signed_in.tokens is None
        with pytest.raises(EmailNotConfirmed):
            await backend.accounts.sign_in("ann@example.com", PASSWORD)
        await backend.background.settle()
        verified = await backend.accounts.verify_email(token_in(messages(settings.data_dir)[0]))
        assert verified.account.email_confirmed_at is not None
        assert verified.tokens is None
        await backend.accounts.sign_in("ann@example.com", PASSWORD)

    async def test_a_token_is_good_once(self, backend: SqlBackend, settings: Settings) -> None:
        await backend.accounts.sign_up("ann@example.com", PASSWORD)
        await backend.background.settle()
        token = token_in(messages(settings.data_dir)[0])
        await backend.accounts.verify_email(token)
        with pytest.raises(InvalidLink):
            await backend.accounts.verify_email(token)

    async def test_a_reset_token_confirms_nothing(
        self, backend: SqlBackend, settings: Settings
    ) -> None:
        await backend.accounts.create("ann@example.com", password=PASSWORD, email_confirmed=False)
        token = await requested_reset(backend, settings)
        with pytest.raises(InvalidLink):
            await backend.accounts.verify_email(token)

    async def test_a_taken_address_gets_the_same_response_as_a_new_one(
        self, backend: SqlBackend, settings: Settings
    ) -> None:
        await backend.accounts.create("ann@example.com", password=PASSWORD)
        again = await backend.accounts.sign_up("ann@example.com", OTHER_PASSWORD, name="Eve")
        new = await backend.accounts.sign_up("new@example.com", OTHER_PASSWORD, name="Eve")
        assert again.tokens is new.tokens is None
        different = {"id", "email", "created_at", "updated_at"}
        for field in set(type(new.account).__dataclass_fields__) - different:
            assert getattr(again.account, field) == getattr(new.account, field)
        await backend.background.settle()
        subjects = {message["To"]: message["Subject"] for message in messages(settings.data_dir)}
        assert subjects == {
            "ann@example.com": "You have an account already",
            "new@example.com": "Confirm your email address",
        }
        await backend.accounts.sign_in("ann@example.com", PASSWORD)

    async def test_the_email_can_be_requested_again(
        self, backend: SqlBackend, settings: Settings
    ) -> None:
        await backend.accounts.sign_up("ann@example.com", PASSWORD)
        await backend.background.settle()
        await backend.accounts.resend_verification("ANN@example.com")
        await backend.accounts.resend_verification("nobody@example.com")
        await backend.background.settle()
        sent = messages(settings.data_dir)
        assert [message["To"] for message in sent] == ["ann@example.com"] * 2
        await backend.accounts.verify_email(token_in(sent[1]))
