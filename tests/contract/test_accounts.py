"""The contract of Accounts, on every backend: what people do with their own."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import bcrypt
import pytest
from argon2 import PasswordHasher
from tests.backends import ACCOUNTS
from tests.contract.signing_up import OTHER_PASSWORD, PASSWORD, check_revoked, sign_up, tokens_of

from amphibase import (
    SERVICE,
    AmphibaseError,
    EmailAlreadyRegistered,
    InvalidCredentials,
    InvalidLink,
    InvalidRefreshToken,
    InvalidRequest,
    InvalidToken,
    NotFound,
    Unauthenticated,
    UserBanned,
    WeakPassword,
)
from amphibase.backend import Backend, Device

pytestmark = ACCOUNTS


class TestSignUp:
    async def test_gives_tokens_that_lead_back_to_the_account(self, backend: Backend) -> None:
        signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD, name="Ann")
        caller = await backend.accounts.authenticate(tokens_of(signed_in).access_token)
        assert caller.user_id == signed_in.account.id
        assert caller.role == "authenticated"
        assert caller.claims["email"] == "ann@example.com"
        assert caller.claims["user_metadata"]["name"] == "Ann"
        assert not caller.is_admin

    async def test_the_claims_have_supabases_names(self, backend: Backend) -> None:
        tokens = await sign_up(backend)
        claims = (await backend.accounts.authenticate(tokens.access_token)).claims
        assert claims["aud"] == "authenticated"
        assert claims["role"] == "authenticated"
        assert claims["aal"] == "aal1"
        assert claims["amr"][0]["method"] == "password"
        assert claims["app_metadata"] == {"provider": "email", "providers": ["email"]}
        assert claims["exp"] - claims["iat"] == tokens.expires_in
        assert claims["exp"] == tokens.expires_at
        assert UUID(claims["session_id"])

    @pytest.mark.parametrize("again", ["ann@example.com", "ANN@Example.COM"])
    async def test_an_address_is_taken_whatever_its_case(
        self, backend: Backend, again: str
    ) -> None:
        await sign_up(backend)
        with pytest.raises(EmailAlreadyRegistered):
            await backend.accounts.sign_up(again, OTHER_PASSWORD)
        await backend.accounts.sign_in("ann@example.com", PASSWORD)

    async def test_one_of_many_simultaneous_ones_wins(self, backend: Backend) -> None:
        results = await asyncio.gather(
            *(
                backend.accounts.sign_up(("ann@example.com", "Ann@Example.com")[n % 2], PASSWORD)
                for n in range(20)
            ),
            return_exceptions=True,
        )
        rejected = [result for result in results if isinstance(result, EmailAlreadyRegistered)]
        assert len(rejected) == 19
        assert len((await backend.accounts.list()).items) == 1

    @pytest.mark.parametrize("password", ["short", "x" * 1025, "é" * 600])
    async def test_a_password_of_a_bad_length_is_rejected(
        self, backend: Backend, password: str
    ) -> None:
        with pytest.raises(WeakPassword):
            await backend.accounts.sign_up("ann@example.com", password)
        assert await backend.accounts.get_by_email("ann@example.com") is None


class TestSignIn:
    async def test_takes_the_address_in_any_case(self, backend: Backend) -> None:
        await sign_up(backend)
        signed_in = await backend.accounts.sign_in("Ann@EXAMPLE.com", PASSWORD)
        assert signed_in.account.email == "ann@example.com"

    @pytest.mark.parametrize(
        ("email", "password"),
        [
            ("ann@example.com", "not the password"),
            ("bob@example.com", PASSWORD),
            ("ann@example.com", "x" * 100_000),
            ("ann@example.com", ""),
        ],
    )
    async def test_wrong_address_and_wrong_password_get_the_same_response(
        self, backend: Backend, email: str, password: str
    ) -> None:
        await sign_up(backend)
        with pytest.raises(InvalidCredentials) as caught:
            await backend.accounts.sign_in(email, password)
        assert caught.value.detail == "Incorrect email or password"

    @pytest.mark.parametrize("prefix", [b"2a", b"2b"])
    async def test_bcrypt_hashes_from_elsewhere_verify_and_become_argon2(
        self, backend: Backend, prefix: bytes
    ) -> None:
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, prefix)).decode()
        await backend.accounts.create("ann@example.com", password_hash=hashed)
        await backend.accounts.sign_in("ann@example.com", PASSWORD)
        await backend.accounts.sign_in("ann@example.com", PASSWORD)
        with pytest.raises(InvalidCredentials):
            await backend.accounts.sign_in("ann@example.com", OTHER_PASSWORD)

    async def test_phps_bcrypt_hashes_verify(self, backend: Backend) -> None:
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        php = hashed.replace("$2b$", "$2y$")
        await backend.accounts.create("ann@example.com", password_hash=php)
        await backend.accounts.sign_in("ann@example.com", PASSWORD)

    async def test_long_passwords_of_bcrypt_hashes_verify(self, backend: Backend) -> None:
        long = "x" * 100
        hashed = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
        await backend.accounts.create("ann@example.com", password_hash=hashed)
        await backend.accounts.sign_in("ann@example.com", long)

    async def test_argon2_hashes_from_elsewhere_verify(self, backend: Backend) -> None:
        hashed = PasswordHasher(time_cost=1, memory_cost=8 * 1024).hash(PASSWORD)
        await backend.accounts.create("ann@example.com", password_hash=hashed)
        await backend.accounts.sign_in("ann@example.com", PASSWORD)

    @pytest.mark.parametrize(
        "hashed",
        [
            "md5$abc",
            "",
            "$2b$31$" + "a" * 53,
            "$2b$16$" + "a" * 53,
            "$argon2d$v=19$m=8192,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
            "$argon2id$v=19$m=9999999,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
        ],
    )
    async def test_hashes_that_cannot_be_checked_are_rejected_when_they_come_in(
        self, backend: Backend, hashed: str
    ) -> None:
        with pytest.raises(InvalidRequest):
            await backend.accounts.create("ann@example.com", password_hash=hashed)

    async def test_half_of_a_surrogate_pair_signs_in_or_is_no_new_password(
        self, backend: Backend
    ) -> None:
        """What is hashed and what is checked are encoded the same way."""
        password = "\ud800" * 8
        try:
            await backend.accounts.sign_up("ann@example.com", password)
        except WeakPassword:
            with pytest.raises(InvalidCredentials):
                await backend.accounts.sign_in("ann@example.com", password)
        else:
            await backend.accounts.sign_in("ann@example.com", password)

    async def test_tells_that_it_happened(self, backend: Backend) -> None:
        """The account that comes back knows of this very sign-in."""
        await sign_up(backend)
        account = (await backend.accounts.sign_in("ann@example.com", PASSWORD)).account
        row = await backend.accounts.get(account.id)
        assert row is not None
        assert account.last_sign_in_at == row.last_sign_in_at
        assert account.last_sign_in_at is not None
        assert account.last_sign_in_at > account.created_at

    async def test_an_account_without_a_password_cannot_sign_in(self, backend: Backend) -> None:
        await backend.accounts.create("ann@example.com")
        for password in ("", PASSWORD):
            with pytest.raises(InvalidCredentials):
                await backend.accounts.sign_in("ann@example.com", password)


class TestRefresh:
    async def test_gives_new_tokens_of_the_same_session(self, backend: Backend) -> None:
        first = await sign_up(backend)
        second = tokens_of(await backend.accounts.refresh(first.refresh_token))
        assert second.refresh_token != first.refresh_token
        before = await backend.accounts.authenticate(first.access_token)
        after = await backend.accounts.authenticate(second.access_token)
        assert before.session_id == after.session_id

    async def test_a_lost_response_can_be_requested_again(self, backend: Backend) -> None:
        first = await sign_up(backend)
        second = tokens_of(await backend.accounts.refresh(first.refresh_token))
        again = tokens_of(await backend.accounts.refresh(first.refresh_token))
        assert again.refresh_token == second.refresh_token

    async def test_many_simultaneous_ones_agree_on_one_session(self, backend: Backend) -> None:
        first = await sign_up(backend)
        responses = await asyncio.gather(
            *(backend.accounts.refresh(first.refresh_token) for _ in range(20))
        )
        assert len({tokens_of(response).refresh_token for response in responses}) == 1
        if backend.capabilities.session_list:
            caller = await backend.accounts.authenticate(first.access_token)
            assert len(await backend.accounts.sessions(caller)) == 1

    async def test_a_token_that_nobody_issued_is_rejected(self, backend: Backend) -> None:
        for token in ("", "nonsense", "x" * 10_000, "\x00", "\ud800"):
            with pytest.raises(InvalidRefreshToken):
                await backend.accounts.refresh(token)

    async def test_a_banned_user_is_rejected(self, backend: Backend) -> None:
        signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
        await backend.accounts.ban(signed_in.account.id, timedelta(hours=1))
        with pytest.raises(AmphibaseError) as caught:
            await backend.accounts.refresh(tokens_of(signed_in).refresh_token)
        assert isinstance(caught.value, UserBanned | InvalidRefreshToken)


class TestAuthenticate:
    @pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "é", "x" * 100_000])
    async def test_what_is_no_token_is_rejected(self, backend: Backend, token: str) -> None:
        with pytest.raises(InvalidToken):
            await backend.accounts.authenticate(token)

    async def test_a_deleted_users_token_is_rejected(self, backend: Backend) -> None:
        signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
        assert await backend.accounts.delete(signed_in.account.id)
        await check_revoked(backend, tokens_of(signed_in).access_token)


class TestSessions:
    @pytest.mark.requires("session_list")
    async def test_are_listed_newest_first_with_their_devices(self, backend: Backend) -> None:
        phone, laptop = Device("phone", "192.0.2.1"), Device("laptop", "2001:db8::1")
        await backend.accounts.sign_up("ann@example.com", PASSWORD, device=phone)
        signed_in = await backend.accounts.sign_in("ann@example.com", PASSWORD, device=laptop)
        caller = await backend.accounts.authenticate(tokens_of(signed_in).access_token)
        sessions = await backend.accounts.sessions(caller)
        assert [(found.user_agent, found.ip) for found in sessions] == [
            ("laptop", "2001:db8::1"),
            ("phone", "192.0.2.1"),
        ]
        assert sessions[0].id == caller.session_id

    @pytest.mark.parametrize(
        ("scope", "living"),
        [("local", [False, True]), ("others", [True, False]), ("global", [False, False])],
    )
    async def test_signing_out_ends_what_its_scope_says(
        self, backend: Backend, scope: Any, living: list[bool]
    ) -> None:
        here = await sign_up(backend)
        there = tokens_of(await backend.accounts.sign_in("ann@example.com", PASSWORD))
        bob = await sign_up(backend, "bob@example.com")
        caller = await backend.accounts.authenticate(here.access_token)
        await backend.accounts.sign_out(caller, scope)
        for tokens, lives in zip((here, there), living, strict=True):
            if lives:
                await backend.accounts.authenticate(tokens.access_token)
                await backend.accounts.refresh(tokens.refresh_token)
            else:
                await check_revoked(backend, tokens.access_token)
                with pytest.raises(InvalidRefreshToken):
                    await backend.accounts.refresh(tokens.refresh_token)
        await backend.accounts.authenticate(bob.access_token)

    @pytest.mark.requires("session_list")
    async def test_one_can_be_ended_by_its_user_alone(self, backend: Backend) -> None:
        ann = await backend.accounts.authenticate((await sign_up(backend)).access_token)
        bob = await backend.accounts.authenticate(
            (await sign_up(backend, "bob@example.com")).access_token
        )
        assert ann.session_id is not None
        with pytest.raises(NotFound):
            await backend.accounts.end_session(bob, ann.session_id)
        await backend.accounts.end_session(ann, ann.session_id)
        await check_revoked(backend, ann.token or "")

    async def test_nobody_in_particular_has_none(self, backend: Backend) -> None:
        with pytest.raises(Unauthenticated):
            await backend.accounts.sessions(SERVICE)


class TestPasswords:
    async def test_changing_one_ends_the_other_sessions(self, backend: Backend) -> None:
        here = await sign_up(backend)
        there = tokens_of(await backend.accounts.sign_in("ann@example.com", PASSWORD))
        caller = await backend.accounts.authenticate(here.access_token)
        await backend.accounts.change_password(caller, PASSWORD, OTHER_PASSWORD)
        await backend.accounts.authenticate(here.access_token)
        await check_revoked(backend, there.access_token)
        with pytest.raises(InvalidCredentials):
            await backend.accounts.sign_in("ann@example.com", PASSWORD)
        await backend.accounts.sign_in("ann@example.com", OTHER_PASSWORD)

    async def test_changing_one_needs_the_current_one(self, backend: Backend) -> None:
        caller = await backend.accounts.authenticate((await sign_up(backend)).access_token)
        with pytest.raises(InvalidCredentials):
            await backend.accounts.change_password(caller, "not it", OTHER_PASSWORD)
        await backend.accounts.sign_in("ann@example.com", PASSWORD)

    async def test_a_reset_token_that_nobody_issued_is_rejected(self, backend: Backend) -> None:
        for token in ("", "nonsense", "\ud800"):
            with pytest.raises(InvalidLink):
                await backend.accounts.reset_password(token, OTHER_PASSWORD)

    async def test_a_verification_token_that_nobody_issued_is_rejected(
        self, backend: Backend
    ) -> None:
        with pytest.raises(InvalidLink):
            await backend.accounts.verify_email("nonsense")
