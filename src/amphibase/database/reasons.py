"""What databases say of a failure: for whoever runs a command, and never in a response."""

import psycopg


def reason_of(error: BaseException | None) -> str:
    """Return in one line what a database said: a wrong password, no such database, no privilege.

    It has neither details nor values of rows, nor libpq's questions; of several tries it is the
    last. Passwords are in none of these messages.

    Args:
        error: the driver's, or SQLAlchemy's around it.

    Returns:
        Nothing where the error is not a database's.
    """
    original = getattr(error, "orig", error)
    if isinstance(original, psycopg.Error):
        lines = [line.strip("\t -") for line in str(original).splitlines()]
        messages = [line for line in lines if line and not line.endswith("?")]
        return original.diag.message_primary or (messages or [type(original).__name__])[-1]
    import sqlite3  # not at the top: the local Supabase does without

    return str(original) if isinstance(original, sqlite3.Error) else ""


def is_sign_in_rejected(error: BaseException | None) -> bool:
    """Return whether a database was reached, asked for a password, and let nobody in.

    libpq gives no SQLSTATE of a connection that fails, but tells whether the server asked for a
    password (`PQconnectionUsedPassword`). psycopg has `pgconn` in errors of connecting alone.

    Args:
        error: the driver's, or SQLAlchemy's around it.
    """
    original = getattr(error, "orig", error)
    pgconn = original.pgconn if isinstance(original, psycopg.Error) else None
    return pgconn is not None and pgconn.used_password
