"""Reads and writes the tables of a Supabase project by its Data API, where no database is within
reach.

Values are read with a cast to text, and sent as JSON strings, which Postgres reads as it reads any
text (`json_populate_recordset`). What cannot be done twice by it is made so that it can: rows are
sent with their keys, and one that is there already stays.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import httpx
import orjson

from amphibase.backend import SERVICE
from amphibase.errors import (
    Conflict,
    Forbidden,
    ForeignKeyViolation,
    InvalidRequest,
    InvalidValue,
    MoveFailed,
    NotSupported,
    PayloadTooLarge,
)
from amphibase.move.catalog import CatalogTable, DatabaseCatalog, TableName
from amphibase.move.journal import Journal
from amphibase.move.parallel import Pace, in_parallel
from amphibase.move.tables.api_catalog import read_api_catalog
from amphibase.move.tables.api_rows import (
    any_of_keys,
    later_than,
    order_of,
    pages_of_keys,
    read_row,
    request_body,
    select_of,
    table_path,
)
from amphibase.move.tables.base import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Chunk,
    Key,
    Referrer,
    Rejected,
    Row,
    Selection,
)
from amphibase.move.tables.chunks import key_of
from amphibase.move.tables.rejections import Rejection, invalid_text, write_by_halves
from amphibase.records.filters.names import format_name
from amphibase.schema.triggers import MOVING
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json
from amphibase.supabase.records.parameters import total_of

IN_FLIGHT = 4
FIRST_PAGE = 1_000
"""What a project returns at most (`max_rows`), unless it is configured otherwise."""

CHECKPOINT = "checkpoint"

IN_UTC = "timezone=UTC"
"""In which text is written, whatever zone the project's database has."""

REJECTIONS = (Conflict, ForeignKeyViolation, InvalidRequest, InvalidValue, PayloadTooLarge)
"""Errors that are about the rows, and not about the project."""


@dataclass(slots=True)
class ChunkInFlight:
    """A chunk that is being written; the checkpoint may not be later than the first of them."""

    last: Key
    is_written: bool = False


class DataApiTables:
    """The tables of a project's exposed schema `public`. Use it as a context manager.

    Args:
        client: is closed with it.
        journal: holds the checkpoints, since the target has no place for them; None to read.
    """

    in_flight = IN_FLIGHT

    def __init__(self, client: SupabaseClient, journal: Journal | None = None) -> None:
        self._client = client
        self._journal = journal
        self._pace = Pace()
        self._writing: dict[TableName, deque[ChunkInFlight]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def catalog(self) -> DatabaseCatalog:
        """Read what tables there are: those that the API shows to the service."""
        headers = {"Accept": "application/openapi+json"}
        response = await self._send("GET", None, headers=headers)
        return read_api_catalog(read_json(response))

    async def count(self, table: CatalogTable) -> int:
        """Count the rows exactly."""
        headers = {"Prefer": "count=exact"}
        return total_of(await self._send("HEAD", table.name, headers=headers))

    async def read(
        self, selection: Selection, after: Key | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the rows after a key, or all, by pages; the next is read ahead.

        A page that is shorter than was requested is no end, as projects cut them: only an empty
        one is.

        Raises:
            NotSupported: the table has no key, by which pages follow one another.
        """
        if not selection.key:
            raise NotSupported(
                f"{selection.table.name} has no key, so it cannot be read by the Data API: give "
                "the database's URL (--db-url)"
            )
        limit = FIRST_PAGE
        following = asyncio.create_task(self._page(selection, after, limit))
        try:
            while True:
                chunk, size = await following
                if not chunk.rows:
                    return
                if size > CHUNK_BYTES:
                    limit = max(1, limit // 2)
                elif size < CHUNK_BYTES // 4:
                    limit = min(CHUNK_ROWS, limit * 2)
                following = asyncio.create_task(self._page(selection, chunk.last, limit))
                yield chunk
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await following

    async def rows(self, selection: Selection, keys: Sequence[Key]) -> Mapping[Key, Row]:
        """Return the rows with these keys; those that are missing are left out."""
        by_key: dict[Key, Row] = {}

        async def read(part: Sequence[Key]) -> None:
            async for row in self._matching(selection, part):
                by_key[key_of(row, selection.key_indexes)] = row

        await in_parallel(pages_of_keys(selection, keys), read, IN_FLIGHT)
        return by_key

    async def write_error(self, selection: Selection) -> str | None:
        """Insert no rows, which Postgres rejects by the columns alone; return why.

        The API does not show which columns are generated.
        """
        rejection = await self._write(selection, [])
        return None if rejection is None else rejection.reason

    async def checkpoint(self, table: TableName) -> Key | None:
        """Return the last key before which every chunk is written; None before the first."""
        if self._journal is None:
            return None
        key = self._journal.get(CHECKPOINT, str(table))
        return None if key is None else tuple(key)

    async def insert(self, selection: Selection, chunk: Chunk) -> list[Rejected]:
        """Write a chunk, then its checkpoint; rows that are there already stay.

        After a kill in between it is written again, which changes nothing.
        """
        table = selection.table.name
        writing = self._writing.setdefault(table, deque())
        own = ChunkInFlight(chunk.last)
        writing.append(own)
        rejected = await write_by_halves(chunk.rows, partial(self._insert, selection))
        own.is_written = True
        last = None
        while writing and writing[0].is_written:
            last = writing.popleft().last
        if last is not None and self._journal is not None:
            self._journal.put(CHECKPOINT, str(table), last)
        return rejected

    async def upsert(self, selection: Selection, rows: Sequence[Row]) -> list[Rejected]:
        """Write rows, in the place of those with the same keys."""
        write = partial(self._write, selection, resolution="merge-duplicates")
        return await write_by_halves(rows, write)

    async def delete(
        self, selection: Selection, keys: Sequence[Key], referrers: Sequence[Referrer] = ()
    ) -> int:
        """Delete rows by their keys, but those that a row of `referrers` refers to."""
        if referrers:
            keys = await self._unreferred(selection, keys, referrers)
        deleted = 0
        for part in pages_of_keys(selection, keys):
            response = await self._send(
                "DELETE",
                selection.table.name,
                any_of_keys(selection, part),
                headers={"Prefer": "return=minimal,count=exact"},
            )
            deleted += total_of(response)
        return deleted

    async def index(self, table: CatalogTable, column: str) -> None:
        """Do nothing: an API changes no tables."""

    async def clear(self, table: CatalogTable) -> None:
        """Raise NotSupported: only a table without a key is cleared, which no API can write."""
        raise NotSupported(f"{table.name} cannot be emptied by the Data API")

    async def forget_checkpoints(self) -> None:
        """Remove the checkpoints, which are in the journal."""
        if self._journal is not None:
            for name, _ in list(self._journal.entries(CHECKPOINT)):
                self._journal.delete(CHECKPOINT, name)

    async def _page(self, selection: Selection, after: Key | None, limit: int) -> tuple[Chunk, int]:
        """Return the rows after a key, and how many bytes their response has."""
        params = [*select_of(selection), order_of(selection), ("limit", str(limit))]
        if after is not None:
            params.append(later_than(selection, after))
        headers = {"Prefer": IN_UTC}
        response = await self._send("GET", selection.table.name, params, headers=headers)
        rows = [read_row(selection, each) for each in read_json(response)]
        last = key_of(rows[-1], selection.key_indexes) if rows else ()
        return Chunk(rows, last), len(response.content)

    async def _matching(self, selection: Selection, keys: Sequence[Key]) -> AsyncIterator[Row]:
        """Yield the rows with these keys, or one at least of each, where there are several and the
        project cuts the response."""
        remaining = set(keys)
        while remaining:
            response = await self._send(
                "GET",
                selection.table.name,
                [*select_of(selection), *any_of_keys(selection, list(remaining))],
                headers={"Prefer": f"{IN_UTC},count=exact"},
            )
            rows = [read_row(selection, each) for each in read_json(response)]
            for row in rows:
                yield row
                remaining.discard(key_of(row, selection.key_indexes))
            if not rows or total_of(response) == len(rows):
                return

    async def _insert(self, selection: Selection, rows: Sequence[Row]) -> Rejection | None:
        """Write rows together, but those that are there; return why they are rejected.

        Nearly always none is there, and ON CONFLICT would take Postgres half as long again.
        """
        rejection = await self._write(selection, rows)
        if rejection is None or not rejection.is_conflict:
            return rejection
        return await self._write(selection, rows, resolution="ignore-duplicates")

    async def _write(
        self, selection: Selection, rows: Sequence[Row], *, resolution: str | None = None
    ) -> Rejection | None:
        """Write rows together; return why they are rejected.

        Args:
            resolution: what becomes of those whose key is there; None rejects all rows then.
        """
        params = [("columns", ",".join(map(format_name, selection.columns)))]
        prefer = "return=minimal"
        if resolution is not None:
            params.append(("on_conflict", ",".join(map(format_name, selection.key))))
            prefer = f"{prefer},resolution={resolution}"
        try:
            content = request_body(selection, rows)
            await self._send(
                "POST",
                selection.table.name,
                params,
                headers={"Prefer": prefer, "Content-Type": "application/json", MOVING: "on"},
                content=content,
            )
        except (*REJECTIONS, orjson.JSONEncodeError) as error:
            reason = invalid_text(selection.columns, rows[0]) if len(rows) == 1 else None
            return Rejection(reason or str(error), isinstance(error, Conflict))
        return None

    async def _unreferred(
        self, selection: Selection, keys: Sequence[Key], referrers: Sequence[Referrer]
    ) -> list[Key]:
        """Return the keys of rows that no row of `referrers` refers to."""
        kept = set(keys)
        for referrer in referrers:
            wide = Selection(
                selection.table,
                (*selection.key, *referrer.target_columns),
                selection.key,
                (),
            )
            targets: dict[Key, Key] = {}
            for row in (await self.rows(wide, list(kept))).values():
                if None not in row:
                    place = len(selection.key)
                    targets[row[place:]] = row[:place]  # type: ignore[index, assignment]
            columns = tuple(
                replace(selection.table.column(target), name=name)
                for name, target in zip(referrer.columns, referrer.target_columns, strict=True)
            )
            table = CatalogTable(referrer.table, columns)
            by_target = Selection(table, referrer.columns, referrer.columns, ())
            for part in pages_of_keys(by_target, list(targets)):
                async for row in self._matching(by_target, part):
                    kept.discard(targets[key_of(row, by_target.key_indexes)])
        return [key for key in keys if key in kept]

    async def _send(
        self,
        method: str,
        table: TableName | None,
        params: Sequence[tuple[str, str]] = (),
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send a request of the service's, all of which may be repeated, until it is taken.

        Args:
            table: None for the description of all.

        Raises:
            MoveFailed: the service has no rights to the table.
        """

        async def send() -> httpx.Response:
            try:
                return await self._client.request(
                    "rest",
                    method,
                    "/" if table is None else table_path(table),
                    SERVICE,
                    params=params,
                    headers=headers,
                    content=content,
                )
            except Forbidden:  # by the table's rights; a key is rejected as unauthenticated
                raise MoveFailed(
                    f"The project's service may not do that to {table}: run GRANT ALL ON {table} "
                    "TO service_role in its SQL editor"
                ) from None

        return await self._pace.keep(send)
