"""Records over the Data API: its limits and its failures, which SQL does not have."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import INT4RANGE, Range
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.backends import ANN, Records
from tests.column_models import Kinds
from tests.models import Author, Book, Clip, Document, Letter, Note, Post, Tag
from tests.supabase.fault_proxy import SERVER_BUSY, FaultProxy, fault_proxy

from amphibase import ANONYMOUS, SERVICE, Conflict, NotSupported, PayloadTooLarge, Unavailable
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.errors import ConfigurationError, UnreadableValue
from amphibase.supabase import retry
from amphibase.supabase.backend import SupabaseBackend
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject
from amphibase.supabase.records import insert, max_rows
from amphibase.supabase.retry import RetryingClient


@pytest.fixture
async def records(shared_records: Records) -> Records:
    """Empty tables of the tests' models."""
    await shared_records.clear()
    return shared_records


def repositories(records: Records, url: str | None = None) -> SupabaseBackend:
    """Open a backend that has not seen any response yet."""
    settings = records.settings
    if url is not None:
        settings = settings.model_copy(update={"supabase_url": url})
    client = SupabaseClient(SupabaseProject.of(settings), RetryingClient(timeout=httpx.Timeout(20)))
    return SupabaseBackend(settings, load_keys(settings), client)


DEFAULT_LIMIT = 1000
"""Of a project whose settings say nothing else."""


async def limit_rows(records: Records, client: SupabaseClient, limit: int) -> None:
    """Set the project's limit; there are more notes than that."""
    await records.execute(
        text(f"ALTER ROLE authenticator SET pgrst.db_max_rows = '{limit}'"),
        text("NOTIFY pgrst, 'reload config'"),
    )
    for _ in range(2000):
        if await rows_at_once(client) == limit:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the project does not take the limit")


async def rows_at_once(client: SupabaseClient) -> int:
    response = await client.request("rest", "GET", "/t_notes", SERVICE, params={"select": "id"})
    return len(response.json())


class TestMaxRows:
    """The project cuts what is beyond its limit, and does not say so."""

    @pytest.mark.parametrize(("limit", "count"), [(1000, 2500), (7, 60)])
    async def test_does_not_cut_what_is_read(
        self, records: Records, limit: int, count: int
    ) -> None:
        await records.of(Note, ANN).add_many([Note(title="x", stars=n) for n in range(count)])
        author = await records.of(Author).add(Author(name="a"))
        await records.of(Book).add_many([Book(title="x", author_id=author.id) for _ in range(20)])
        backend = repositories(records)
        notes, authors = backend.repository(Note, ANN), backend.repository(Author, SERVICE)
        by_stars: Any = {"order_by": [Note.stars]}
        await limit_rows(records, backend.client, limit)
        try:
            listed = await notes.list(limit=50, offset=5, **by_stars)
            page = await notes.page(limit=min(count - 1, 1000), **by_stars)
            rest = await notes.page(limit=1000, cursor=page.next_cursor, **by_stars)
            streamed = [note.stars async for note in notes.stream(**by_stars)]
            loaded = await authors.one(load=[Author.books])
            assert [note.stars for note in listed] == [*range(5, 55)]
            assert [note.stars for note in page.items] == [*range(len(page.items))]
            assert len(page.items) == min(count - 1, 1000)
            assert len(rest.items) == min(count - len(page.items), 1000)
            assert streamed == [*range(count)]
            assert len(loaded.books) == 20
            assert await notes.count() == count
        finally:
            await records.of(Note, ANN).add_many(
                [Note(title="x", stars=n) for n in range(DEFAULT_LIMIT)]
            )
            await limit_rows(records, backend.client, DEFAULT_LIMIT)
            await backend.close()

    async def test_cuts_no_rows_when_it_is_lowered_while_they_are_read(
        self, records: Records
    ) -> None:
        await records.of(Note, ANN).add_many([Note(title="x", stars=n) for n in range(4500)])
        backend = repositories(records)
        read: list[int] = []
        try:
            async for note in backend.repository(Note, ANN).stream(order_by=[Note.stars]):
                if not read:
                    await limit_rows(records, backend.client, 300)
                read.append(note.stars)
            assert read == [*range(4500)]
        finally:
            await limit_rows(records, backend.client, DEFAULT_LIMIT)
            await backend.close()

    async def test_is_noticed_after_a_while_when_it_is_lowered(
        self, records: Records, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await records.of(Note, ANN).add_many([Note(title="x", stars=n) for n in range(1500)])
        backend = repositories(records)
        notes = backend.repository(Note, ANN)
        assert len(await notes.list(limit=1000)) == 1000
        await limit_rows(records, backend.client, 300)
        monkeypatch.setattr(max_rows, "REMEMBERED_SECONDS", 0)
        try:
            assert len(await notes.list(limit=1000)) == 1000
        finally:
            await limit_rows(records, backend.client, DEFAULT_LIMIT)
            await backend.close()

    async def test_is_not_mistaken_for_an_offset_beyond_the_last_row(
        self, records: Records
    ) -> None:
        await records.of(Tag).add_many([Tag(name=str(n)) for n in range(3)])
        backend = repositories(records)
        tags = backend.repository(Tag, SERVICE)
        for offset, count in ((7, 0), (3, 0), (2, 1), (0, 3), (7, 0)):
            assert len(await tags.list(offset=offset)) == count
        await backend.close()

    async def test_is_looked_for_without_further_requests(self, records: Records) -> None:
        await records.of(Tag).add_many([Tag(name=str(n)) for n in range(3)])
        async with fault_proxy(records.settings.supabase_url or "") as proxy:
            backend = repositories(records, proxy.url)
            for _ in range(3):
                assert len(await backend.repository(Tag, SERVICE).list()) == 3
            await backend.close()
        assert proxy.requests == 3


async def test_rows_that_are_deleted_while_others_are_read_hide_none_of_them(
    records: Records, unreliable: SupabaseBackend, proxy: FaultProxy
) -> None:
    stored = await records.of(Note, ANN).add_many([Note(title="x", stars=n) for n in range(3500)])
    proxy.faults = [0.0, 0.0, 0.5]  # the third page is counted off while a row of the second goes
    read: list[int] = []
    async for note in unreliable.repository(Note, ANN).stream(order_by=[Note.stars]):
        read.append(note.stars)
        if len(read) == 1500:
            await records.of(Note).delete(stored[1200].id)
    assert read == [*range(3500)]


@pytest.fixture
async def proxy(records: Records, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultProxy]:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)
    async with fault_proxy(records.settings.supabase_url or "") as opened:
        yield opened


@pytest.fixture
async def unreliable(records: Records, proxy: FaultProxy) -> AsyncIterator[SupabaseBackend]:
    """A backend behind a proxy that spoils requests."""
    opened = repositories(records, proxy.url)
    yield opened
    await opened.close()


class TestLostResponses:
    @pytest.mark.parametrize("fault", ["drop", "lose", "cut", SERVER_BUSY], ids=str)
    async def test_neither_lose_nor_double_new_rows(
        self, records: Records, unreliable: SupabaseBackend, proxy: FaultProxy, fault: str | bytes
    ) -> None:
        notes = unreliable.repository(Note, ANN)
        proxy.faults = [fault]
        one = await notes.add(Note(title="one", stars=1))
        proxy.faults = [fault]
        more = await notes.add_many([Note(title="more", stars=n) for n in range(150)])
        proxy.faults = [fault]
        put = await notes.upsert(Note(title="put", stars=1))
        stored = {row.id async for row in records.of(Note).stream()}
        assert stored == {row.id for row in (one, *more, put)}
        assert await records.of(Note).count() == 152

    async def test_are_looked_for_before_anything_is_sent_again(
        self, unreliable: SupabaseBackend, proxy: FaultProxy
    ) -> None:
        proxy.faults = ["lose"]
        await unreliable.repository(Note, ANN).add(Note(title="one", stars=1))
        assert proxy.forwarded == 2  # the row, and the look for it

    async def test_of_a_key_that_is_taken_are_a_conflict(
        self, records: Records, unreliable: SupabaseBackend, proxy: FaultProxy
    ) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        proxy.faults = ["lose"]
        with pytest.raises(Conflict):
            await unreliable.repository(Note, ANN).add(Note(id=note.id, title="two", stars=1))
        assert (await records.of(Note).one()).title == "one"

    async def test_are_reported_where_nobody_can_look_for_the_rows(
        self, records: Records, unreliable: SupabaseBackend, proxy: FaultProxy
    ) -> None:
        writes: list[Callable[[], Any]] = [
            lambda: unreliable.repository(Tag, ANN).add(Tag(name="a")),  # the database counts
            lambda: unreliable.repository(Letter, ANONYMOUS).add(Letter(title="a")),  # unseen
        ]
        for write in writes:
            proxy.faults = ["lose"]
            with pytest.raises(Unavailable, match="it is not known whether the rows were stored"):
                await write()
        assert await records.of(Tag).count() == await records.of(Letter).count() == 1

    async def test_of_changes_are_repeated_where_that_changes_nothing_twice(
        self, records: Records, unreliable: SupabaseBackend, proxy: FaultProxy
    ) -> None:
        note = await records.of(Note, ANN).add(Note(title="one", stars=1))
        proxy.faults = ["lose"]
        changed = await unreliable.repository(Note, ANN).update(note.id, title="two")
        assert changed is not None
        assert changed.title == "two"
        document = await records.of(Document, ANN).add(Document(title="one"))
        proxy.faults = ["lose"]
        with pytest.raises(Unavailable):
            await unreliable.repository(Document, ANN).update(document.id, title="two")
        assert (await records.of(Document).one()).version == 2


class TestManyRows:
    async def test_that_do_not_fit_a_request_are_rejected_before_it_is_sent(
        self, records: Records, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(insert, "MAX_BODY_BYTES", 300_000)
        notes = records.of(Note, ANN)
        rows = [Note(title="x" * 100, stars=n) for n in range(2500)]
        with pytest.raises(PayloadTooLarge, match="atomic=False"):
            await notes.add_many(rows)
        assert await notes.count() == 0
        monkeypatch.setattr(insert, "MAX_BODY_BYTES", 500_000)
        stored = await notes.add_many(rows, atomic=False)
        assert [row.stars for row in stored] == [*range(2500)]
        assert await notes.count() == 2500

    async def test_are_counted_by_lists_of_any_length(self, records: Records) -> None:
        notes = records.of(Note, ANN)
        await notes.add_many([Note(title="x", stars=n) for n in range(10)])
        assert await notes.count(Note.stars.in_([*range(5, 9000), *range(5, 7)])) == 5
        assert await notes.exists(Note.stars.in_(range(9, 9000)))
        assert not await notes.exists(Note.stars.in_(range(10, 9000)))
        for work in (notes.list, notes.delete_where):
            with pytest.raises(NotSupported, match=r"query string of [0-9]+ bytes"):
                await work(Note.stars.in_(range(9000)))
        with pytest.raises(NotSupported, match=r"query string of [0-9]+ bytes"):
            await notes.count(Note.stars.not_in(range(9000)))
        assert await notes.count() == 10


class TestValues:
    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("moment", "'infinity'"),
            ("moment", "'0044-03-15 00:00:00+00 BC'"),
            ("moment", "'10000-01-01 00:00:00+00'"),
            ("day", "'-infinity'"),
        ],
    )
    async def test_that_python_cannot_hold_name_row_and_column(
        self, records: Records, column: str, value: str
    ) -> None:
        kinds = records.of(Kinds)
        rows = await kinds.add_many([Kinds(text=str(n)) for n in range(3)])
        await records.execute(
            text(
                f"UPDATE t_kinds SET {column} = {value} WHERE id = {rows[1].id}".replace(":", r"\:")
            )
        )
        named = rf"^{column} of Kinds {rows[1].id} holds a value that cannot be read$"
        for reading in (kinds.list(), kinds.page(), kinds.get(rows[1].id)):
            with pytest.raises(UnreadableValue, match=named):
                await reading
        assert await kinds.get(rows[0].id) is not None

    async def test_beyond_those_of_json_parsers_come_as_they_are(self, records: Records) -> None:
        big = {"n": 2**70 + 1, "f": 0.1, "z": [-(2**63)]}
        row = await records.of(Kinds).add(
            Kinds(
                big=2**63 - 1,
                exact=Decimal("0.10000000000000000000000000001"),
                real=-0.0,
                reals=[-0.0, 1e300],
                numbers=[2**53 + 1],
                mapping=big,
            )
        )
        read = await records.of(Kinds).get(row.id)
        assert read is not None
        assert (read.big, read.mapping, read.numbers) == (2**63 - 1, big, [2**53 + 1])
        assert str(read.exact) == "0.10000000000000000000000000001"
        assert str(read.real) == "-0.0"
        assert str(read.reals) == "[-0.0, 1e+300]"

    def test_that_are_no_json_are_rejected_by_the_name_of_their_column(
        self, records: Records
    ) -> None:
        class Apart(DeclarativeBase):
            pass

        class Booking(Apart):
            __tablename__ = "bookings"
            id: Mapped[int] = mapped_column(primary_key=True)
            nights: Mapped[Range[int]] = mapped_column(INT4RANGE)

        with pytest.raises(NotSupported, match=r"^Booking\.nights: values of the type INT4RANGE"):
            records.of(Booking)


async def test_a_computed_column_is_rejected_when_it_is_touched(records: Records) -> None:
    clip = await records.of(Clip, ANN).add(Clip(name="clip"))
    with pytest.raises(NotSupported, match=r"^Clip\.note_title is computed"):
        _ = clip.note_title


async def test_rows_are_not_changed_by_what_is_related_to_them(records: Records) -> None:
    posts = records.of(Post, ANN)
    await posts.add(Post(title="one"))
    for work in (
        posts.delete_where(Post.comments.any()),
        posts.update_where(~Post.comments.any(), title="x"),
    ):
        with pytest.raises(NotSupported, match=r"has\(\) and any\(\)"):
            await work
    assert await posts.count() == 1


async def test_a_table_without_the_triggers_is_noticed(records: Records) -> None:
    await records.execute(text("ALTER TABLE t_documents DISABLE TRIGGER amphibase_count_version"))
    document = await records.of(Document, ANN).add(Document(title="one"))
    with pytest.raises(ConfigurationError, match="does not count the versions"):
        await records.of(Document, ANN).update(document.id, title="two", if_version=1)
    await records.execute(text("ALTER TABLE t_documents ENABLE TRIGGER amphibase_count_version"))
