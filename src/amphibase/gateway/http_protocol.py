"""The HTTP of the gateway: an application may send a small response in one piece.

By ASGI's own messages a response is two calls and two writes, and uvicorn matches the name and the
value of each header against a regular expression: of a row of the Data API, 16 of the 470 thousand
instructions that the gateway takes for it.
"""

from functools import partial
from weakref import ref

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from amphibase.gateway.cors import Headers
from amphibase.gateway.service import WHOLE_RESPONSE
from amphibase.server import MAX_COALESCED_BYTES, HeaderTimeoutProtocol

_CONTROLS = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
"""The characters that uvicorn lets no header have (RFC 9110, section 5.5)."""


class HttpProtocol(HeaderTimeoutProtocol):
    """uvicorn's protocol, with the extension."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # The cycle has the scope: by a reference to it, each request would leave a circle to the
        # garbage collector.
        send = partial(self._send, ref(cycle))
        cycle.scope["extensions"] = {WHOLE_RESPONSE: {"send": send}}
        super()._start_asgi_task(cycle, app)

    def _send(
        self, to: ref[RequestResponseCycle], status: int, headers: Headers, body: bytes
    ) -> bool:
        """Send a response, if it is one that uvicorn would send as it is given."""
        cycle = to()
        fields = dict(headers)
        if (
            cycle is None
            or fields.get(b"content-length") != b"%d" % len(body)
            or b"connection" in fields
            or b"transfer-encoding" in fields
            or len(body) > MAX_COALESCED_BYTES
            or cycle.scope["method"] == "HEAD"
            or cycle.response_started
            or cycle.disconnected
            or cycle.flow.write_paused
            or not cycle.keep_alive
            or self.transport.is_closing()
        ):
            return False
        all_headers = cycle.default_headers + headers
        parts = [STATUS_LINE[status]]
        for name, value in all_headers:
            parts += (name, b": ", value, b"\r\n")
        head = b"".join(parts)
        ends_of_lines = 2 * (1 + len(all_headers))
        if len(head.translate(None, _CONTROLS)) != len(head) - ends_of_lines:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        # With what else is written in this turn of the loop: at once it would be no faster, and its
        # reader would be woken for each response.
        self.transport.write(b"".join((head, b"\r\n", body)))
        cycle.on_response()
        return True
