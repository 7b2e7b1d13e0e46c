"""What the server does at its sockets."""

import asyncio

from amphibase.server import _CoalescingTransport, server
from amphibase.supabase import client


class ResetTransport(asyncio.Transport):
    """A connection that the client resets; like uvloop's, it raises on later writes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.is_reset = False

    def is_closing(self) -> bool:
        return self.is_reset

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_reset:
            raise RuntimeError("the handler is closed")
        self.sent += data

    def close(self) -> None:
        self.is_reset = True


def test_a_connection_is_kept_for_longer_than_clients_and_proxies_keep_it() -> None:
    """Else they would lose the requests that they send while it is closed."""
    kept = server(None).config.timeout_keep_alive
    assert kept > max(client.LIMITS.keepalive_expiry or 0, 60)


async def test_what_is_written_before_a_reset_is_dropped_without_an_error() -> None:
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    transport = ResetTransport()
    joined = _CoalescingTransport(transport, loop)
    joined.write(b"head")
    await asyncio.sleep(0)
    joined.write(b"lost")
    transport.is_reset = True
    joined.write(b"large" * 10_000)
    await asyncio.sleep(0)
    assert transport.sent == b"head"
    assert failures == []
