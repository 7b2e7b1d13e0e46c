"""The contract of Accounts, on every backend: what the service does with everybody's."""

from datetime import timedelta
from uuid import uuid4

import pytest
from tests.backends import ACCOUNTS
from tests.contract.signing_up import OTHER_PASSWORD, PASSWORD, check_revoked, sign_up, tokens_of

from amphibase import (
    Account,
    AmphibaseError,
    EmailAlreadyRegistered,
    EmailNotConfirmed,
    InvalidCredentials,
    InvalidCursor,
    InvalidRefreshToken,
    InvalidRequest,
    NotFound,
    UserBanned,
)
from amphibase.backend import Backend

pytestmark = ACCOUNTS


class TestForTheService:
    async def test_an_account_is_created_as_it_is_reported(self, backend: Backend) -> None:
        id = uuid4()
        account = await backend.accounts.create(
            "Ann@example.com",
            password=PASSWORD,
            id=id,
            user_metadata={"name": "Ann"},
            app_metadata={"role": "admin"},
        )
        assert (account.id, account.email) == (id, "ann@example.com")
        assert account == await backend.accounts.get(id)
        assert account == await backend.accounts.get_by_email("ANN@example.com")
        tokens = tokens_of(await backend.accounts.sign_in("ann@example.com", PASSWORD))
        assert (await backend.accounts.authenticate(tokens.access_token)).is_admin

    async def test_an_id_is_taken_once(self, backend: Backend) -> None:
        account = await backend.accounts.create("ann@example.com")
        with pytest.raises(AmphibaseError) as caught:
            await backend.accounts.create("bob@example.com", id=account.id)
        assert caught.value.code == "conflict"

    async def test_password_and_hash_together_are_rejected(self, backend: Backend) -> None:
        with pytest.raises(InvalidRequest):
            await backend.accounts.create(
                "ann@example.com", password=PASSWORD, password_hash="$2b$04$" + "a" * 53
            )

    async def test_an_unconfirmed_account_cannot_sign_in(self, backend: Backend) -> None:
        account = await backend.accounts.create(
            "ann@example.com", password=PASSWORD, email_confirmed=False
        )
        with pytest.raises(EmailNotConfirmed):
            await backend.accounts.sign_in("ann@example.com", PASSWORD)
        with pytest.raises(InvalidCredentials):
            await backend.accounts.sign_in("ann@example.com", "not the password")
        await backend.accounts.update(account.id, email_confirmed=True)
        await backend.accounts.sign_in("ann@example.com", PASSWORD)

    async def test_the_list_has_each_account_once(self, backend: Backend) -> None:
        accounts = [await backend.accounts.create(f"user{n}@example.com") for n in range(7)]
        items: list[Account] = []
        cursor = None
        while True:
            page = await backend.accounts.list(cursor=cursor, limit=3)
            items += page.items
            if (cursor := page.next_cursor) is None:
                break
        assert items == list(reversed(accounts))

    async def test_a_cursor_of_someone_elses_making_is_rejected(self, backend: Backend) -> None:
        for cursor in ("", "nonsense", "é", "A" * 10_000):
            with pytest.raises(InvalidCursor):
                await backend.accounts.list(cursor=cursor)

    async def test_metadata_is_merged_and_none_removes(self, backend: Backend) -> None:
        account = await backend.accounts.create("ann@example.com", user_metadata={"a": 1, "b": 2})
        changed = await backend.accounts.update(account.id, user_metadata={"b": None, "c": 3})
        assert changed.user_metadata.items() >= {"a": 1, "c": 3}.items()
        assert "b" not in changed.user_metadata
        assert changed.updated_at > account.updated_at

    async def test_a_new_password_ends_all_sessions(self, backend: Backend) -> None:
        signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
        await backend.accounts.update(signed_in.account.id, password=OTHER_PASSWORD)
        await check_revoked(backend, tokens_of(signed_in).access_token)

    @pytest.mark.parametrize(("before", "after"), [("admin", None), (None, "admin")])
    async def test_another_role_ends_all_sessions(
        self, backend: Backend, before: str | None, after: str | None
    ) -> None:
        """Whoever becomes an administrator, or is none any more, has no token of before."""
        account = await backend.accounts.create(
            "ann@example.com", password=PASSWORD, app_metadata={"role": before} if before else {}
        )
        tokens = tokens_of(await backend.accounts.sign_in("ann@example.com", PASSWORD))
        await backend.accounts.update(account.id, app_metadata={"role": before, "plan": "free"})
        await backend.accounts.authenticate(tokens.access_token)
        await backend.accounts.update(account.id, app_metadata={"role": after})
        await check_revoked(backend, tokens.access_token)

    async def test_an_address_that_is_taken_cannot_be_changed_to(self, backend: Backend) -> None:
        await backend.accounts.create("ann@example.com")
        bob = await backend.accounts.create("bob@example.com")
        with pytest.raises(EmailAlreadyRegistered):
            await backend.accounts.update(bob.id, email="ANN@example.com")
        changed = await backend.accounts.update(bob.id, email="Bobby@example.com")
        assert changed.email == "bobby@example.com"

    async def test_a_ban_holds_at_once_and_can_be_lifted(self, backend: Backend) -> None:
        signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
        id = signed_in.account.id
        await backend.accounts.ban(id, timedelta(hours=1))
        if backend.capabilities.instant_revocation:
            with pytest.raises(AmphibaseError):
                await backend.accounts.authenticate(tokens_of(signed_in).access_token)
        with pytest.raises(UserBanned):
            await backend.accounts.sign_in("ann@example.com", PASSWORD)
        with pytest.raises(InvalidCredentials):
            await backend.accounts.sign_in("ann@example.com", "not the password")
        await backend.accounts.ban(id, None)
        await backend.accounts.sign_in("ann@example.com", PASSWORD)

    async def test_what_is_not_there_is_reported(self, backend: Backend) -> None:
        nobody = uuid4()
        assert await backend.accounts.get(nobody) is None
        assert await backend.accounts.delete(nobody) is False
        with pytest.raises(NotFound):
            await backend.accounts.update(nobody, email="x@example.com")
        with pytest.raises(NotFound):
            await backend.accounts.ban(nobody, None)

    async def test_deleting_takes_sessions_along_and_frees_the_address(
        self, backend: Backend
    ) -> None:
        signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
        assert await backend.accounts.delete(signed_in.account.id)
        with pytest.raises(InvalidRefreshToken):
            await backend.accounts.refresh(tokens_of(signed_in).refresh_token)
        await sign_up(backend)
