"""Translation of driver errors: the one place where they become Amphibase's."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    NoResultFound,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as QueueTimeout
from typing_extensions import TypeIs

from amphibase.database.missing_value import missing_value
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    Contention,
    ForeignKeyViolation,
    InvalidValue,
    NotFound,
    ReadOnly,
    StaleVersion,
    Unavailable,
)

if TYPE_CHECKING:  # of what was never imported, no error can be
    import sqlite3

    import psycopg

SQLITE_READ_ONLY = "amphibase: read only"
"""What a trigger of a move raises, as SQLite has no states of its own to tell errors apart by."""

SQLITE_FUNCTION_RAISED = "user-defined function raised exception"
"""What Python's driver says of a function written in Python, such as `REGEXP`."""


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise the driver's errors inside the block as Amphibase's."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, SQLAlchemyError) or is_of_driver(error)):
            raise
        translated = translate(error)
        if translated is None:
            raise
        raise translated from error


def translate(error: BaseException) -> AmphibaseError | None:
    """Return the Amphibase error that a driver's error means.

    Returns:
        None where the error is a fault of the program and should be raised as it is.
    """
    if isinstance(error, QueueTimeout):
        return Unavailable("All database connections are in use; try again")
    if isinstance(error, NoResultFound):
        return NotFound()
    if _is_of_stale_object(error):
        return StaleVersion()
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        # A value that its column's type could not turn into the database's.
        return InvalidValue("A value does not fit the type of its column")
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, OverflowError):  # an integer that SQLite has no room for
        return InvalidValue("A number is out of the range of its column")
    if _is_of_postgres(original):
        from amphibase.database.postgres_errors import translate_postgres

        return translate_postgres(original)
    if _is_of_sqlite(original):
        return _from_sqlite(original)
    if isinstance(error, OperationalError | InterfaceError):
        return Unavailable()
    return None


def is_of_driver(error: BaseException) -> bool:
    """Return whether an error is a driver's own, which SQLAlchemy has not wrapped."""
    return _is_of_sqlite(error) or _is_of_postgres(error)


def _is_of_postgres(error: BaseException | None) -> TypeIs["psycopg.Error"]:
    driver = sys.modules.get("psycopg")
    return driver is not None and isinstance(error, driver.Error)


def _is_of_stale_object(error: BaseException) -> bool:
    """Return whether an object was changed that is another version in the database by now."""
    orm = sys.modules.get("sqlalchemy.orm.exc")
    return orm is not None and isinstance(error, orm.StaleDataError)


def _is_of_sqlite(error: BaseException | None) -> TypeIs["sqlite3.Error"]:
    driver = sys.modules.get("sqlite3")
    return driver is not None and isinstance(error, driver.Error)


def _from_sqlite(error: "sqlite3.Error") -> AmphibaseError | None:
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
            return missing_value(message.rpartition(".")[2])
        case "SQLITE_CONSTRAINT_CHECK":
            return InvalidValue(constraint=message.rpartition(": ")[2])
        case "SQLITE_CONSTRAINT_DATATYPE" | "SQLITE_MISMATCH" | "SQLITE_TOOBIG":
            return InvalidValue()
        case "SQLITE_CONSTRAINT_TRIGGER" if message == SQLITE_READ_ONLY:
            return ReadOnly()
        case "SQLITE_FULL":
            return Unavailable("The disk of the database is full")
        case _ if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Contention()
        case _ if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
            return Unavailable()
        case "SQLITE_ERROR" if message == SQLITE_FUNCTION_RAISED:
            return InvalidValue("A value is not one that a function of the database takes")
        case "SQLITE_NOTADB" | "SQLITE_CORRUPT":
            return Unavailable("The database file is damaged or is not a database")
    return None
