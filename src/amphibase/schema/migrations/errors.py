"""Says what to do about errors of revisions."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from amphibase.errors import ConfigurationError

NOT_NULL_VIOLATION = "23502"
UNSAFE_NEW_ENUM_VALUE = "55P04"


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn Alembic's errors about revisions into errors that say what to do."""
    try:
        yield
    except CommandError as error:
        text = str(error).splitlines()[0]
        if "Multiple head" in text or "multiple heads" in text:
            text = (
                "Two revisions follow the same one: in one of the two files, set down_revision to "
                "the other's revision"
            )
        elif "Can't locate revision" in text:
            text = (
                f"{text}; `amphibase db current` names the newest, and `base` is before the first"
            )
        raise ConfigurationError(text) from error


def advice(error: DBAPIError) -> str | None:
    """Return what to do about an error that is particular to revisions, None for others."""
    state = getattr(error.orig, "sqlstate", None)
    if state == UNSAFE_NEW_ENUM_VALUE:
        return (
            "it uses a value of an enum that another revision of the same upgrade adds, which "
            "Postgres allows only after that one is stored: run `amphibase db upgrade` with the "
            "revision before this one first"
        )
    message = str(error.orig)
    diagnosis = getattr(error.orig, "diag", None)
    if state == NOT_NULL_VIOLATION and diagnosis is not None:
        column = f"{diagnosis.table_name}.{diagnosis.column_name}"
    elif match := re.fullmatch(r"NOT NULL constraint failed: (?:_alembic_tmp_)?(.+)", message):
        column = match[1]
    elif message.startswith("Cannot add a NOT NULL column"):
        column = "the new column"
    else:
        return None
    return (
        f"rows that exist have no value for {column}: give it a server_default in the revision, or "
        "add it with nullable=True, fill it by op.execute() and change it to nullable=False then"
    )


def primary_message(error: DBAPIError) -> str:
    """Return the message of the database, without details, which can quote a row."""
    diagnosis = getattr(error.orig, "diag", None)
    return str(diagnosis.message_primary if diagnosis else error.orig)
