"""The contract of Repository, on every backend: filters, orders and values that read the rows of
other models see those that the caller may see, and no others."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Select, column, exists, func, insert, literal_column, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column
from tests.backends import ANN, BOB, POLICIES_ON_POSTGRES, Records
from tests.models import Author, Book, Clip, Comment, Note, Post, Tag, book_tags

from amphibase import ANONYMOUS, SERVICE, Caller, NotSupported, User
from amphibase.access import Access, owner
from amphibase.errors import InvalidValue

pytestmark = POLICIES_ON_POSTGRES

OTHER = aliased(Note)
IN_FRONT = select(Note.id).where(Note.title == "secret").cte("in_front")
INSIDE = select(Note).where(Note.title == "secret").subquery("inside")
UNION = select(Note.id).where(Note.stars > 9).union(select(Note.id).where(Note.title == "secret"))
LEFT: Select[Any] = (
    select(Note.title).select_from(Clip).join(Note, Clip.note_id == Note.id, isouter=True)
)

BY_NOTE = {
    "has": Clip.note.has(Note.title.like("s%")),
    "in": Clip.note_id.in_(select(Note.id).where(Note.title == "secret")),
    "exists": exists().where(Note.id == Clip.note_id, Note.title == "secret"),
    "an alias": exists().where(OTHER.id == Clip.note_id, OTHER.title == "secret"),
    "a subquery": Clip.note_id.in_(select(INSIDE.c.id)),
    "a subquery of a subquery": Clip.note_id.in_(select(select(INSIDE.c.id).subquery().c.id)),
    "a common table expression": Clip.note_id.in_(select(IN_FRONT.c.id)),
    "a union": Clip.note_id.in_(UNION),
    "the table": Clip.note_id.in_(
        select(Note.__table__.c.id).where(Note.__table__.c.title == "secret")
    ),
    "an outer join": exists(LEFT.where(Note.title == "secret")),
    "a scalar": select(Note.title).where(Note.id == Clip.note_id).scalar_subquery() == "secret",
    "a hybrid property": Clip.note_stars == 1,
    "a column property": Clip.note_title == "secret",
    "text": text("note_id IN (SELECT id FROM t_notes WHERE title = 'secret')"),
    "a literal": literal_column("(SELECT title FROM t_notes WHERE id = note_id)") == "secret",
}
JOINS = {
    "a join": (Note.id == Clip.note_id) & (Note.title == "secret"),
    "a join of an alias": (OTHER.id == Clip.note_id) & (OTHER.title == "secret"),
}


EVERYWHERE = ("has", "exists")
"""Those that are not of SQL alone."""


def each(filters: dict[str, Any]) -> pytest.MarkDecorator:
    in_sql = pytest.mark.requires("sql_expressions")
    return pytest.mark.parametrize(
        "where",
        [
            pytest.param(where, id=name, marks=() if name in EVERYWHERE else in_sql)
            for name, where in filters.items()
        ],
    )


async def clip_of_a_note(records: Records) -> Clip:
    """A clip of Bob's, that everyone sees, of a note that only Ann sees."""
    note = await records.of(Note, ANN).add(Note(title="secret", stars=1))
    return await records.of(Clip, BOB).add(Clip(name="clip", note_id=note.id))


class TestFilters:
    @each(BY_NOTE | JOINS)
    async def test_see_a_related_row_only_where_the_caller_does(
        self, records: Records, where: Any
    ) -> None:
        await clip_of_a_note(records)
        for caller, sees in ((ANN, 1), (BOB, 0), (ANONYMOUS, 0), (SERVICE, 1)):
            clips = records.of(Clip, caller)
            assert await clips.count(where) == sees, caller
            assert await clips.exists(where) == bool(sees)
            rows = [*await clips.list(where), *(await clips.page(where)).items]
            rows += [clip async for clip in clips.stream(where)]
            assert len(rows) == 3 * sees

    @each({name: BY_NOTE[name] for name in ("has", "in", "an alias", "text")})
    @pytest.mark.requires("related_rows_in_writes")
    async def test_do_not_choose_rows_to_change_by_what_the_caller_does_not_see(
        self, records: Records, where: Any
    ) -> None:
        await clip_of_a_note(records)
        clips = records.of(Clip, BOB)
        assert await clips.update_where(where, name="found") == 0
        assert await clips.delete_where(where) == 0
        assert await records.of(Clip).update_where(where, name="found") == 1
        assert await records.of(Clip).delete_where(where) == 1

    @pytest.mark.parametrize("caller", [BOB, ANONYMOUS], ids=["bob", "anonymous"])
    async def test_find_the_rows_that_have_no_related_row_as_far_as_the_caller_sees(
        self, records: Records, caller: Caller
    ) -> None:
        await clip_of_a_note(records)
        assert await records.of(Clip, caller).count(~Clip.note.has()) == 1
        assert await records.of(Clip, ANN).count(~Clip.note.has()) == 0

    @pytest.mark.parametrize("pattern", ["(", "[a", "*"])
    async def test_with_an_invalid_regular_expression_are_rejected(
        self, records: Records, pattern: str
    ) -> None:
        notes, where = records.of(Note, ANN), Note.title.regexp_match(pattern)
        await notes.add(Note(title="note", stars=1))
        for reads in (notes.list(where), notes.page(where), notes.count(where)):
            with pytest.raises(InvalidValue):
                await reads
        with pytest.raises(InvalidValue):
            await notes.update_where(where, stars=2)
        assert (await notes.one()).stars == 1

    @pytest.mark.requires("sql_expressions")
    async def test_see_only_the_callers_rows_of_the_same_model(self, records: Records) -> None:
        for caller, stars in ((ANN, 1), (BOB, 2)):
            await records.of(Note, caller).add(Note(title=f"{stars}", stars=stars))
        most = select(func.max(Note.stars)).scalar_subquery()
        notes = records.of(Note, ANN)
        assert [note.title for note in await notes.list(Note.stars == most)] == ["1"]
        assert await notes.update_where(Note.stars == most, title="most") == 1
        assert await notes.delete_where(Note.stars == most) == 1
        assert [note.title for note in await records.of(Note).list()] == ["2"]

    async def test_do_not_see_softly_deleted_rows(self, records: Records) -> None:
        post = await records.of(Post, ANN).add(Post(title="post"))
        comment = await records.of(Comment, ANN).add(Comment(text="word", post_id=post.id))
        for caller in (ANN, SERVICE):
            assert await records.of(Post, caller).count(Post.comments.any()) == 1
        await records.of(Comment, ANN).delete(comment.id)
        for caller in (ANN, SERVICE):
            assert await records.of(Post, caller).count(Post.comments.any()) == 0

    @pytest.mark.requires("sql_expressions")
    async def test_see_no_accounts(self, records: Records) -> None:
        await clip_of_a_note(records)
        owned = Clip.owner_id.in_(select(User.id).where(User.email.like("bob@%")))
        assert await records.of(Clip).count(owned) == 1
        for caller in (ANN, BOB, ANONYMOUS):
            assert await records.of(Clip, caller).count(owned) == 0

    async def test_reject_a_table_that_no_model_declares(self, records: Records) -> None:
        book = await records.of(Book).add(Book(title="book"))
        tag = await records.of(Tag).add(Tag(name="tag"))
        await records.execute(insert(book_tags).values({"book_id": book.id, "tag_id": tag.id}))
        tagged = Book.tags.any(Tag.name == "tag")
        assert await records.of(Book).count(tagged) == 1
        with pytest.raises(NotSupported, match="t_book_tags has no model"):
            await records.of(Book, ANN).count(tagged)

    @pytest.mark.requires("sql_expressions")
    async def test_reject_a_model_in_a_schema_of_its_own(self, records: Records) -> None:
        class Crm(DeclarativeBase):
            pass

        class Plan(Crm):
            __tablename__ = "plans"
            __table_args__ = {"schema": "crm"}  # noqa: RUF012
            __access__ = Access(read=owner, write=owner)

            id: Mapped[int] = mapped_column(primary_key=True)
            owner_id: Mapped[UUID]

        if not records.settings.rls:  # there, policies of the table decide
            with pytest.raises(NotSupported, match=r"crm\.plans is in a schema of its own"):
                await records.of(Post, BOB).list(exists(select(Plan.id)))

    @pytest.mark.parametrize(
        "sql",
        [
            "EXISTS (SELECT 1 FROM public.t_comments)",
            "EXISTS (SELECT 1 FROM Main . T_Comments)",
            'EXISTS (SELECT 1 FROM "app"."public"."t_comments")',
            "EXISTS (SELECT 1 FROM auth.users)",
        ],
    )
    @pytest.mark.requires("sql_expressions")
    async def test_reject_a_table_behind_its_schema_in_text(
        self, records: Records, sql: str
    ) -> None:
        filters: list[Any] = [text(sql), literal_column(sql).is_(True)]
        for where in filters:
            with pytest.raises(NotSupported, match="stands behind its schema"):
                await records.of(Post, BOB).list(where)

    @each(
        {
            "escapes": text('EXISTS (SELECT 1 FROM U&"t\\005fcomments")'),
            "a query in text": text("query_to_xml('SELECT 1', true, false, '') IS NULL"),
            "a query": func.QUERY_TO_XML("SELECT 1 FROM t_comments", True, False, "").is_(None),
            "a table": func.pg_catalog.table_to_xml("t_comments", True, False, "").is_(None),
            "statistics": exists(select(column("word")).select_from(func.ts_stat("SELECT 1"))),
        }
    )
    @pytest.mark.requires("sql_expressions")
    async def test_reject_what_reads_tables_that_are_not_seen(
        self, records: Records, where: Any
    ) -> None:
        with pytest.raises(NotSupported, match="reads tables that cannot be seen"):
            await records.of(Post, BOB).list(where)

    @each(
        {
            "capitals": text("EXISTS (SELECT 1 FROM T_COMMENTS)"),
            "an operator": Post.title.op("= 'z' OR EXISTS (SELECT 1 FROM t_comments) OR 'z' =")(
                "x"
            ),
            "a prefix": exists(
                select(literal_column("1"))
                .prefix_with("1 FROM t_comments UNION SELECT")
                .where(text("1 = 0"))
            ),
            "a suffix": exists(
                select(literal_column("1"))
                .where(text("1 = 0"))
                .suffix_with("UNION SELECT 1 FROM t_comments")
            ),
            "a hint": exists(
                select(literal_column("1"))
                .where(text("1 = 0"))
                .with_statement_hint("UNION SELECT 1 FROM t_comments")
            ),
        }
    )
    @pytest.mark.requires("sql_expressions")
    async def test_of_text_see_only_the_callers_rows_however_it_names_the_table(
        self, records: Records, where: Any
    ) -> None:
        post = await records.of(Post, ANN).add(Post(title="post"))
        await records.of(Comment, ANN).add(Comment(text="word", post_id=post.id))
        for caller, sees in ((ANN, 1), (BOB, 0), (SERVICE, 1)):
            assert await records.of(Post, caller).count(where) == sees

    @pytest.mark.requires("sql_expressions")
    async def test_reject_what_changes_rows(self, records: Records) -> None:
        deleted = Note.__table__.delete().returning(Note.id).cte()  # type: ignore[attr-defined]
        with pytest.raises(NotSupported, match="must not change rows"):
            await records.of(Clip, ANN).list(Clip.note_id.in_(select(deleted.c.id)))

    @pytest.mark.requires("transactions")
    async def test_work_in_a_transaction(self, records: Records) -> None:
        await clip_of_a_note(records)
        for caller, sees in ((ANN, 1), (ANONYMOUS, 0)):
            async with records.backend.transaction(caller) as transaction:
                clips = transaction.repository(Clip)
                assert await clips.count(Clip.note.has(Note.title == "secret")) == sees

    async def test_of_public_models_see_every_row(self, records: Records) -> None:
        author = await records.of(Author).add(Author(name="author"))
        await records.of(Book).add(Book(title="book", author_id=author.id))
        by_book = Author.books.any(Book.title == "book")
        for caller in (ANN, ANONYMOUS):
            assert await records.of(Author, caller).count(by_book) == 1


class TestOrders:
    TITLE = select(Note.title).where(Note.id == Clip.note_id).scalar_subquery()

    @pytest.mark.parametrize("by", [TITLE, Clip.note_title, Clip.note_stars])
    @pytest.mark.requires("sql_expressions")
    async def test_sort_by_related_rows_only_where_the_caller_sees_them(
        self, records: Records, by: Any
    ) -> None:
        first = await clip_of_a_note(records)
        second = await records.of(Clip, BOB).add(Clip(name="second"))
        in_order = [first.id, second.id]
        for caller, ids in ((ANN, in_order), (BOB, in_order[::-1])):
            clips = records.of(Clip, caller)
            order = [by.nulls_last(), Clip.name.desc()]
            assert [clip.id for clip in await clips.list(order_by=order)] == ids
            page = await clips.page(order_by=order, limit=1)
            rest = await clips.page(order_by=order, limit=1, cursor=page.next_cursor)
            assert [clip.id for clip in (*page.items, *rest.items)] == ids


class TestComputedColumns:
    @pytest.mark.requires("sql_expressions")
    async def test_hold_only_what_the_caller_sees(self, records: Records) -> None:
        clip = await clip_of_a_note(records)
        assert clip.note_title is None
        for caller, title in ((ANN, "secret"), (BOB, None), (ANONYMOUS, None)):
            clips = records.of(Clip, caller)
            got = await clips.get(clip.id)
            assert got is not None
            listed = [*await clips.list(), *(await clips.page()).items]
            assert [row.note_title for row in (got, *listed)] == [title] * 3

    @pytest.mark.parametrize(
        "first", [ANONYMOUS, SERVICE, BOB], ids=["anonymous", "service", "bob"]
    )
    @pytest.mark.requires("sql_expressions")
    async def test_do_not_depend_on_who_read_a_row_first(
        self, records: Records, first: Caller
    ) -> None:
        clip = await clip_of_a_note(records)
        repository: Any = records.of(Clip)
        repository._info.cache.clear()
        for caller, title in ((first, None), (SERVICE, "secret"), (ANONYMOUS, None)):
            got = await records.of(Clip, caller).get(clip.id)
            assert got is not None, caller
            assert got.note_title == ("secret" if caller is SERVICE else title)

    @pytest.mark.requires("sql_expressions")
    async def test_are_there_after_every_write(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="note", stars=1))
        clips = records.of(Clip, ANN)
        added = await clips.add(Clip(name="one", note_id=note.id))
        many = await clips.add_many([Clip(name="two", note_id=note.id), Clip(name="three")])
        changed = await clips.update(added.id, name="four")
        put = await clips.upsert(Clip(id=added.id, name="five", note_id=note.id))
        left = await clips.upsert(Clip(id=added.id, name="six"), replace=False)
        titles = [row.note_title for row in (added, *many, changed, put, left) if row]
        assert titles == ["note", "note", None, "note", "note", "note"]


class TestValues:
    @pytest.mark.parametrize("write", ["add", "update", "update_where", "upsert"])
    @pytest.mark.requires("sql_expressions")
    async def test_that_are_expressions_hold_only_what_the_caller_sees(
        self, records: Records, write: str
    ) -> None:
        await clip_of_a_note(records)
        await records.of(Note, BOB).add(Note(title="bob's", stars=0))
        title: Any = select(func.max(Note.title)).scalar_subquery()
        clips = records.of(Clip, BOB)
        (clip,) = await clips.list()
        match write:
            case "add":
                await clips.add(Clip(name=title))
            case "update":
                await clips.update(clip.id, name=title)
            case "update_where":
                await clips.update_where(everything=True, name=title)
            case "upsert":
                await clips.upsert(Clip(id=clip.id, name=title))
        assert {row.name for row in await clips.list()} - {"clip"} == {"bob's"}
