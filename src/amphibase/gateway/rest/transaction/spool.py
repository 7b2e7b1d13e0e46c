"""Reads a large list row by row into a file, so that it never is in memory as a whole.

A file, and not the client, since a client that reads slowly would hold the connection; and since
an error of the database can still become the response.
"""

import asyncio
import tempfile
from typing import IO, NamedTuple

import psycopg

from amphibase.database.pool import PipelinePool
from amphibase.database.statement import Call, Statement
from amphibase.gateway.rest.errors.database import DatabaseError
from amphibase.gateway.rest.sql.statement import CURSOR
from amphibase.gateway.rest.transaction.run import RoleQuery, calls_of, translate

_FETCH_BYTES = 2 * 1024 * 1024
_MAX_ROWS = 1000


class SpooledRows(NamedTuple):
    """A JSON array in a file, which is deleted when it is closed.

    Attributes:
        file: at its beginning.
        size: in bytes.
    """

    file: IO[bytes]
    size: int
    rows: int


async def spool(pool: PipelinePool, query: RoleQuery, separator: bytes) -> SpooledRows:
    """Read the rows of a query whose call declares the cursor `CURSOR`.

    Args:
        separator: what stands between the elements of the array.

    Raises:
        DatabaseError: an error of the database, or of the temporary file.
    """
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed once it is sent
        try:
            rows = await _write(pool, query, separator, file)
            size = file.tell()
            file.seek(0)
        except BaseException:
            file.close()
            raise
    except psycopg.Error as error:
        raise translate(error, query.role) from None
    except OSError as error:
        message = f"The list is large, and cannot be put in a temporary file: {error.strerror}"
        hint = "Request fewer rows, by limit and offset or the header Range."
        raise DatabaseError(503, "53100", message, hint=hint) from None
    return SpooledRows(file, size, rows)


async def _write(pool: PipelinePool, query: RoleQuery, separator: bytes, file: IO[bytes]) -> int:
    """Write the array, and return how many elements it has."""
    rows, count = 0, 1
    file.write(b"[")
    async with pool.transaction(query.isolation) as run:
        await run(*calls_of(query))
        while True:
            (fetched,) = await run(Call(Statement(f"FETCH {count} FROM {CURSOR}")))
            elements = [row[0] or b"null" for row in fetched]
            first = separator if rows and elements else b""
            await asyncio.to_thread(file.write, first + separator.join(elements))
            rows += len(elements)
            if len(elements) < count:
                break
            # As many as have about the bytes of one fetch, by the rows so far.
            count = max(1, min(_MAX_ROWS, _FETCH_BYTES * rows // file.tell()))
    file.write(b"]")
    return rows
