"""Reads response with the JSON that PostgREST's documentation describes."""

from dataclasses import replace
from typing import Any

import psycopg
import pytest
from tests.gateway.rest.planner_database import PlannerDatabase

from amphibase.gateway.rest.errors.base import RestError
from amphibase.gateway.rest.errors.schema_cache import NoRelationship
from amphibase.gateway.rest.plan.embedding import find_relationship
from amphibase.gateway.rest.schema.catalog import Name, Relationship
from amphibase.gateway.rest.schema.lazily import Lazily

A, B, G, D = {"id": 1}, {"id": 2}, {"id": 3}, {"id": 4}


@pytest.mark.parametrize(
    ("conditions", "ids"),
    [
        ("", [1, 2, 3, 4]),
        ("id=eq.2", [2]),
        ("id=not.eq.2", [1, 3, 4]),
        ("id=neq.2&pages=gte.50", [1, 3]),
        ("id=gt.1&id=lte.3", [2, 3]),
        ("pages=lt.150", [1]),
        ("title=like.*a", [1, 2, 3, 4]),
        ("title=like.A*", [1]),
        ("title=ilike.al*", [1]),
        ("title=ilike(any).{al*,be*}", [1, 2]),
        ("title=like(all).{A*,*a}", [1]),
        ("title=match.^[AB]", [1, 2]),
        ("title=imatch(any).{^a,^g}", [1, 3]),
        ("id=eq(any).{1,3}", [1, 3]),
        ("id=in.(1,3)", [1, 3]),
        ("id=in.()", []),
        ("id=not.in.(1,3)", [2, 4]),
        ('title=in.("Alpha","x,\\"y")', [1]),
        ("pages=is.null", [4]),
        ("pages=not.is.null", [1, 2, 3]),
        ("pages=is.not_null", [1, 2, 3]),
        ("author_id=isdistinct.1", [3, 4]),
        ("data=cs.{\"k\":\"x\"}", [1]),
        ("during=ov.[4,6)", [1, 2]),
        ("during=sl.[5,7)", [1]),
        ("during=sr.[1,5)", [2]),
        ("during=nxr.[1,5)", [1]),
        ("during=nxl.[5,7)", [2]),
        ("during=adj.[9,10)", [2]),
        ("during=cd.[0,6)", [1]),
        ("words=fts.cat", [1]),
        ("words=fts(english).running", [1]),
        ("words=plfts(english).the cats", [1]),
        ("words=phfts(english).running cats", [1]),
        ("words=wfts(english).cats or dogs", [1]),
        ("words=not.fts.cat", []),
        ("title=fts.alpha", [1]),
        ("data=fts.x", [1]),
        ("data->>k=eq.y", [2]),
        ("data->a->b=eq.2", [2]),
        ("data->l->1=eq.4", [1]),
        ("data->l->-1=eq.4", [1]),
        ("data->>k=fts.x", [1]),
        ("or=(id.eq.1,id.eq.3)", [1, 3]),
        ("or=(id.eq.1,and(id.gt.2,title.like.D*))", [1, 4]),
        ("not.or=(id.eq.1,id.eq.3)", [2, 4]),
        ("and=(id.gt.1,not.or(id.eq.2,id.eq.3))", [4]),
        ("or=(id.in.(1,2),title.eq.Delta)", [1, 2, 4]),
    ],
)  # fmt: skip
async def test_filters_choose_the_rows(
    database: PlannerDatabase, conditions: str, ids: list[int]
) -> None:
    rows = await database.read(f"books?select=id&order=id&{conditions}")
    assert [row["id"] for row in rows] == ids


@pytest.mark.parametrize(
    ("url", "rows"),
    [
        ("countries", [{"id": 1, "name": "Norway", "flag": "#ff0000"},
                       {"id": 2, "name": "Chile", "flag": "#0000ff"}]),
        ("countries?select=*&id=eq.2", [{"id": 2, "name": "Chile", "flag": "#0000ff"}]),
        ("countries?select=flag&flag=eq.%230000ff", [{"flag": "#0000ff"}]),
        ("countries?select=id&flag=in.(%230000ff,%23000000)", [{"id": 2}]),
        ("countries?select=flag::text&id=eq.2", [{"flag": '"#0000ff"'}]),
        ("countries?select=flag.count()", [{"count": 2}]),
        ("countries?select=id::text,count()&order=id&limit=1", [{"id": "1", "count": 1}]),
        ("countries?select=flag,count()&order=flag.desc",
         [{"flag": "#ff0000", "count": 1}, {"flag": "#0000ff", "count": 1}]),
        ("books?select=...covers(shade),count()&id=eq.1", [{"shade": "#0000ff", "count": 1}]),
        ("books?select=tags()&id=lt.3", [{}, {}]),
        ("books?select=n:id,t:title&id=eq.1", [{"n": 1, "t": "Alpha"}]),
        ("books?select=id::text&id=eq.1", [{"id": "1"}]),
        ("books?select=id::double precision&id=eq.1", [{"id": 1}]),
        ("books?select=data->a&id=eq.1", [{"a": {"b": 1}}]),
        ("books?select=data->a->>b&id=eq.1", [{"b": "1"}]),
        ("books?select=data->l->0&id=eq.1", [{"l": 3}]),
        ("books?select=x:data->>k&id=eq.1", [{"x": "x"}]),
        ("authors?select=nicknames->1&id=eq.1", [{"nicknames": "b"}]),
        ('authors?select=q:"odd \\"name"&id=eq.1', [{"q": 7}]),
        ("authors?select=shout&id=eq.1", [{"shout": "ADA"}]),
        ("authors?select=id&shout=eq.BO", [{"id": 2}]),
        ("authors?select=id&order=shout.desc", [{"id": 3}, {"id": 2}, {"id": 1}]),
        ("books?select=id&order=pages.desc.nullslast,id", [G, B, A, D]),
        ("books?select=id&order=pages.desc", [D, G, B, A]),
        ("books?select=id&order=data->>k.asc.nullsfirst,id", [G, D, A, B]),
        ("books?select=id&order=id&limit=2&offset=1", [B, G]),
        ("books?select=id&order=id&limit=0", []),
        ("novels?select=id&order=id", [B, G]),
    ],
)  # fmt: skip
async def test_select_order_and_ranges_shape_the_rows(
    database: PlannerDatabase, url: str, rows: list[Any]
) -> None:
    assert await database.read(url) == rows


@pytest.mark.parametrize(
    ("url", "rows"),
    [
        # to one, to many, one to one, many to many, through a view
        ("covers?select=book_id,books(title)&order=book_id",
         [{"book_id": 1, "books": {"title": "Alpha"}}, {"book_id": 2, "books": {"title": "Beta"}}]),
        ("countries?select=name,authors(name)&order=id",
         [{"name": "Norway", "authors": [{"name": "Ada"}]},
          {"name": "Chile", "authors": [{"name": "Bo"}]}]),
        ("books?select=id,covers(shade)&order=id&id=in.(1,3)",
         [{"id": 1, "covers": {"shade": "#0000ff"}}, {"id": 3, "covers": None}]),
        ("books?select=id,tags(name)&order=id&tags.order=name&id=in.(1,4)",
         [{"id": 1, "tags": [{"name": "blue"}, {"name": "red"}]}, {"id": 4, "tags": []}]),
        ("novels?select=id,authors(name)&order=id",
         [{"id": 2, "authors": {"name": "Ada"}}, {"id": 3, "authors": {"name": "Bo"}}]),
        ("tags?select=name,book_tags(weight,books(title))&id=eq.2",
         [{"name": "blue", "book_tags": [{"weight": 20, "books": {"title": "Alpha"}}]}]),
        # hints
        ("books?select=authors!books_editor(name)&id=eq.1", [{"authors": {"name": "Bo"}}]),
        ("books?select=authors!author_id(name)&id=eq.1", [{"authors": {"name": "Ada"}}]),
        ("books?select=author_id(name)&id=eq.1", [{"author_id": {"name": "Ada"}}]),
        ("books?select=books_editor(name)&id=eq.1", [{"books_editor": {"name": "Bo"}}]),
        ("books?select=by:author_id(name),ed:editor_id(name)&id=eq.1",
         [{"by": {"name": "Ada"}, "ed": {"name": "Bo"}}]),
        ("authors?select=books!books_author(id)&id=eq.2", [{"books": [G]}]),
        ("books?select=tags!book_tags(id)&id=eq.2", [{"tags": [A]}]),
        # self
        ("authors?select=id,mentor_id(name)&id=eq.2", [{"id": 2, "mentor_id": {"name": "Ada"}}]),
        ("authors?select=id,authors(id)&id=eq.1&authors.order=id", [{"id": 1, "authors": [B, G]}]),
        ("authors?select=id,authors!mentor_id(id)&id=eq.1&authors.id=eq.3",
         [{"id": 1, "authors": [G]}]),
        ("people?select=id,boss_id(id),spouse_id(id)&id=eq.2",
         [{"id": 2, "boss_id": A, "spouse_id": A}]),
        ("people?select=people!boss_id(id)&id=eq.1&people.order=id", [{"people": [B, G]}]),
        ("people?select=people!coach_id(id)&id=eq.1", [{"people": [B]}]),
        # computed
        ("authors?select=works(id),home(name)&id=eq.1&works.order=id",
         [{"works": [A, B], "home": {"name": "Norway"}}]),
        ("authors?select=id,mentor(id)&order=id&id=lt.3",
         [{"id": 1, "mentor": {"id": None}}, {"id": 2, "mentor": A}]),
        # spread
        ("books?select=id,...author_id(name,...countries(land:name))&id=in.(1,4)&order=id",
         [{"id": 1, "name": "Ada", "land": "Norway"}, {"id": 4, "name": None, "land": None}]),
        ("covers?select=...books(id,title)&book_id=eq.1", [{"id": 1, "title": "Alpha"}]),
        ("books?select=id,...tags(names:name,id)&order=id&id=in.(1,4)&tags.order=id.desc",
         [{"id": [2, 1], "names": ["blue", "red"]}, {"id": [], "names": []}]),
        ("covers?select=...books(*)&book_id=eq.2", [
            {"id": 2, "title": "Beta", "pages": 150, "author_id": 1, "editor_id": None,
             "data": {"a": {"b": 2}, "k": "y"}, "words": None, "during": "[5,9)"}]),
        ("tags?select=...books(title,...covers(shade))&id=eq.1&books.order=title.desc",
         [{"title": ["Beta", "Alpha"], "shade": ["#ff0000", "#0000ff"]}]),
        # inner, presence
        ("books?select=id,covers!inner(shade)&order=id&covers.shade=eq.%23ff0000",
         [{"id": 2, "covers": {"shade": "#ff0000"}}]),
        ("books?select=id,tags!inner(id)&tags.name=eq.blue", [{"id": 1, "tags": [B]}]),
        ("books?select=id,tags!inner()&order=id", [A, B]),
        ("books?select=id,...tags!inner(n:name)&tags.name=eq.blue", [{"id": 1, "n": ["blue"]}]),
        ("books?select=id,tags()&tags=is.null&order=id", [G, D]),
        ("books?select=id,tags(id)&tags=not.is.null&tags.id=eq.2", [{"id": 1, "tags": [B]}]),
        ("books?select=id,covers(shade)&covers=is.null&order=id",
         [{"id": 3, "covers": None}, {"id": 4, "covers": None}]),
        ("books?select=id,covers()&covers=not.is.null&order=id", [A, B]),
        ("books?select=id,t:tags(),covers()&or=(t.is.null,covers.is.null)&order=id", [G, D]),
        ("books?select=id,tags(),author_id()&or=(tags.not.is.null,author_id.is.null)"
         "&tags.name=eq.blue&order=id", [A, D]),
        ("authors?select=id,books!books_author!inner(id,covers!inner(book_id))&order=id",
         [{"id": 1, "books": [{"id": 1, "covers": {"book_id": 1}},
                              {"id": 2, "covers": {"book_id": 2}}]}]),
        # below
        ("authors?select=id,books!books_author(id)&id=eq.1&books.limit=1&books.order=id.desc",
         [{"id": 1, "books": [B]}]),
        ("authors?select=id,books!books_author(id)&id=eq.1&books.offset=1&books.order=id",
         [{"id": 1, "books": [B]}]),
        ("authors?select=id,b:books!books_author(id)&id=eq.1&b.or=(id.eq.2,title.eq.x)",
         [{"id": 1, "b": [B]}]),
        # order by one
        ("books?select=id,author_id(name)&order=author_id(name).desc,id&id=lt.4",
         [{"id": 3, "author_id": {"name": "Bo"}}, {"id": 1, "author_id": {"name": "Ada"}},
          {"id": 2, "author_id": {"name": "Ada"}}]),
        ("books?select=id,author_id()&order=author_id(name).desc.nullslast,id", [G, A, B, D]),
        ("books?select=id,...author_id(name)&order=author_id(born).nullslast,id&id=lt.3",
         [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Ada"}]),
        # aggregates
        ("books?select=count()", [{"count": 4}]),
        ("books?select=n:count()::text,pages.sum()", [{"n": "4", "sum": 450}]),
        ("books?select=author_id,pages.max(),id.min()&order=author_id",
         [{"author_id": 1, "max": 150, "min": 1}, {"author_id": 2, "max": 250, "min": 3},
          {"author_id": None, "max": None, "min": 4}]),
        ("books?select=pages.avg()::int&author_id=eq.1", [{"avg": 100}]),
        ("books?select=editor_id(name),count()&id=eq.1",
         [{"editor_id": {"name": "Bo"}, "count": 1}]),
        ("authors?select=id,books!books_author(pages.sum())&order=id&id=lt.3",
         [{"id": 1, "books": [{"sum": 200}]}, {"id": 2, "books": [{"sum": 250}]}]),
        ("covers?select=...books(pages.sum(),author_id)", [{"sum": 200, "author_id": 1}]),
    ],
)  # fmt: skip
async def test_related_rows_are_embedded(
    database: PlannerDatabase, url: str, rows: list[Any]
) -> None:
    assert await database.read(url) == rows


@pytest.mark.parametrize(
    ("url", "total", "page"),
    [
        ("books?limit=2", 4, 2),
        ("books?limit=1&id=gt.1", 3, 1),
        ("books?select=id,tags!inner(id)&limit=1", 2, 1),
        ("books?select=id,tags(id),covers()&or=(tags.is.null,covers.is.null)&limit=1", 2, 1),
        ("authors?select=id,books!books_author!inner(id,covers!inner(book_id))&limit=0", 1, 0),
        ("books?select=author_id,count()&limit=1", 4, 1),
        ("authors?select=id,books!books_author!inner(pages.sum())&limit=1", 2, 1),
        ("books?id=eq.1&offset=1", 1, 0),
    ],
)
async def test_rows_are_counted_beyond_the_limit(
    database: PlannerDatabase, url: str, total: int, page: int
) -> None:
    response = await database.request("read", url, count="exact")
    assert (response.total, response.page) == (total, page)


async def test_a_junction_is_read_from_both_sides(database: PlannerDatabase) -> None:
    await database.connection.execute("INSERT INTO api.book_tags VALUES (4, 3)")
    assert await database.read("books?select=tags(name)&id=eq.4") == [{"tags": [{"name": "old"}]}]
    assert await database.read("tags?select=books(id)&id=eq.3") == [{"books": [D]}]


@pytest.mark.parametrize(
    ("query", "embedded"),
    [
        # By another name than the embed's alias, and by another operator than `is`, a filter is
        # the column's.
        ("author:author_id(name)&author_id=eq.1", ["Ada", "Ada"]),
        ("author:author_id(name)&author_id=not.is.null&author.id=eq.2", [None, None, "Bo"]),
        ("author_id(name)&author_id=eq.2", ["Bo"]),
        ("author_id(name)&author_id=not.is.null&author_id.id=eq.2", ["Bo"]),
        ("author:author_id(name)&author=is.null", [None]),
        ("author:author_id(name)&or=(author_id.eq.2,author.is.null)", ["Bo", None]),
    ],
)
async def test_a_filter_is_on_an_embed_only_by_its_alias_and_with_is(
    database: PlannerDatabase, query: str, embedded: list[str | None]
) -> None:
    rows = await database.read(f"books?order=id&select={query}")
    items = [row.get("author", row.get("author_id")) for row in rows]
    assert [each and each["name"] for each in items] == embedded


async def test_an_estimate_is_explained_for_the_same_rows(database: PlannerDatabase) -> None:
    compiled = database.compile("read", "books?id=eq.1&limit=1", count="planned")
    assert compiled.estimate is not None
    call = compiled.estimate.bind(["1"])
    [[[explained]]] = await database.run(call.statement.sql, call.values)
    assert explained["Plan"]["Plan Rows"] == 1
    assert database.compile("read", "books", count="exact").estimate is None


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("boks", "PGRST205", "Could not find the table 'api.boks' in the schema cache"),
        ("books?select=nope", "42703", "column books.nope does not exist"),
        ("books?nope=eq.1", "42703", "column books.nope does not exist"),
        ("books?order=nope", "42703", "column books.nope does not exist"),
        ("books?select=tags(nope)", "42703", "column tags.nope does not exist"),
        ("books?select=secrets(*)", "PGRST200", "between 'books' and 'secrets'"),
        ("authors?select=secrets(*)", "PGRST200", "between 'authors' and 'secrets'"),
        ("books?select=authors(*)", "PGRST201", "for 'books' and 'authors'"),
        ("people?select=people(*)", "PGRST201", "for 'people' and 'people'"),
        ("people?select=people!spouse_id(*)", "PGRST200", "between 'people' and 'people'"),
        # Postgres, which knows the columns, is asked last.
        ("books?select=nope,secrets(*)", "PGRST200", "between 'books' and 'secrets'"),
        ("books?select=nope&order=tags(name)", "PGRST108", "'tags' is not an embedded resource"),
        ("books?select=secrets(*)&tags.id=eq.1", "PGRST108", "'tags' is not an embedded resource"),
        ("books?tags.id=eq.1", "PGRST108", "'tags' is not an embedded resource"),
        ("books?tags.limit=1", "PGRST108", "'tags' is not an embedded resource"),
        ("books?order=tags(name)", "PGRST108", "'tags' is not an embedded resource"),
        ("books?select=tags(*)&order=tags(name)", "PGRST118", "A related order on 'tags'"),
        ("books?select=tags(*)&tags=eq.1", "42703", "column books.tags does not exist"),
        ("books?select=...tags(id.sum())", "PGRST127", "Feature not implemented"),
    ],
)  # fmt: skip
async def test_what_is_not_there_is_rejected(
    database: PlannerDatabase, url: str, code: str, message: str
) -> None:
    with pytest.raises(RestError) as rejected:
        database.compile("read", url)
    assert rejected.value.code == code
    assert message in rejected.value.message


async def test_errors_say_what_may_be_meant(database: PlannerDatabase) -> None:
    def hint(url: str) -> str | None:
        with pytest.raises(RestError) as rejected:
            database.compile("read", url)
        return rejected.value.hint

    assert hint("boks") == "Perhaps you meant the table 'api.books'"
    assert hint("books?select=titel") == (
        'Perhaps you meant to reference the column "books.title".'
    )
    assert hint("books?select=tagz(*)") == "Perhaps you meant 'tags' instead of 'tagz'."
    assert hint("books?select=authors(*)") == (
        "Try changing 'authors' to one of the following: 'authors!books_author', "
        "'authors!books_editor'. Find the desired relationship in the 'details' key."
    )


async def test_a_hint_derives_the_relationships_of_few_relations(database: PlannerDatabase) -> None:
    derived: list[Name] = []

    def derive(name: Name) -> tuple[Relationship, ...]:
        derived.append(name)
        if name.name == "tablet_1":
            return ()
        return (Relationship(name, Name("api", "books"), "many-to-one", "key"),)

    names = [*(Name("api", f"table_{number}") for number in range(1000)), Name("api", "tablet_1")]
    catalog = replace(database.catalog, relationships=Lazily(dict.fromkeys(names), derive))
    with pytest.raises(NoRelationship) as rejected:
        find_relationship(catalog, "api", Name("api", "tablets_1"), "books", None)
    assert rejected.value.hint == "Perhaps you meant 'table_1' instead of 'tablets_1'."
    assert len(derived) < 10


async def test_an_ambiguous_relationship_lists_all(database: PlannerDatabase) -> None:
    with pytest.raises(RestError) as rejected:
        database.compile("read", "books?select=authors(*)")
    assert rejected.value.details[0] == {
        "cardinality": "many-to-one",
        "embedding": "books with authors",
        "relationship": "books_author using books(author_id) and authors(id)",
    }


async def test_aggregates_need_to_be_allowed(database: PlannerDatabase) -> None:
    without = database.configured()
    for url in (
        "books?select=count()", "books?select=tags(id.max())", "covers?select=...books(id.max())",
    ):  # fmt: skip
        with pytest.raises(RestError) as rejected:
            without.compile("read", url)
        assert rejected.value.code == "PGRST123"
    assert await without.read("books?select=count") == [{"count": 4}]
    assert await without.read("countries?select=authors(n:count)&id=eq.1") == [
        {"authors": [{"n": 1}]}
    ]


async def test_no_relation_gives_more_rows_than_the_settings_allow(
    database: PlannerDatabase,
) -> None:
    capped = database.configured(max_rows=1)
    rows = await capped.read("countries?select=id,authors(id)&limit=9")
    assert len(rows) == 1
    rows = await capped.read("authors?select=works(id)&id=eq.1")
    assert len(rows[0]["works"]) == 1


async def test_a_row_by_its_key_needs_no_limit(database: PlannerDatabase) -> None:
    def is_limited(url: str) -> bool:
        return "LIMIT" in database.compile("read", url).main.statement.sql

    assert not is_limited("books?id=eq.1&title=neq.x")
    assert not is_limited("book_tags?book_id=eq.1&tag_id=eq.1")
    for url in (
        "book_tags?book_id=eq.1", "novels?id=eq.1", "books?id=not.eq.1", "books?id=gt.1",
        "books?id=eq(any).{1}", "books?or=(id.eq.1,id.eq.2)", "books?id=eq.1&limit=0", "plain",
    ):  # fmt: skip
        assert is_limited(url), url


async def test_requests_that_differ_in_values_share_a_plan(database: PlannerDatabase) -> None:
    one = database.compile("read", "books?id=eq.1&offset=3")
    assert one is database.compile("read", "books?id=eq.2&offset=4")
    assert one is not database.compile("read", "books?id=gt.1&offset=3")


async def test_requests_of_great_length_are_not_kept(database: PlannerDatabase) -> None:
    short, long = "books?select=id", "books?select=" + ",".join(["id"] * 2000)
    assert database.compile("read", short) is database.compile("read", short)
    assert database.compile("read", long) is not database.compile("read", long)


async def test_long_aliases_are_cut_as_postgres_cuts_names(database: PlannerDatabase) -> None:
    alias = "é" * 40
    assert await database.read(f"books?select={alias}:id&id=eq.1") == [{"é" * 31: 1}]


async def test_a_value_is_rejected_by_the_type_of_its_column(database: PlannerDatabase) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        await database.read("books?id=eq.x")
