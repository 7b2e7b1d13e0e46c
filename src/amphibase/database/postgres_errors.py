"""Translation of the errors of Postgres and its driver."""

import re

import psycopg

from amphibase.database.missing_value import missing_value
from amphibase.database.pool import PoolTimeout
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    Contention,
    Forbidden,
    ForeignKeyViolation,
    InvalidRequest,
    InvalidValue,
    ReadOnly,
    Unavailable,
)


def translate_postgres(error: psycopg.Error) -> AmphibaseError | None:
    """Translate by SQLSTATE (PostgreSQL docs, appendix A).

    Returns:
        None where the error is a fault of the program and should be raised as it is.
    """
    if isinstance(error, PoolTimeout):
        return Unavailable("All database connections are in use; try again")
    match error.sqlstate or "":
        case "23505":
            return Conflict(
                columns=_constraint_columns(error), constraint=error.diag.constraint_name
            )
        case "23503" | "23001":
            return ForeignKeyViolation()
        case "23502":
            return missing_value(error.diag.column_name)
        case "23514" | "23P01":
            return InvalidValue(constraint=error.diag.constraint_name)
        case "42501":
            return Forbidden("The database does not let this caller do that")
        case "P0001":  # RAISE EXCEPTION, by a function or a trigger of the application's
            return InvalidRequest(error.diag.message_primary)
        case "42883" | "42804":
            return InvalidValue("A column is compared with a value of another type")
        case "54000":  # more than a row of an index or a search vector has room for
            return InvalidValue("A value is larger than an index of the database takes")
        case state if state.startswith("22"):
            return InvalidValue()
        case "40001" | "40P01" | "55P03":
            return Contention()
        case "25006":
            return ReadOnly()
        case "57014":
            return Unavailable("The database took too long; try again", retry_after=1)
        case "53100":
            return Unavailable("The disk of the database is full")
        case state if state.startswith(("08", "53", "57P", "58")):
            return Unavailable()
        case "" if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return Unavailable()
        case "" if isinstance(error, psycopg.DataError):  # NUL in text, rejected by the driver
            return InvalidValue()
    return None


def _constraint_columns(error: psycopg.Error) -> tuple[str, ...]:
    # The detail names the columns, but in the server's language; the parentheses are constant.
    match = re.search(r"\(([^()]+)\)=\(", error.diag.message_detail or "")
    return tuple(name.strip(' "') for name in match[1].split(",")) if match else ()
