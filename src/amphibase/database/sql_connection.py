"""What code for both needs of a database: one that SQLAlchemy's engine reaches, and one that
libpq's pipeline does."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Dialect, Executable, MappingResult, Row, ScalarResult

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
"""A row of any columns."""

Values = Mapping[str, Any]
"""The values of a statement's parameters, by their names."""

NO_VALUES: Values = MappingProxyType({})


class StatementResult(Protocol):
    """The rows that a statement returned, as `sqlalchemy.Result` gives them, and how many it
    changed."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""

    def __iter__(self) -> Iterator[AnyRow]: ...

    def all(self) -> Sequence[AnyRow]:
        """Return all rows."""

    def first(self) -> AnyRow | None:
        """Return the first row; None where there is none."""

    def one(self) -> AnyRow:
        """Return the one row. Raises sqlalchemy.exc.NoResultFound or MultipleResultsFound."""

    def one_or_none(self) -> AnyRow | None:
        """Return the one row, or None. Raises sqlalchemy.exc.MultipleResultsFound."""

    def scalar_one(self) -> Any:
        """Return the first column of the one row; raises as `one`."""

    def scalar_one_or_none(self) -> Any:
        """Return the first column of the one row, or None; raises as `one_or_none`."""

    def mappings(self) -> MappingResult:
        """Return the rows as mappings."""


class SqlConnection(Protocol):
    """A connection in a transaction, as `sqlalchemy.ext.asyncio.AsyncConnection` is one."""

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database."""

    async def execute(
        self, statement: Executable, parameters: Values | Sequence[Values] | None = None
    ) -> StatementResult:
        """Execute a statement, or with several values once for each of them."""

    async def scalar(self, statement: Executable, parameters: Values | None = None) -> Any:
        """Return the first column of the first row; None where there is none."""

    async def scalars(
        self, statement: Executable, parameters: Values | None = None
    ) -> ScalarResult[Any]:
        """Return the first column of each row."""


class SqlDatabase(Protocol):
    """A database that transactions begin on; errors come out as Amphibase's."""

    def read(self) -> AbstractAsyncContextManager[SqlConnection]:
        """Begin to read."""

    def write(self) -> AbstractAsyncContextManager[SqlConnection]:
        """Begin a transaction for writing, committed at the end."""
