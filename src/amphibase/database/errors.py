"""Translation of driver errors: the one place where they become Amphibase's."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    NoResultFound,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as QueueTimeout
from sqlalchemy.orm.exc import StaleDataError

from amphibase.database.pool import PoolTimeout
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    Contention,
    Forbidden,
    ForeignKeyViolation,
    InvalidRequest,
    InvalidValue,
    NotFound,
    StaleVersion,
    Unavailable,
)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise the driver's errors inside the block as Amphibase's."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        translated = translate(error)
        if translated is None:
            raise
        raise translated from error


def translate(error: BaseException) -> AmphibaseError | None:
    """Return the Amphibase error that a driver's error means.

    Returns:
        None where the error is a fault of the program and should be raised as it is.
    """
    if isinstance(error, QueueTimeout | PoolTimeout):
        return Unavailable("All database connections are in use; try again")
    if isinstance(error, NoResultFound):
        return NotFound()
    if isinstance(error, StaleDataError):
        return StaleVersion()
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        # A value that its column's type could not turn into the database's.
        return InvalidValue("A value does not fit the type of its column")
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, OverflowError):  # an integer that SQLite has no room for
        return InvalidValue("A number is out of the range of its column")
    if isinstance(original, psycopg.Error):
        return _from_postgres(original)
    if isinstance(original, sqlite3.Error):
        return _from_sqlite(original)
    if isinstance(error, OperationalError | InterfaceError):
        return Unavailable()
    return None


def _from_postgres(error: psycopg.Error) -> AmphibaseError | None:
    """Translate by SQLSTATE (PostgreSQL docs, appendix A)."""
    match error.sqlstate or "":
        case "23505":
            return Conflict(
                columns=_constraint_columns(error), constraint=error.diag.constraint_name
            )
        case "23503" | "23001":
            return ForeignKeyViolation()
        case "23502" | "23514" | "23P01":
            return _invalid_value(error.diag.column_name)
        case "42501":
            return Forbidden("The database does not let this caller do that")
        case "P0001":  # RAISE EXCEPTION, by a function or a trigger of the application's
            return InvalidRequest(error.diag.message_primary)
        case "42883" | "42804":
            return InvalidValue("A column is compared with a value of another type")
        case state if state.startswith("22"):
            return InvalidValue()
        case "40001" | "40P01" | "55P03":
            return Contention()
        case "57014":
            return Unavailable("The database took too long; try again", retry_after=1)
        case "53100":
            return Unavailable("The disk of the database is full")
        case state if state.startswith(("08", "25006", "53", "57P", "58")):
            return Unavailable()
        case "" if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return Unavailable()
        case "" if isinstance(error, psycopg.DataError):  # NUL in text, refused by the driver
            return InvalidValue()
    return None


def _invalid_value(column: str | None) -> InvalidValue:
    if not column:
        return InvalidValue()
    return InvalidValue(rejected_value_message(column), field=column)


def rejected_value_message(column: str) -> str:
    """Return the message of a value that the database rejects for a column."""
    return f"The database does not take this value of {column}"


def _constraint_columns(error: psycopg.Error) -> tuple[str, ...]:
    # The detail names the columns, but in the server's language; the parentheses are constant.
    found = re.search(r"\(([^()]+)\)=\(", error.diag.message_detail or "")
    return tuple(name.strip(' "') for name in found[1].split(",")) if found else ()


def _from_sqlite(error: sqlite3.Error) -> AmphibaseError | None:
    """Translate by extended result code (SQLite docs, "Result and Error Codes")."""
    message = str(error)
    name = getattr(error, "sqlite_errorname", "")
    match name:
        case "SQLITE_CONSTRAINT_UNIQUE" | "SQLITE_CONSTRAINT_PRIMARYKEY":
            names = message.partition(": ")[2].split(", ")
            return Conflict(columns=[part.rpartition(".")[2] for part in names if "." in part])
        case "SQLITE_CONSTRAINT_FOREIGNKEY":
            return ForeignKeyViolation()
        case "SQLITE_CONSTRAINT_NOTNULL":
            return _invalid_value(message.rpartition(".")[2])
        case "SQLITE_CONSTRAINT_CHECK" | "SQLITE_CONSTRAINT_DATATYPE":
            return InvalidValue()
        case "SQLITE_MISMATCH" | "SQLITE_TOOBIG":
            return InvalidValue()
        case "SQLITE_FULL":
            return Unavailable("The disk of the database is full")
        case _ if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Contention()
        case _ if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
            return Unavailable()
        case "SQLITE_NOTADB" | "SQLITE_CORRUPT":
            return Unavailable("The database file is damaged or is not a database")
    return None
