"""When the streams of a caller end."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from amphibase.backend import Caller
from amphibase.errors import SessionEnded, Unavailable
from amphibase.http import streams
from amphibase.http.streams import batches


class Accounts:
    """Raises what stands in the way of a token, if anything does."""

    error: Exception | None = None

    async def authenticate(self, token: str) -> None:
        if self.error is not None:
            raise self.error


class Stream:
    """Has nothing or a message."""

    next: Sequence[str] = ()

    async def batch(self, wait: float) -> Sequence[str]:
        return self.next


async def test_while_a_token_cannot_be_checked_a_stream_goes_on_and_delivers_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0)
    accounts, stream = Accounts(), Stream()
    backend: Any = SimpleNamespace(accounts=accounts)
    caller = Caller(user_id=None, role="authenticated", token="token")

    accounts.error = Unavailable()
    open_stream = batches(stream, caller, backend)
    assert await anext(open_stream) == ()
    accounts.error = None
    stream.next = ["first"]
    assert await anext(open_stream) == ["first"]
    accounts.error, stream.next = Unavailable(), ["second"]
    with pytest.raises(Unavailable):
        await anext(open_stream)

    accounts.error, stream.next = SessionEnded(), ()
    with pytest.raises(SessionEnded):
        await anext(batches(stream, caller, backend))
