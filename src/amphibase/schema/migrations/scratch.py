"""A database that has what the revisions create, to be compared with what there should be."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from amphibase.database.sqlite_now import write_full_timestamps
from amphibase.schema.ddl import run
from amphibase.schema.generated_functions import MOVE_SCHEMA_AWAY
from amphibase.schema.migrations import roles
from amphibase.schema.migrations.chains import Chain


@contextmanager
def scratch_database(
    connection: Connection, chains: Sequence[Chain], revision: str = "head"
) -> Iterator[Connection]:
    """Open a database that has what the revisions create and nothing else, and discard it.

    On SQLite it is a database in memory, on Postgres a schema in a savepoint that is rolled back.
    """
    application = chains[-1]
    if connection.dialect.name == "sqlite":
        engine = create_engine("sqlite://")
        write_full_timestamps(engine.dialect)
        try:
            with engine.begin() as scratch:
                _run_all(scratch, chains, revision)
                yield scratch
        finally:
            engine.dispose()
        return
    savepoint = connection.begin_nested()
    try:
        _run_all(connection, chains[:-1], revision)
        connection.execute(CreateSchema(roles.SCRATCH))
        run(connection, MOVE_SCHEMA_AWAY)
        # `extensions` is where Supabase keeps extensions and their types; it need not exist.
        connection.exec_driver_sql(f"SET LOCAL search_path = {roles.SCRATCH}, extensions")
        _run_all(connection, [application], revision)
        yield connection
    finally:
        savepoint.rollback()


def _run_all(connection: Connection, chains: Sequence[Chain], revision: str) -> None:
    for chain in chains:
        for step in chain.upgrades(connection, revision if chain.name == "application" else "head"):
            try:
                chain.run(connection, step)
            except DBAPIError as error:
                raise chain.failure(connection, step, error) from error
