"""The fast path: JSON that Postgres builds is, byte for byte, what pydantic writes."""

import enum
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import BigInteger, SmallInteger, String
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column
from tests.column_models import Kinds
from tests.conftest import SECRET
from tests.models import Document, Note, Post

from amphibase import Base, load_settings
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import SERVICE
from amphibase.http.row_serializer import RowSerializer
from amphibase.models import utc_now
from amphibase.sql.backend import SqlBackend


class Colour(enum.StrEnum):
    """Values that JSON has to escape."""

    RED = "red"
    QUOTED = 'a "quoted" one'
    GREEN = "grün"


class Plain(Base):
    """One column of each type that Postgres writes as JSON."""

    __tablename__ = "t_plain"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    text: Mapped[str]
    short: Mapped[str | None] = mapped_column(String(40))
    number: Mapped[int | None]
    small: Mapped[int | None] = mapped_column(SmallInteger)
    big: Mapped[int | None] = mapped_column(BigInteger)
    yes: Mapped[bool | None]
    moment: Mapped[datetime | None]
    day: Mapped[date | None]
    colour: Mapped[Colour | None]
    other: Mapped[uuid.UUID | None]


class Odd(Base):
    """Names that SQL and drivers have other uses for."""

    __tablename__ = 'odd "table" %(x)s :y'

    key: Mapped[str] = mapped_column('k"ey %(k)s :k', primary_key=True)
    order: Mapped[int | None] = mapped_column("100 %")


characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
moments = st.datetimes(timezones=st.just(UTC)) | st.datetimes(
    timezones=st.just(UTC), min_value=datetime(1990, 1, 1)
).map(lambda moment: moment.replace(microsecond=0))
rows = st.fixed_dictionaries(
    {
        "text": st.text(characters) | st.sampled_from(["\x01\x1f\x7f\x80\u2028", '"\\/\b\f\n\r\t']),
        "short": st.none() | st.text(characters, max_size=40),
        "number": st.none() | st.integers(-(2**31), 2**31 - 1),
        "small": st.none() | st.integers(-(2**15), 2**15 - 1),
        "big": st.none() | st.integers(-(2**63), 2**63 - 1),
        "yes": st.none() | st.booleans(),
        "moment": st.none() | moments,
        "day": st.none() | st.dates(),
        "colour": st.none() | st.sampled_from(Colour),
        "other": st.none() | st.uuids(),
    }
)


@pytest.fixture
async def on_postgres(postgres_url: str) -> AsyncIterator[SqlBackend]:
    """A backend on a Postgres with the tables of these tests."""
    settings = load_settings(database_url=postgres_url, secret_key=SECRET)
    backend = SqlBackend(settings, load_keys(settings))
    async with backend.database.write() as connection:
        await _create(connection)
    yield backend
    await backend.close()


async def _create(connection: AsyncConnection) -> None:
    def create(sync: Any) -> None:
        wanted = ["users", "t_plain", "t_notes", Odd.__tablename__]
        Base.metadata.create_all(sync, tables=[Base.metadata.tables[name] for name in wanted])

    await connection.run_sync(create)


async def test_odd_names_are_names(on_postgres: SqlBackend) -> None:
    """To COPY and to the statements that write JSON."""
    odd, serializer = on_postgres.repository(Odd, SERVICE), RowSerializer(Odd)
    await odd.add_many([Odd(key=key, order=place) for place, key in enumerate("abc")])
    json_rows = odd.json_rows(serializer.names)
    assert json_rows is not None
    assert serializer.page(await json_rows.page()) == serializer.page(await odd.page())
    assert await json_rows.get("b") == '{"key":"b","order":1}'


@given(values=rows)
@examples(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[*HealthCheck],
)
async def test_one_row_is_the_same_bytes(on_postgres: SqlBackend, values: dict[str, Any]) -> None:
    """Whatever the values, of each type."""
    repository = on_postgres.repository(Plain, SERVICE)
    serializer = RowSerializer(Plain)
    stored = await repository.add(Plain(id=uuid.uuid4(), **values))
    json_rows = repository.json_rows(serializer.names)
    assert json_rows is not None
    built = await json_rows.get(stored.id)
    assert built is not None
    assert built.encode() == serializer.row(await repository.get(stored.id))


async def test_a_page_is_the_same_bytes_and_goes_on_alike(on_postgres: SqlBackend) -> None:
    """Items and cursor; a cursor of one continues the other."""
    repository = on_postgres.repository(Plain, SERVICE)
    serializer = RowSerializer(Plain)
    await repository.add_many(
        Plain(id=uuid.uuid4(), text=f"{n % 3}", number=n % 4 or None, moment=utc_now())
        for n in range(25)
    )
    json_rows = repository.json_rows(serializer.names)
    assert json_rows is not None
    orders: list[list[Any]] = [
        [],
        [Plain.text, Plain.number.desc()],
        [Plain.moment.desc()],
        [Plain.number.nulls_first(), Plain.text.desc()],
    ]
    for order in orders:
        cursor = None
        seen = 0
        while True:
            ours = await json_rows.page(order_by=order, cursor=cursor, limit=7)
            ordinary = await repository.page(order_by=order, cursor=cursor, limit=7)
            assert serializer.page(ours) == serializer.page(ordinary)
            seen += len(ours.items)
            cursor = ours.next_cursor
            if cursor is None:
                break
        assert seen == 25


async def test_an_order_beyond_the_columns_goes_on_too(on_postgres: SqlBackend) -> None:
    """The place of the last row is asked for besides."""
    repository = on_postgres.repository(Plain, SERVICE)
    await repository.add_many(Plain(id=uuid.uuid4(), text=f"{n}") for n in range(9))
    json_rows = repository.json_rows(["text"])
    assert json_rows is not None
    first = await json_rows.page(order_by=[Plain.id], limit=5)
    rest = await json_rows.page(order_by=[Plain.id], limit=5, cursor=first.next_cursor)
    items = [*first.items, *rest.items]
    assert sorted(items) == [f'{{"text":"{n}"}}' for n in range(9)]
    assert rest.next_cursor is None


async def test_an_empty_page_is_the_same_bytes(on_postgres: SqlBackend) -> None:
    """No items, no cursor."""
    repository = on_postgres.repository(Note, SERVICE)
    serializer = RowSerializer(Note)
    json_rows = repository.json_rows(serializer.names)
    assert json_rows is not None
    ordinary = await repository.page()
    assert serializer.page(await json_rows.page()) == serializer.page(ordinary)


@pytest.mark.parametrize("model", [Post, Kinds])
async def test_a_type_that_is_not_proven_is_not_built_by_the_database(
    on_postgres: SqlBackend, model: type[Any]
) -> None:
    """Decimals, floats, JSON, lists and the like are written by pydantic alone."""
    repository = on_postgres.repository(model, SERVICE)
    assert repository.json_rows(RowSerializer(model).names) is None
    assert (
        on_postgres.repository(Document, SERVICE).json_rows(RowSerializer(Document).names)
        is not None
    )


def test_the_rows_of_a_batch_are_written_once_for_all_streams() -> None:
    serializer = RowSerializer(Plain)
    nothing = dict.fromkeys(serializer.names)
    batch = [Plain(**nothing | {"id": uuid.uuid4(), "text": f"{n}"}) for n in range(2)]
    written = [serializer.shared_row(row) for row in batch]
    assert [*map(serializer.row, batch)] == written
    for row, once in zip(batch, written, strict=True):
        assert serializer.shared_row(row) is once
