"""Runs a request's statement as its role: one transaction, and nearly always one round trip.

Before the statement go the settings that it may read (`request.*`), the search path and the role,
all of which end with the transaction.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import psycopg

from amphibase.backend import Isolation
from amphibase.database.impersonation import Impersonation
from amphibase.database.pool import Cells, PipelinePool, PoolTimeout
from amphibase.database.statement import Call, Statement
from amphibase.gateway.rest.errors.base import (
    FINAL_STATUSES,
    AcquisitionTimeout,
    CannotConnect,
    Header,
    InvalidRaise,
    RestError,
)
from amphibase.gateway.rest.errors.database import DatabaseError, status_of_sqlstate
from amphibase.gateway.rest.transaction.role import RequestRole

_CHECK_CONSTRAINTS = Call(Statement("SET CONSTRAINTS ALL IMMEDIATE"))
"""Checks deferred constraints now, as the commit would."""

Check = Callable[[Cells], None]
"""Looks at the result before it is committed; what it raises undoes it."""


class RoleQuery(NamedTuple):
    """A statement to run, and how.

    Attributes:
        call: the statement; it gives one row.
        first: what goes before it, as `first_calls` returns it.
        estimate: a statement that says how many rows there may be.
        is_read: in a read-only transaction, which may be sent again where the connection breaks.
        check: what has to hold for a commit.
        rolls_back: whatever is done is undone.
        isolation: of the transaction, where it is not the database's own.
    """

    call: Call
    role: RequestRole
    first: tuple[Call, ...]
    is_read: bool = False
    check: Check | None = None
    rolls_back: bool = False
    isolation: Isolation | None = None
    estimate: Call | None = None


class _Undone(Exception):
    """The way out of a transaction that leaves nothing."""


@dataclass
class RoleExecutor:
    """Runs queries on a pool.

    Args:
        pool: connects as a role that may become all others, and nothing else.
    """

    pool: PipelinePool

    async def run(self, query: RoleQuery) -> tuple[Cells, Cells | None]:
        """Run the query; return its row and that of its estimate, as the server wrote them.

        Raises:
            RestError: an error of the database, or of the query's check.
        """
        calls = calls_of(query)
        try:
            if query.check is None and not query.rolls_back and query.isolation is None:
                results = await self.pool.run_raw(
                    *calls, again=query.is_read, skip=len(query.first)
                )
            else:
                results = await self._run_held(query, calls)
        except psycopg.Error as error:
            raise translate(error, query.role) from None
        if query.estimate is None:
            return _joined(results[-1]), None
        return _joined(results[-2]), _joined(results[-1])

    async def _run_held(self, query: RoleQuery, calls: Sequence[Call]) -> list[list[Cells]]:
        results: list[list[Cells]] = []
        with suppress(_Undone):
            async with self.pool.transaction(query.isolation) as run:
                results = await run(*calls)
                if query.check is not None:
                    query.check(results[-1][0])
                if query.rolls_back:
                    await run(_CHECK_CONSTRAINTS)
                    raise _Undone
        return results


def _joined(rows: list[Cells]) -> Cells:
    """The row; the lines of an EXPLAIN as one."""
    if len(rows) == 1:
        return rows[0]
    return (b"\n".join(row[0] or b"" for row in rows),)


def first_calls(
    role: RequestRole, settings: Mapping[str, str], before: Sequence[Call], *, read_only: bool
) -> tuple[Call, ...]:
    """Return what begins the transaction of a role.

    Args:
        settings: of the transaction, by name.
        before: functions that are called as the role, before its own statement.
    """
    impersonation = Impersonation(role.name, role.claims, settings)
    return (impersonation.call(read_only=read_only), *before)


def calls_of(query: RoleQuery) -> tuple[Call, ...]:
    """Return what a query runs, in this order."""
    if query.estimate is None:
        return (*query.first, query.call)
    return (*query.first, query.call, query.estimate)


def translate(error: psycopg.Error, role: RequestRole) -> RestError:
    """Translate an error of Postgres or of the connection to it."""
    diagnosis = error.diag
    state, message = diagnosis.sqlstate, diagnosis.message_primary or ""
    if state is None:
        if isinstance(error, psycopg.OperationalError):
            return AcquisitionTimeout() if isinstance(error, PoolTimeout) else _connection_lost()
        # A value that never came to the server: it holds what no text can, the character NUL.
        return DatabaseError(400, "22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    if state == "PGRST":
        return _raised(message, diagnosis.message_detail)
    status = status_of_sqlstate(state, message, is_authenticated=not role.is_anonymous)
    headers: list[Header] = []
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    return DatabaseError(
        status, state, message, diagnosis.message_detail, diagnosis.message_hint, headers
    )


def _connection_lost() -> RestError:
    # libpq's reason may name the server, which is no client's business.
    return CannotConnect("The connection to the database failed")


def _raised(message: str, detail: str | None) -> RestError:
    """A response that a function chose: RAISE SQLSTATE 'PGRST'."""
    error = _object(message)
    if error is None or not {"code", "message"} <= error.keys():
        return InvalidRaise(f"Invalid JSON value for MESSAGE: '{message}'")
    if detail is None:
        return InvalidRaise("DETAIL is missing in the RAISE statement")
    more = _object(detail)
    status, headers = (more or {}).get("status"), (more or {}).get("headers")
    if not isinstance(status, int) or not isinstance(headers, dict) or status not in FINAL_STATUSES:
        return InvalidRaise(f"Invalid JSON value for DETAIL: '{detail}'")
    return DatabaseError(
        status,
        str(error["code"]),
        str(error["message"]),
        error.get("details"),
        error.get("hint"),
        [header for name, value in headers.items() if (header := header_of(name, value))],
    )


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = ("connection", "content-length", "transfer-encoding")
"""Headers about the message itself, which only the server knows."""


def header_of(name: str, value: object) -> Header | None:
    """Make a header that a function set; None if it is not valid (RFC 9110, section 5)."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(name) or name.lower() in _FRAMING:
        return None
    if any((ord(char) < 32 and char != "\t") or char == "\x7f" for char in value):
        return None
    return name.lower().encode(), value.strip().encode()


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
