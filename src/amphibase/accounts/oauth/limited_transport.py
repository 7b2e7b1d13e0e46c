"""Responses of third parties, which are not read beyond a size."""

from collections.abc import AsyncIterator

import httpx

from amphibase.certificates import https_context


class ResponseTooLarge(httpx.RequestError):
    """A response is larger than what is read of one, or compressed, which hides its size."""


class LimitedTransport(httpx.AsyncHTTPTransport):
    """Sends requests, and reads no more of a response than a limit.

    Args:
        limit: of a response's body, in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(verify=https_context())
        self._limit = limit

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if "content-encoding" in response.headers:
            await response.aclose()
            raise ResponseTooLarge("sends a compressed response, whose size is not known")
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _LimitedStream(response.stream, self._limit)
        return response


class _LimitedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._limit:
                raise ResponseTooLarge(f"sends more than {self._limit} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
