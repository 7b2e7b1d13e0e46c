"""What the tests of accounts share."""

import pytest

from amphibase import SessionEnded
from amphibase.backend import Backend, SignedIn, Tokens

PASSWORD = "correct horse battery"
OTHER_PASSWORD = "another horse, another battery"


def tokens_of(signed_in: SignedIn) -> Tokens:
    assert signed_in.tokens is not None
    return signed_in.tokens


async def sign_up(backend: Backend, email: str = "ann@example.com") -> Tokens:
    return tokens_of(await backend.accounts.sign_up(email, PASSWORD))


async def check_revoked(backend: Backend, access_token: str) -> None:
    """Check that a token is rejected now, or where that is not declared, when it expires."""
    if backend.capabilities.instant_revocation:
        with pytest.raises(SessionEnded):
            await backend.accounts.authenticate(access_token)
    else:
        await backend.accounts.authenticate(access_token)
