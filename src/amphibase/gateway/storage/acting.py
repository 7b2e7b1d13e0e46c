"""Transactions that see and change what the sender of a request may, as policies decide."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.database.engine import Database
from amphibase.errors import Conflict, Forbidden, ForeignKeyViolation
from amphibase.gateway.storage.errors import StorageError, denied, taken
from amphibase.gateway.storage.identity import Identity

STATEMENT_MILLISECONDS = 30_000
HIDDEN_ROW = "new row violates row-level security policy"

# A token names the role, and the connection may become every role: as with the Data API, it becomes
# those alone that `authenticator` may.
_BECOME = text("""
SELECT
    set_config('request.jwt.claims', :claims, true),
    set_config('request.jwt.claim.sub', :subject, true),
    set_config('request.jwt.claim.role', :role, true),
    set_config('request.method', :method, true),
    set_config('request.path', :path, true),
    set_config('request.headers', :headers, true),
    set_config('storage.operation', :operation, true),
    set_config('statement_timeout', :timeout, true),
    (
        SELECT set_config('role', rolname, true) FROM pg_roles
        WHERE rolname = :role AND pg_has_role('authenticator', oid, 'MEMBER')
    )
""")


class Acting:
    """Transactions as the owner of the tables, and as others.

    Args:
        database: as a role that may become all others.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees everything. Raises StorageError."""
        with _told():
            async with self._database.write() as connection:
                yield connection

    @asynccontextmanager
    async def sender(self, identity: Identity, operation: str) -> AsyncIterator[AsyncConnection]:
        """A transaction as the sender of a request, from its beginning.

        Args:
            operation: what policies may ask for by `storage.operation()`.

        Raises:
            StorageError: there is no such role; or the database refuses what is done.
        """
        async with self.owner() as connection:
            await become(connection, identity, operation)
            yield connection


async def become(connection: AsyncConnection, identity: Identity, operation: str) -> None:
    """Go on in a transaction as the sender of a request. Raises StorageError."""
    values = {
        "claims": identity.claims,
        "subject": identity.subject or "",
        "role": identity.role,
        "method": identity.method,
        "path": identity.path,
        "headers": identity.headers,
        "operation": operation,
        "timeout": str(STATEMENT_MILLISECONDS),
    }
    row = (await connection.execute(_BECOME, values)).one()
    if row[-1] is None:
        raise denied(f'role "{identity.role}" does not exist')


@contextmanager
def _told() -> Iterator[None]:
    """What the database refuses, in the words of Storage."""
    try:
        yield
    except Conflict:
        raise taken() from None
    except ForeignKeyViolation:
        message = "The related resource does not exist"
        raise StorageError(404, "InvalidRequest", message) from None
    except Forbidden as error:
        raise denied(_refusal(error)) from None


def _refusal(error: Forbidden) -> str:
    """What the database says, except where it names a policy's table."""
    cause = getattr(error.__cause__, "orig", error.__cause__)
    if isinstance(cause, psycopg.Error) and "row-level" not in str(cause):
        return cause.diag.message_primary or HIDDEN_ROW
    return HIDDEN_ROW
