"""Impersonation: a transaction that the database runs as another role, with that role's claims.

Row level security decides by the role and by `request.jwt.claims`, so this is the statement that
all authorization by the database hangs on. There is one text of it, for records, the Data API and
Storage. All that it sets is local to the transaction: the end of the transaction is the way back,
or, in the middle of one, undoing a savepoint (`as_connection_user`).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from amphibase.database.statement import Call, Statement

if TYPE_CHECKING:  # without the engine, nothing of it is imported
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

CLAIMS = "request.jwt.claims"
"""Where PostgREST puts a token's claims, and `auth.uid()` finds them."""

# With their schema: a database's search path may put functions of the same names before them.
_SET = "pg_catalog.set_config('{}', {}, true)"
_ROLE = "pg_catalog.set_config('role', {}, true)"
_ROLE_OF_AUTHENTICATOR = """(
    SELECT pg_catalog.set_config('role', rolname, true) FROM pg_catalog.pg_roles
    WHERE rolname = {} AND pg_catalog.pg_has_role('authenticator', oid, 'MEMBER')
)"""
_CONNECTION_USER = _ROLE.format("'none'")


class RoleNotAllowed(Exception):
    """The role does not exist, or `authenticator` may not assume it."""

    def __init__(self, role: str) -> None:
        self.role = role
        super().__init__(f'role "{role}" does not exist')


class Impersonation(NamedTuple):
    """Whom a transaction runs as.

    Attributes:
        role: of the database.
        claims: JSON.
        settings: further settings of the transaction, such as `search_path`, `statement_timeout`
            or `request.method`; the role and the claims win over one of the same name.
    """

    role: str
    claims: str
    settings: Mapping[str, str] = MappingProxyType({})

    def call(self, *, read_only: bool = False, of_authenticator: bool = False) -> Call:
        """Return the call that begins it, to go before all others of a run in pipeline mode.

        Args:
            read_only: whether the transaction may write nothing.
            of_authenticator: whether the connection may assume more roles than a token may name;
                see `is_allowed`.
        """
        statement = _statement(
            tuple(self.settings), read_only=read_only, of_authenticator=of_authenticator
        )
        return Call(statement, self._values(), self.role)

    def is_allowed(self, rows: Sequence[tuple[int]], *, read_only: bool = False) -> bool:
        """Return whether `authenticator` may assume the role, by the rows of a call that says
        `of_authenticator`; else nobody is impersonated, and nothing that follows may be read."""
        return [*rows] == [(len(self.settings) + 2 + read_only,)]

    def impersonate(self, connection: "Connection") -> None:
        """Begin it on a connection of the engine in a transaction."""
        connection.exec_driver_sql(_driver_sql(tuple(self.settings)), self._values())

    def _values(self) -> tuple[str, ...]:
        return (*self.settings.values(), self.claims, self.role)


async def impersonate(connection: "AsyncConnection", impersonation: Impersonation) -> None:
    """Run the rest of a transaction of the engine as another role."""
    await connection.run_sync(impersonation.impersonate)


@asynccontextmanager
async def as_connection_user(connection: "AsyncConnection") -> AsyncIterator[None]:
    """Read as the user that the connection was opened as, within an impersonated transaction.

    However the block ends, its savepoint is undone, and with it the role, the claims and whatever
    it wrote: the connection is the impersonated role's again.
    """
    async with connection.begin_nested() as savepoint:
        await connection.exec_driver_sql(f"SELECT {_CONNECTION_USER}")
        yield
        await savepoint.rollback()


@lru_cache(1024)
def _statement(names: tuple[str, ...], *, read_only: bool, of_authenticator: bool) -> Statement:
    """Return the statement with the server's placeholders."""
    places = [f"${place}" for place in range(1, len(names) + 3)]
    role = _ROLE_OF_AUTHENTICATOR if of_authenticator else _ROLE
    return Statement(_write(names, places, role, read_only=read_only))


@lru_cache(1024)
def _driver_sql(names: tuple[str, ...]) -> str:
    """Return the statement with the driver's placeholders."""
    escaped = tuple(name.replace("%", "%%") for name in names)
    return _write(escaped, ["%s"] * (len(names) + 2), _ROLE)


def _write(
    names: tuple[str, ...], places: Sequence[str], role: str, *, read_only: bool = False
) -> str:
    """Write the statement; its one row is the number of the settings that have a value now.

    The role comes last, since it may be forbidden to set the others.
    """
    *values, name_of_role = places
    parts = [_SET.format("transaction_read_only", "'on'")] if read_only else []
    for name, value in zip((*names, CLAIMS), values, strict=True):
        parts.append(_SET.format(name.replace("'", "''"), value))
    parts.append(role.format(name_of_role))
    return f"SELECT pg_catalog.num_nonnulls({', '.join(parts)})"
