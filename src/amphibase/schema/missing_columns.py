"""Which columns of the models a database lacks, without Alembic."""

import warnings

from sqlalchemy import Connection, MetaData, inspect
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.exc import SAWarning

from amphibase.database.engine import Database
from amphibase.database.errors import translated_errors
from amphibase.redaction import redacted_logger
from amphibase.settings.application import Settings

logger = redacted_logger("amphibase.schema")

NAMED_COLUMNS = 5
"""How many columns a message names."""


def missing_columns(connection: Connection, metadata: MetaData) -> list[str]:
    """Return the columns, as `table.column`, that tables and views of the search path lack.

    A table that is missing as a whole is not among them (`missing_tables`).
    """
    tables = [table for _, table in sorted(metadata.tables.items()) if table.schema is None]
    with warnings.catch_warnings():
        # A column has a name even where SQLAlchemy does not know its type.
        warnings.simplefilter("ignore", SAWarning)
        reflected = inspect(connection).get_multi_columns(
            filter_names=[table.name for table in tables], kind=ObjectKind.ANY
        )
    # SQLite compares names without regard to case; Postgres has them as SQLAlchemy writes them.
    fold = str.lower if connection.dialect.name == "sqlite" else str
    actual = {
        name: {fold(column["name"]) for column in columns}
        for (_, name), columns in reflected.items()
    }
    return [
        f"{table.name}.{column.name}"
        for table in tables
        if (names := actual.get(table.name))
        for column in table.columns
        if not column.system and fold(column.name) not in names
    ]


async def warn_of_missing_columns(
    database: Database, settings: Settings, metadata: MetaData
) -> None:
    """Log the columns that the database lacks, on which queries would fail, and the way out.

    Raises:
        Unavailable: the database cannot be reached.
    """
    if "records" not in settings.parts_in(database.url):
        return
    with translated_errors():
        async with database.read() as connection:
            columns = await connection.run_sync(missing_columns, metadata)
    if not columns:
        return
    names = ", ".join(columns[:NAMED_COLUMNS]) + (", …" if len(columns) > NAMED_COLUMNS else "")
    file = " or delete the file of the database," if database.dialect == "sqlite" else ""
    logger.warning(
        "The database lacks columns of the models, so requests that use them fail: %s. "
        "`amphibase db check` shows all differences. Where a revision creates the table, write "
        "another (`amphibase db revision`) and start again; otherwise drop the table,%s and the "
        "next start creates it anew, empty",
        names,
        file,
    )
