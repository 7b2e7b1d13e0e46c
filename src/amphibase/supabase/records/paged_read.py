"""Reading more rows than one response holds: by key, with several requests at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from amphibase.backend import Where
from amphibase.records.ordering import Ordering
from amphibase.records.values import Row
from amphibase.supabase.records.expressions import Filters
from amphibase.supabase.records.request_builder import ROWS_A_REQUEST, RequestBuilder

Records = list[dict[str, Any]]

CONCURRENT_REQUESTS = 4
"""How many pages are fetched at the same time, once the first ones were full."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page that is being fetched.

    Attributes:
        response: the page, and whether it is the last, as far as the project's limit is known.
        size: how many rows were requested.
        overlaps: whether it begins with the last row of the page before it.
    """

    response: "asyncio.Future[tuple[Records, bool]]"
    size: int
    overlaps: bool

    @property
    def new_rows(self) -> int:
        """How many rows it has beside those of the page before it."""
        return self.size - self.overlaps


class PagedRead:
    """Reads the rows of an order, a page at a time.

    A page follows the last row of the page before it by key, so that rows which others add or
    delete meanwhile move no other row to another page. To be fetched ahead, a page is counted off
    from the last row that is known, and begins with the last row of the page before it. Where it
    begins with another, rows were added, changed or deleted, and it is fetched anew by key.

    Args:
        limit: how many rows are read; None for all.
        offset: how many rows are left out at the beginning.
    """

    def __init__(
        self,
        builder: RequestBuilder,
        filters: Filters,
        order: Ordering,
        limit: int | None = None,
        offset: int = 0,
    ) -> None:
        self._builder = builder
        self._filters = filters
        self._order = order
        self._left = limit
        self._offset = offset
        self._last: Mapping[str, Any] | None = None
        self._following: Filters | None = filters  # of the rows after the last; built when needed
        self._requests: deque[PageRequest] = deque()
        self._rows_requested = 0
        self._concurrent = 1
        self._returned: int | None = None  # by the request before, where that were too few

    async def pages(self) -> AsyncGenerator[Records]:
        """Yield the JSON objects of each page, while the next ones are fetched.

        To be closed (`aclosing`), so that no request goes on.
        """
        try:
            is_end = False
            while not is_end and self._left != 0:
                self._request_pages()
                request = self._requests.popleft()
                records, is_last = await request.response
                self._rows_requested -= request.new_rows
                if request.overlaps and records[:1] != [self._last]:
                    await self._cancel()
                    continue
                is_end = self._is_end(request, records, is_last)
                if len(records) < request.size:
                    await self._cancel()
                del records[: request.overlaps]
                self._take(records)
                if not is_end:
                    self._request_pages()
                if records:
                    yield records
        finally:
            await self._cancel()

    def _is_end(self, request: PageRequest, records: Records, is_last: bool) -> bool:
        """Return whether there are no rows after those of a page."""
        returned, before = len(records), self._returned
        self._returned = returned if returned < request.size else None
        if request.overlaps:
            return False
        if self._last is None:
            return is_last or not records
        # The project's limit may be lower than it was: nothing but an empty page is the end.
        if records and returned == before:
            self._builder.shared.max_rows.limit = returned
        return not records

    def _take(self, records: Records) -> None:
        """Go on after the rows of a page."""
        if self._left is not None:
            self._left -= len(records)
        if records:
            self._last = records[-1]
            self._following = None
            self._offset = 0
        self._concurrent = min(2 * self._concurrent, CONCURRENT_REQUESTS)

    def _request_pages(self) -> None:
        page_size = self._builder.shared.max_rows.limit or ROWS_A_REQUEST
        concurrent = self._concurrent if page_size > 1 else 1
        while len(self._requests) < concurrent:
            ahead = self._rows_requested
            overlap = 1 if ahead else 0
            size = page_size
            if self._left is not None:
                size = min(size, self._left - ahead + overlap)
            if size <= overlap:
                return
            offset = self._offset + ahead - overlap
            fetching = self._builder.fetch(self._filters_after(), self._order, size, offset)
            request = PageRequest(asyncio.ensure_future(fetching), size, bool(overlap))
            self._requests.append(request)
            self._rows_requested += request.new_rows

    def _filters_after(self) -> Filters:
        if self._following is None:
            assert self._last is not None
            self._following = self._builder.continued(self._filters, self._order, self._last)
        return self._following

    async def _cancel(self) -> None:
        responses = [request.response for request in self._requests]
        self._requests.clear()
        self._rows_requested = 0
        for response in responses:
            response.cancel()
        await asyncio.gather(*responses, return_exceptions=True)


async def read_records(
    builder: RequestBuilder,
    filters: Filters,
    order: Ordering,
    limit: int | None = None,
    offset: int = 0,
) -> Records:
    """Read rows as JSON objects, by as many requests as it takes.

    Args:
        limit: None for all.
    """
    records: Records = []
    async with aclosing(PagedRead(builder, filters, order, limit, offset).pages()) as pages:
        async for page in pages:
            records += page
    return records


async def read_rows(
    builder: RequestBuilder,
    where: Sequence[Where],
    order: Ordering,
    *,
    limit: int | None = None,
) -> list[Row]:
    """Read rows, by as many requests as it takes.

    Args:
        limit: None for all.
    """
    return builder.codec.rows(await read_records(builder, builder.filters(*where), order, limit))
