"""How many statements the SQL backend sends."""

from tests.backends import ANN, Records
from tests.contract.test_repository_loading import library
from tests.models import Author, Book, Note
from tests.sql.statements import sent_by


class TestLoad:
    async def test_takes_one_more_statement_however_many_rows(self, records: Records) -> None:
        await library(records)
        authors = await records.of(Author).add_many([Author(name=f"x{n}") for n in range(50)])
        await records.of(Book).add_many([Book(title="x", author_id=each.id) for each in authors])
        for limit in (1, 60):
            with sent_by(records.sql) as sent:
                await records.of(Book, ANN).list(limit=limit, load=[Book.author, Book.tags])
            # Where policies decide, the table between books and tags is read apart.
            assert len(sent) == (4 if records.settings.rls and limit > 1 else 3), sent
            with sent_by(records.sql) as sent:
                await records.of(Author, ANN).list(limit=limit, load=[Author.books])
            assert len(sent) == 2, sent

    async def test_of_nothing_asks_nothing_more(self, records: Records) -> None:
        with sent_by(records.sql) as sent:
            assert [*await records.of(Book, ANN).list(load=[Book.author, Book.tags])] == []
        assert len(sent) == 1, sent


class TestAddMany:
    async def test_needs_few_statements(self, records: Records) -> None:
        with sent_by(records.sql) as sent:
            await records.of(Note, ANN).add_many([Note(title="x", stars=n) for n in range(3000)])
        assert len(sent) <= 3
        assert await records.of(Note).count() == 3000
