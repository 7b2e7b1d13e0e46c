"""Signing in on an SQL database: what a hash costs, and what happens while it is computed."""

from datetime import timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher
from tests.contract.signing_up import PASSWORD

from amphibase import InvalidCredentials
from amphibase.accounts.passwords import PasswordWorkers
from amphibase.sql.backend import SqlBackend


async def test_an_unknown_address_costs_a_hash_too(
    backend: SqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, hash: Any, password: Any) -> Any:
        checked.append(hash)
        return verify(self, hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    with pytest.raises(InvalidCredentials):
        await backend.accounts.sign_in("nobody@example.com", PASSWORD)
    assert len(checked) == 1


async def test_a_ban_that_comes_while_the_password_is_checked_holds(
    backend: SqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session is opened only if the account is not banned at that moment."""
    signed_in = await backend.accounts.sign_up("ann@example.com", PASSWORD)
    verify = PasswordWorkers.verify

    async def banned_meanwhile(*arguments: Any) -> bool:
        await backend.accounts.ban(signed_in.account.id, timedelta(hours=1))
        return await verify(*arguments)

    monkeypatch.setattr(PasswordWorkers, "verify", banned_meanwhile)
    with pytest.raises(InvalidCredentials):
        await backend.accounts.sign_in("ann@example.com", PASSWORD)
