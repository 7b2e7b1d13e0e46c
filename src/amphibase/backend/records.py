"""The rows of an application's models."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ColumnElement

Model = TypeVar("Model")
Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)

Where = ColumnElement[bool]
Order = Sequence[Any]
"""Columns, or columns with `desc()`, `nulls_first()` and the like."""
Load = Sequence[Any]
"""Relationships of the model. A tuple goes on from the related rows: `(Post.comments,
Comment.author)` loads the comments and the author of each."""

MAX_LIMIT = 1000
"""The most rows that one response holds."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A part of a list, and the cursor that continues it (None at the end)."""

    items: Sequence[Item]
    next_cursor: str | None


class RowSource(Protocol[Item_co]):
    """What a row is read from by its key: a repository, or its documents."""

    async def get(self, id: Any) -> Item_co | None:
        """Return the row with that primary key."""


class Repository(Protocol[Model]):
    """The rows of one model, as one caller may see and change them.

    Filters and order are SQLAlchemy expressions of the model: `Note.stars > 3`,
    `Note.title.desc()`. Rows come newest first (by `created_at` and the primary key, else by the
    primary key, descending) by default. Objects come back detached: they hold every
    column, and what was not loaded raises NotLoaded. Each call commits, except in a transaction.
    Whatever the caller may not see does not exist for them.

    Every method raises Unavailable where the database cannot be reached, and those that write
    Conflict, ForeignKeyViolation or InvalidValue where it rejects a value.
    """

    async def get(self, id: Any, *, load: Load = (), lock: bool = False) -> Model | None:
        """Return the row with that primary key; a tuple where the key has several columns.

        Args:
            lock: keep others from changing the row until the transaction ends (`FOR UPDATE`); they
                wait. Rows that the caller may not change are not there then.

        Raises:
            InvalidRequest: a lock outside a transaction, which nothing would hold.
        """

    async def one(self, *where: Where, load: Load = ()) -> Model:
        """Return the only row that matches. Raises NotFound; InvalidRequest for several."""

    async def first(self, *where: Where, order_by: Order = (), load: Load = ()) -> Model | None:
        """Return the first row that matches."""

    async def list(
        self,
        *where: Where,
        order_by: Order = (),
        offset: int = 0,
        limit: int = 100,
        load: Load = (),
    ) -> Sequence[Model]:
        """Return rows that match.

        Args:
            limit: 1 to MAX_LIMIT.
            load: relationships to fill, `[Note.author]`, with one more query each. Related rows
                are those that the caller may see, at each level.

        Raises:
            InvalidRequest: the limit or the offset is out of range.
        """

    async def page(
        self,
        *where: Where,
        order_by: Order = (),
        cursor: str | None = None,
        limit: int = 100,
        load: Load = (),
    ) -> Page[Model]:
        """Return rows that match, from where the cursor left off.

        It is as quick far down the list as at its start. It has fewer rows than the limit, and a
        cursor, where these and the related rows would have more than `MAX_PAGE_MB` together; a
        larger row comes alone.

        Raises:
            InvalidCursor: not a cursor of the same filters and order.
            InvalidRequest: the limit is out of range, or a value that the list is ordered by is too
                long for a cursor.
        """

    def stream(self, *where: Where, order_by: Order = ()) -> AsyncGenerator[Model]:
        """Yield every row that matches, however many.

        They are all as of one point in time where `capabilities.snapshots` holds; else rows that
        others add or delete meanwhile may come or not.
        """

    async def count(self, *where: Where) -> int:
        """Count the rows that match."""

    async def exists(self, *where: Where) -> bool:
        """Return whether any row matches."""

    async def aggregate(
        self,
        *functions: Any,
        by: Sequence[Any] = (),
        where: Sequence[Where] = (),
        limit: int = 1000,
    ) -> Sequence[tuple[Any, ...]]:
        """Return aggregates of the rows that match: `aggregate(func.count(), by=[Ticket.status])`.

        Args:
            functions: `func.count()`, or `count`, `sum`, `avg`, `min`, `max` of a column.
            by: columns; rows that are equal in them are a group.
            where: filters.
            limit: of groups, 1 to MAX_LIMIT, in the order of `by`.

        Returns:
            For each group the values of `by`, then those of the functions: an int for `count`, a
            float for `avg`, None for the others where no row has a value. One tuple without `by`.

        Raises:
            InvalidRequest: one is no aggregate.
            NotSupported: the backend has no such expression; on Supabase, the project's aggregates
                are off.
        """

    async def add(self, row: Model) -> Model:
        """Store a new row, and return it as stored.

        `owner_id` is the caller's; only the service may give another.

        Raises:
            Unauthenticated, Forbidden: the caller may not write rows of this model.
        """

    async def add_many(self, rows: Iterable[Model], *, atomic: bool = True) -> Sequence[Model]:
        """Store new rows in few statements, all or none; return them as stored, in their order.

        Args:
            atomic: False lets a backend that takes only so many rows at once store them in parts;
                after an error, the parts before it stay.

        Raises:
            PayloadTooLarge: they are too many to be stored all or none; nothing is stored.
        """

    async def upsert(self, row: Model, *, on: Sequence[Any] = (), replace: bool = True) -> Model:
        """Store the row or, where one has the same key, change that one; return it as stored.

        Args:
            on: columns of a unique constraint; the primary key by default.
            replace: False leaves an existing row as it is.

        Raises:
            Conflict: the existing row is not the caller's to change.
        """

    async def update(
        self, id: Any, /, *, if_version: int | None = None, **values: Any
    ) -> Model | None:
        """Change columns of the row with that primary key; None where it does not exist.

        Args:
            if_version: of a Versioned model, the version that the change is based on.

        Raises:
            StaleVersion: the row has another version now.
            InvalidValue: a column does not exist, or is set by the server; names it.
        """

    async def update_where(self, *where: Where, everything: bool = False, **values: Any) -> int:
        """Change columns of all rows that match; return how many there were.

        Args:
            everything: True to change every row, without a filter.

        Raises:
            InvalidRequest: there is no filter.
        """

    async def delete(self, id: Any, *, if_version: int | None = None) -> bool:
        """Delete the row with that primary key; return whether it existed. Raises StaleVersion."""

    async def delete_where(self, *where: Where, everything: bool = False) -> int:
        """Delete all rows that match; return how many. Raises InvalidRequest: no filter."""

    async def add_related(self, id: Any, relationship: Any, ids: Sequence[Any]) -> int:
        """Join a row to others along a relationship of many to many; return how many are new.

        The rows in between are added under the access that their own model declares.

        Args:
            relationship: of the model, as `Ticket.tags`.
            ids: the keys of the related rows, at most MAX_LIMIT.

        Raises:
            NotFound, ForeignKeyViolation: the caller does not see the row, or a related one.
            InvalidRequest: it is no such relationship.
            NotSupported: the table in between has no model.
        """

    async def remove_related(self, id: Any, relationship: Any, ids: Sequence[Any]) -> int:
        """Part a row from others along a relationship of many to many; return how many were joined.

        Raises:
            InvalidRequest, NotSupported: as `add_related`.
        """

    def json_rows(self, names: Sequence[str]) -> "JsonRows | None":
        """Return the rows as JSON that the database builds: the same bytes as from their objects,
        sooner.

        Args:
            names: the columns that each JSON object holds, in order.

        Returns:
            None where the backend cannot; then read the objects.
        """

    def with_deleted(self) -> "Repository[Model]":
        """Return the same repository with the deleted rows of a SoftDelete model.

        So they can be seen, restored by `update(id, deleted_at=None)`, and deleted for good.
        """


class JsonRows(Protocol):
    """A repository's rows as JSON objects, for routes that pass them on."""

    async def get(self, id: Any) -> str | None:
        """Return the row with that primary key."""

    async def page(
        self, *where: Where, order_by: Order = (), cursor: str | None = None, limit: int = 100
    ) -> Page[str]:
        """Return a page, as `Repository.page` does."""
