"""Rows whose times the database itself has set, on each engine: SQLite compares times as text."""

from datetime import datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, text, update
from tests.backends import ANN, Records
from tests.models import Note

from amphibase import SERVICE
from amphibase.schema.tables import tables

ANN_ID = UUID(int=0xA)


async def insert_by_sql(records: Records, count: int, created_at: str | None = None) -> None:
    """Insert notes of Ann's by plain SQL, with the database's default where no time is passed."""
    columns = "id, owner_id, title, stars" + (", created_at" if created_at else "")
    values = ":id, :owner, 'by SQL', 1" + (f", {created_at}" if created_at else "")
    async with records.sql.database.write() as connection:
        for _ in range(count):
            id, owner = uuid4(), ANN_ID
            await connection.execute(
                text(f"INSERT INTO t_notes ({columns}) VALUES ({values})"),
                # SQLAlchemy keeps UUIDs without hyphens on SQLite, but others write them.
                {"id": str(id), "owner": owner.hex if records.is_sqlite else str(owner)},
            )


async def pages_of_one(records: Records, **options: object) -> list[UUID]:
    """Return the ids of a list that is read in pages of one row."""
    notes, ids, cursor = records.of(Note, ANN), [], None
    for _ in range(20):
        page = await notes.page(cursor=cursor, limit=1, **options)  # type: ignore[arg-type]
        ids += [note.id for note in page.items]
        if (cursor := page.next_cursor) is None:
            break
    return ids


async def test_a_row_is_found_by_the_time_that_the_database_set(records: Records) -> None:
    await insert_by_sql(records, 1)
    (note,) = await records.of(Note, ANN).list()
    assert await records.of(Note, ANN).count(Note.created_at == note.created_at) == 1
    assert await records.of(Note, ANN).count(Note.created_at <= func.now()) == 1


async def test_a_time_that_an_update_takes_from_the_database_is_found(records: Records) -> None:
    note = await records.of(Note, ANN).add(Note(title="a", stars=1))
    async with records.backend.session(SERVICE) as session:
        await session.execute(update(Note).values(created_at=func.current_timestamp()))
    stored = await records.of(Note, ANN).one(Note.id == note.id)
    assert await records.of(Note, ANN).count(Note.created_at == stored.created_at) == 1


@pytest.mark.parametrize("created_at", [None, "CURRENT_TIMESTAMP", "'2026-01-01T10:00:03Z'"])
@pytest.mark.parametrize("descending", [True, False])
async def test_pages_hold_each_row_once_whatever_form_its_time_and_its_key_have(
    records: Records, created_at: str | None, descending: bool
) -> None:
    await insert_by_sql(records, 5, created_at)
    order = [] if descending else [Note.created_at]
    ids = await pages_of_one(records, order_by=order)
    assert len(ids) == len(set(ids)) == 5


async def test_a_list_of_accounts_goes_on_after_accounts_that_sql_inserted(
    records: Records,
) -> None:
    users = tables(records.sql.database.dialect).auth.tables
    table = next(table for name, table in users.items() if name in ("auth.users", "auth_users"))
    async with records.sql.database.write() as connection:
        for n in range(3):
            await connection.execute(
                insert(table).values(
                    id=uuid4(), email=f"{n}@sql.example", created_at=text("CURRENT_TIMESTAMP")
                )
            )
    try:
        emails: list[str | None] = []
        cursor = None
        for _ in range(10):
            page = await records.backend.accounts.list(cursor=cursor, limit=1)
            emails += [account.email for account in page.items]
            if (cursor := page.next_cursor) is None:
                break
        assert sorted(map(str, emails)) == [f"{n}@sql.example" for n in range(3)]
    finally:
        async with records.sql.database.write() as connection:
            await connection.execute(table.delete())


async def test_a_time_of_the_database_has_the_form_that_is_stored(records: Records) -> None:
    await insert_by_sql(records, 1)
    async with records.sql.database.read() as connection:
        stored = (await connection.execute(text("SELECT created_at FROM t_notes"))).scalar_one()
    if records.is_sqlite:
        assert stored == datetime.fromisoformat(stored).strftime("%Y-%m-%d %H:%M:%S.%f")
