"""The rows of buckets, as the role of the transaction may see and change them."""

from typing import Any, Literal

from sqlalchemy import RowMapping, bindparam, delete, insert, select, update

from amphibase.database.sql_connection import SqlConnection
from amphibase.schema.tables import tables

BUCKETS = tables("postgresql").buckets

_FIND = select(BUCKETS).where(BUCKETS.c.id == bindparam("its_id"))
_FIND_LOCKED = _FIND.with_for_update()

SortColumn = Literal["id", "name", "created_at", "updated_at"]
SortOrder = Literal["asc", "desc"]


async def find(connection: SqlConnection, id: str, *, lock: bool = False) -> RowMapping | None:
    """Find a bucket.

    Args:
        lock: keep others from changing it, or storing objects in it, until the transaction ends.
    """
    found = await connection.execute(_FIND_LOCKED if lock else _FIND, {"its_id": id})
    return found.mappings().one_or_none()


async def list_all(
    connection: SqlConnection,
    *,
    limit: int | None,
    offset: int,
    column: SortColumn,
    order: SortOrder,
    search: str | None,
) -> list[RowMapping]:
    """List buckets.

    Args:
        search: what their names contain, in whatever case.
    """
    sorting = BUCKETS.c[column]
    statement = (
        select(BUCKETS)
        .order_by(sorting.desc() if order == "desc" else sorting.asc(), BUCKETS.c.id)
        .limit(limit)
        .offset(offset)
    )
    if search:
        statement = statement.where(BUCKETS.c.name.icontains(search, autoescape=True))
    return [*(await connection.execute(statement)).mappings()]


async def add(connection: SqlConnection, values: dict[str, Any]) -> None:
    """Add a bucket."""
    await connection.execute(insert(BUCKETS).values(**values))


async def change(connection: SqlConnection, id: str, values: dict[str, Any]) -> bool:
    """Change a bucket; return False where none may be changed."""
    changed = await connection.execute(update(BUCKETS).where(BUCKETS.c.id == id).values(**values))
    return changed.rowcount > 0


async def remove(connection: SqlConnection, id: str) -> bool:
    """Delete a bucket; return False where none may be deleted."""
    deleted = await connection.execute(delete(BUCKETS).where(BUCKETS.c.id == id))
    return deleted.rowcount > 0
