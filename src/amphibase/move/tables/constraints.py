"""Takes keys, indexes and foreign keys off tables of a target that are loaded, and puts them back.

To build an index once is much faster than to keep it up for each row, and without foreign keys
tables arrive in any order, cycles too. What is taken off is in the journal before.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import LiteralString

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL
from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.progress import NoProgress, Progress
from amphibase.move.tables.constraint_definitions import (
    FOREIGN_KEY,
    INDEX,
    TakenOff,
    read_foreign_keys,
    read_indexes,
)
from amphibase.move.tables.postgres_session import (
    LOCK_SECONDS,
    connect,
    qualified,
    settings_for,
)

TASK = "keys and indexes"
"""Of the progress."""

MEMORY_KB = 256 * 1024
"""For the sort of one index, where the server's own `maintenance_work_mem` is less."""

EXISTS: LiteralString = """
    SELECT EXISTS (SELECT FROM pg_class JOIN pg_index ON indexrelid = oid
                    WHERE indrelid = %(table)s::regclass AND relname = %(name)s)
        OR EXISTS (SELECT FROM pg_constraint
                    WHERE conrelid = %(table)s::regclass AND conname = %(name)s)
"""


class Constraints:
    """The keys, indexes and foreign keys of a target's tables.

    Args:
        target: of tables that belong to the role.
        progress: is advanced for each that is put back.
    """

    def __init__(self, target: URL, journal: Journal, progress: Progress | None = None) -> None:
        self._target, self._journal = target, journal
        self._progress = progress or NoProgress()

    def taken_off(self) -> list[TakenOff]:
        """Return what is off, or was about to be when the move was killed."""
        return [
            TakenOff.from_json(kind, value)
            for kind in (INDEX, FOREIGN_KEY)
            for _, value in self._journal.entries(kind)
        ]

    async def take_off(
        self, tables: Iterable[TableName], *, large: Collection[TableName]
    ) -> list[str]:
        """Take off what makes a load slow, from tables that are empty or that this move loads.

        What belongs to another role, what another object depends on, and what the role may not put
        back, stays.

        Args:
            tables: whose foreign keys are taken off.
            large: those whose indexes and keys are too, as it takes long to keep them up.

        Returns:
            The foreign keys that stay, each with its table.

        Raises:
            MoveFailed: a table is locked.
        """
        tables = sorted(tables)
        staying = []
        with translated_errors():
            connection = await connect(self._target)
            try:
                async with connection.transaction():
                    await _prepare(connection)
                    # Foreign keys first, as they depend on the keys of other tables.
                    for table in tables:
                        for key in await read_foreign_keys(connection, table):
                            if not await self._take_off(connection, key):
                                staying.append(key.key)
                    for table in tables:
                        if table in large:
                            for index in await read_indexes(connection, table):
                                await self._take_off(connection, index)
            finally:
                await connection.close()
        return staying

    async def put_back(self, *, deletes: bool = True) -> int:
        """Put back what was taken off, as it was; also what an earlier run took off.

        Rows that a key or a foreign key forbids are deleted, all that are there twice: the
        comparison that follows copies them again one by one, and says which are rejected. They may
        have changed on the source between two runs.

        Args:
            deletes: False leaves off what some rows forbid, as more rows are to come.

        Returns:
            How many rows were deleted.

        Raises:
            MoveFailed: something cannot be put back; says what, and why.
        """
        parts = self.taken_off()
        if not parts:
            return 0
        self._progress.start(TASK, len(parts), "built")
        with translated_errors():
            connection = await connect(self._target)
            try:
                return await self._put_all_back(connection, parts, deletes)
            except (errors.UniqueViolation, errors.ForeignKeyViolation) as error:
                details = error.diag
                raise MoveFailed(
                    f"{details.constraint_name} cannot be put back on {details.schema_name}."
                    f"{details.table_name}: {details.message_detail}"
                ) from None
            finally:
                await connection.close()
                self._progress.finish(TASK)

    async def _take_off(self, connection: AsyncConnection, part: TakenOff) -> bool:
        if not part.is_restorable:
            return False
        self._journal.put(part.kind, part.key, part.to_json())
        try:
            async with connection.transaction():
                await connection.execute(part.drop.encode())
        except (errors.InsufficientPrivilege, errors.DependentObjectsStillExist):
            self._forget(part)
            return False
        except errors.LockNotAvailable:
            raise MoveFailed(
                f"{part.table} of the target is locked, perhaps by a migration; run again when "
                "that is done"
            ) from None
        return True

    async def _put_all_back(
        self, connection: AsyncConnection, parts: Sequence[TakenOff], deletes: bool
    ) -> int:
        deleted = 0
        keys = [part for part in parts if part.kind == FOREIGN_KEY]
        for part in parts:
            if part.kind == INDEX and not await self._restored(connection, part) and deletes:
                deleted += await _delete_forbidden(connection, part)
                await _restore(connection, part)
                self._forget(part)
                self._progress.advance(TASK, 1)
        is_forbidden = [key for key in keys if not await self._restored(connection, key)]
        if is_forbidden and deletes:
            deleted += await self._put_keys_back_by_force(connection, keys)
        return deleted

    async def _restored(self, connection: AsyncConnection, part: TakenOff) -> bool:
        """Put back what no row forbids; return whether it is back."""
        try:
            await _restore(connection, part)
        except (errors.UniqueViolation, errors.ForeignKeyViolation):
            return False
        self._forget(part)
        self._progress.advance(TASK, 1)
        return True

    async def _put_keys_back_by_force(
        self, connection: AsyncConnection, keys: Sequence[TakenOff]
    ) -> int:
        """Delete the rows that refer to nothing, and those that referred to them, and so on."""
        for key in keys:
            if await _exists(connection, key):
                self._journal.put(key.kind, key.key, key.to_json())
                await _execute(connection, key, key.drop)
        deleted = 0
        while more := sum([await _delete_forbidden(connection, key) for key in keys]):
            deleted += more
        for key in keys:
            await _restore(connection, key)
            self._forget(key)
            self._progress.advance(TASK, 1)
        return deleted

    def _forget(self, part: TakenOff) -> None:
        self._journal.delete(part.kind, part.key)


async def _exists(connection: AsyncConnection, part: TakenOff) -> bool:
    values = {"table": qualified(part.table).as_string(connection), "name": part.name}
    row = await (await connection.execute(EXISTS, values)).fetchone()
    return bool(row and row[0])


async def _restore(connection: AsyncConnection, part: TakenOff) -> None:
    """Put back an index or a foreign key that is missing."""
    if not await _exists(connection, part):
        await _execute(connection, part, *part.restore)


async def _delete_forbidden(connection: AsyncConnection, part: TakenOff) -> int:
    """Delete the rows that an index or a foreign key forbids; return how many."""
    return 0 if part.delete is None else await _execute(connection, part, part.delete)


async def _execute(connection: AsyncConnection, part: TakenOff, *statements: str) -> int:
    """Run statements in a transaction; return how many rows the last one changed."""
    changed = 0
    try:
        async with connection.transaction():
            await _prepare(connection)
            for statement in statements:
                changed = (await connection.execute(statement.encode())).rowcount
    except (errors.UniqueViolation, errors.ForeignKeyViolation):
        raise
    except errors.DatabaseError as error:
        if error.sqlstate is None:  # the connection is lost
            raise
        raise MoveFailed(
            f"{part.name} cannot be put back on {part.table}: {error.diag.message_primary}. "
            f"Correct that and run again, or run: {'; '.join(part.restore)}"
        ) from None
    return changed


async def _prepare(connection: AsyncConnection) -> None:
    """Make the settings of a transaction that changes a table."""
    await connection.execute(settings_for(connection))
    # With an empty search path, definitions name the schema of whatever they use.
    await connection.execute(
        SQL("SET LOCAL search_path = ''; SET LOCAL lock_timeout = {}").format(f"{LOCK_SECONDS}s")
    )
    await connection.execute(
        "SELECT set_config('maintenance_work_mem', greatest(setting::int, %s)::text, true) "
        "FROM pg_settings WHERE name = 'maintenance_work_mem'",
        (MEMORY_KB,),
    )
