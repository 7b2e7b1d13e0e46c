"""What the tests of accounts share."""

from amphibase.backend import Backend, SignedIn, Tokens

PASSWORD = "correct horse battery"
OTHER_PASSWORD = "another horse, another battery"


def tokens_of(signed_in: SignedIn) -> Tokens:
    assert signed_in.tokens is not None
    return signed_in.tokens


async def sign_up(backend: Backend, email: str = "ann@example.com") -> Tokens:
    return tokens_of(await backend.accounts.sign_up(email, PASSWORD))
