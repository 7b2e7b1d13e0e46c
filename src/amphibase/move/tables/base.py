"""How the stage reads and writes the tables of a side, whatever it is.

A value is the text that Postgres writes for it, with the settings that make it exact (UTC, ISO
dates, shortest floats, bytea in hex), or None. No value becomes a Python object on its way: an
infinite interval or a number of 5,000 digits arrives as it was.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from amphibase.move.catalog import CatalogTable, DatabaseCatalog, TableName

Row = tuple[str | None, ...]
"""Values in the order of the chosen columns."""

Key = tuple[str, ...]
"""Values of the key's columns."""

CHUNK_ROWS = 5_000
CHUNK_BYTES = 1024 * 1024
"""A chunk ends with whichever comes first."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The columns of a table that move, as this side names them.

    Args:
        key: by which rows are told apart; among `columns`. Empty for a table without one, whose
            rows are in no order.
        types: the Postgres type of each column whose text its values are, as `format_type` writes
            it. SQLite, whose columns have no such type, converts by them; a Postgres has its own.
            `AS_STORED` between two columns of SQLite that are declared alike.
    """

    table: CatalogTable
    columns: tuple[str, ...]
    key: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def key_indexes(self) -> tuple[int, ...]:
        """Return where in a row the values of the key are."""
        return tuple(self.columns.index(name) for name in self.key)


@dataclass(frozen=True, slots=True)
class TablePair:
    """A table of both sides; the columns of one correspond to those of the other by their place."""

    source: Selection
    target: Selection


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are written together with their checkpoint.

    Args:
        last: the key of the last row.
    """

    rows: Sequence[Row]
    last: Key


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that the side does not take.

    Args:
        reason: in the words of its database.
        is_conflict: whether another row has a value that has to be unique.
    """

    row: Row
    reason: str
    is_conflict: bool = False


@dataclass(frozen=True, slots=True)
class Referrer:
    """Columns of a table that refer to a key: the other end of a foreign key.

    Args:
        target_columns: of the table that is referred to, in the order of `columns`.
    """

    table: TableName
    columns: tuple[str, ...]
    target_columns: tuple[str, ...]


class TableReader(Protocol):
    """Reads a side's tables, each in the order of its key as that side sorts."""

    async def catalog(self) -> DatabaseCatalog:
        """Read what tables there are."""

    async def count(self, table: CatalogTable) -> int:
        """Count the rows exactly."""

    def read(self, selection: Selection, after: Key | None = None) -> AsyncGenerator[Chunk, None]:
        """Yield the rows after a key, or all, by key and never by offset.

        Who does not read to the end closes it (`contextlib.aclosing`).
        """

    async def rows(self, selection: Selection, keys: Sequence[Key]) -> Mapping[Key, Row]:
        """Return the rows with these keys; those that are missing are left out."""


class TableWriter(TableReader, Protocol):
    """Writes a side's tables.

    Attributes:
        in_flight: how many chunks may be written at the same time.
    """

    in_flight: int

    async def write_error(self, selection: Selection) -> str | None:
        """Return why no row of these columns can be written, where the catalog does not say so."""

    async def checkpoint(self, table: TableName) -> Key | None:
        """Return the last key whose chunk is written; None before the first."""

    async def insert(self, selection: Selection, chunk: Chunk) -> list[Rejected]:
        """Write a chunk and its checkpoint, both or neither; rows that are there already stay.

        Returns:
            Those that were rejected; the others are written.
        """

    async def upsert(self, selection: Selection, rows: Sequence[Row]) -> list[Rejected]:
        """Write rows, in the place of those with the same keys."""

    async def delete(
        self, selection: Selection, keys: Sequence[Key], referrers: Sequence[Referrer] = ()
    ) -> int:
        """Delete rows by their keys, but those that another row of `referrers` refers to.

        Returns:
            How many were deleted.
        """

    async def index(self, table: CatalogTable, column: str) -> None:
        """Have an index that begins with a column, where one can be made: without it, a foreign key
        looks for references to a deleted row in the whole table."""

    async def clear(self, table: CatalogTable) -> None:
        """Delete all rows of a table, and forget its checkpoint."""

    async def forget_checkpoints(self) -> None:
        """Remove whatever the move has put on this side beside the rows."""
