"""Transactions of Storage: as the owner of its tables, and as callers, as policies decide."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg

from amphibase.database.impersonation import Impersonation, RoleNotAllowed
from amphibase.database.pipeline_connection import PipelineTransaction
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.errors import AmphibaseError, Conflict, Forbidden, ForeignKeyViolation
from amphibase.gateway.database_errors import driver_error, log_missing_right, raised_error
from amphibase.gateway.storage.caller import StorageCaller
from amphibase.gateway.storage.errors import (
    AccessDenied,
    RejectedByDatabase,
    RelatedResourceMissing,
    ResourceAlreadyExists,
    StorageError,
)

STATEMENT_MILLISECONDS = 30_000
CALLER_ROLE = "the role of the caller"
SEARCH_PATH = "storage, public, extensions"
HIDDEN_ROW = "new row violates row-level security policy"


class StorageTransactions:
    """Begins the transactions of Storage.

    Args:
        database: as a role that owns the tables and may become the roles of callers.
    """

    def __init__(self, database: PipelineDatabase) -> None:
        self._database = database

    @asynccontextmanager
    async def as_admin(self) -> AsyncIterator[PipelineTransaction]:
        """Begin a transaction that sees every row. Raises StorageError."""
        with _translated_errors():
            async with self._database.write() as connection:
                yield connection

    @asynccontextmanager
    async def as_caller(
        self, caller: StorageCaller, operation: str, *, deletes: bool = False
    ) -> AsyncIterator[PipelineTransaction]:
        """Begin a transaction that sees and changes what the caller may.

        Args:
            operation: what policies see by `storage.operation()`.
            deletes: whether rows are deleted, which the tables are protected from otherwise.

        Raises:
            StorageError: the role does not exist; or the database rejects what is done.
        """
        async with self.as_admin() as connection:
            await impersonate(connection, caller, operation, deletes=deletes)
            yield connection


async def impersonate(
    connection: PipelineTransaction, caller: StorageCaller, operation: str, *, deletes: bool = False
) -> None:
    """Continue a transaction as the caller, until it or its savepoint ends.

    Raises:
        AccessDenied: the role does not exist, or is none that callers have.
    """
    settings = {
        "request.jwt.claim.sub": caller.subject or "",
        "request.jwt.claim.role": caller.role,
        "request.method": caller.method,
        "request.path": caller.path,
        "request.headers": caller.headers,
        "storage.operation": operation,
        "storage.allow_delete_query": str(deletes).lower(),
        "statement_timeout": str(STATEMENT_MILLISECONDS),
    }
    try:
        # A token names the role: as with the Data API, it takes those that `authenticator` may.
        await connection.impersonate(Impersonation(caller.role, caller.claims, settings))
    except RoleNotAllowed as error:
        raise AccessDenied(str(error)) from None


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise what the database rejects as the errors of Storage."""
    try:
        yield
    except Conflict:
        raise ResourceAlreadyExists from None
    except ForeignKeyViolation:
        raise RelatedResourceMissing from None
    except Forbidden as error:
        log_missing_right(error, CALLER_ROLE, SEARCH_PATH)
        raise AccessDenied(_message(error)) from None
    except StorageError:
        raise
    except (AmphibaseError, psycopg.Error) as error:
        log_missing_right(error, CALLER_ROLE, SEARCH_PATH)
        if raised := raised_error(error):
            raise RejectedByDatabase(raised) from error
        raise


def _message(error: Forbidden) -> str:
    """The database's message, except where it names a policy's table."""
    original = driver_error(error)
    message = original.diag.message_primary if original is not None else None
    return HIDDEN_ROW if message is None or "row-level" in message else message
