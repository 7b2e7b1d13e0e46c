"""Reading and writing tables as text, on SQLite and on Postgres."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from amphibase.database.url import parse_url
from amphibase.errors import MoveFailed
from amphibase.move.catalog import CatalogTable, DatabaseCatalog, TableName
from amphibase.move.endpoints import Role, SupabaseEndpoint
from amphibase.move.journal import Journal
from amphibase.move.project import client_of
from amphibase.move.tables import base, chunks, sqlite_rows
from amphibase.move.tables.base import Chunk, Key, Referrer, Row, Selection, TableWriter
from amphibase.move.tables.data_api import DataApiTables
from amphibase.move.tables.postgres import PostgresTables
from amphibase.move.tables.sqlite import SqliteTables
from amphibase.testing.supabase import LocalSupabase

DDL = """
    CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL UNIQUE);
    CREATE TABLE posts (
        author INTEGER REFERENCES people (id), number INTEGER, title VARCHAR(20),
        PRIMARY KEY (author, number)
    );
    CREATE TABLE notes (text VARCHAR(20));
"""


DROP = "DROP TABLE IF EXISTS posts, people, notes CASCADE;"


@pytest.fixture
async def tables(database_url: str) -> AsyncIterator[TableWriter]:
    """The tables of an empty database, of SQLite and Postgres in turn."""
    run(database_url, DDL)
    url = parse_url(database_url)
    is_sqlite = database_url.startswith("sqlite")
    async with SqliteTables(url, "p") if is_sqlite else PostgresTables(url, "p") as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgres", "api"])
async def keyed_tables(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[TableWriter]:
    """As `tables`, and those of a project by its Data API."""
    if request.param != "api":
        url: str = request.getfixturevalue(f"{request.param}_url")
        run(url, DDL)
        is_sqlite = request.param == "sqlite"
        parsed = parse_url(url)
        async with (
            SqliteTables(parsed, "p") if is_sqlite else PostgresTables(parsed, "p") as opened
        ):
            yield opened
        return
    project: LocalSupabase = request.getfixturevalue("supabase")
    endpoint = SupabaseEndpoint(Role.TARGET, project.url, SecretStr(project.service_role_key))
    with Journal(tmp_path / "plan.toml") as journal:
        async with DataApiTables(client_of(endpoint), journal) as api:
            await expose(api, project.db_url, DROP + DDL, "people", "posts", "notes")
            yield api
    run(project.db_url, DROP)


async def expose(api: TableWriter, url: str, script: str, *names: str) -> None:
    """Create tables in a project, and wait until its Data API has read what it has now."""
    marker = f"marker_{uuid4().hex}"
    run(
        url,
        f"{script}; CREATE TABLE {marker} (id int PRIMARY KEY); "
        f"GRANT ALL ON {', '.join([*names, marker])} TO service_role; "
        "NOTIFY pgrst, 'reload schema'",
    )
    while marker not in {table.name.name for table in (await api.catalog()).tables}:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    run(url, f"DROP TABLE {marker}")


def run(url: str, script: str) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            database.executescript(script)
        return
    with psycopg.connect(url) as connection:
        connection.execute(script.encode())


async def select(tables: TableWriter, name: str, *columns: str, key: Key = ()) -> Selection:
    table = find(await tables.catalog(), name)
    return Selection(table, columns, key, ())


def find(catalog: DatabaseCatalog, name: str) -> CatalogTable:
    return next(table for table in catalog.tables if table.name.name == name)


async def rows_of(tables: TableWriter, selection: Selection, after: Key | None = None) -> list[Row]:
    return [row async for chunk in tables.read(selection, after) for row in chunk.rows]


def opened_tables(request: pytest.FixtureRequest) -> TableWriter:
    name = "keyed_tables" if "keyed_tables" in request.fixturenames else "tables"
    tables: TableWriter = request.getfixturevalue(name)
    return tables


@pytest.fixture
async def people(request: pytest.FixtureRequest) -> Selection:
    tables = opened_tables(request)
    return await select(tables, "people", "id", "name", key=("id",))


@pytest.fixture
async def posts(request: pytest.FixtureRequest) -> Selection:
    tables = opened_tables(request)
    return await select(tables, "posts", "author", "number", "title", key=("author", "number"))


async def test_chunks_follow_one_another_by_composite_keys_and_a_read_goes_on_after_one(
    tables: TableWriter, people: Selection, posts: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (chunks, sqlite_rows):
        monkeypatch.setattr(module, "CHUNK_BYTES", 10)
    await tables.insert(people, Chunk([("1", "Ann"), ("2", "Bob")], ("2",)))
    rows = [(author, str(number), "title") for author in "12" for number in (2, 9, 10)]
    await tables.insert(posts, Chunk(rows, ("2", "10")))
    read = [chunk async for chunk in tables.read(posts)]
    assert [row for chunk in read for row in chunk.rows] == rows
    assert len(read) == 3
    assert await rows_of(tables, posts, read[0].last) == rows[2:]


async def test_a_chunk_is_written_with_its_checkpoint_and_rows_that_are_there_stay(
    keyed_tables: TableWriter, people: Selection
) -> None:
    assert await keyed_tables.checkpoint(people.table.name) is None
    assert await keyed_tables.insert(people, Chunk([("1", "Ann")], ("1",))) == []
    assert await keyed_tables.insert(people, Chunk([("1", "Other"), ("2", "Bob")], ("2",))) == []
    assert await keyed_tables.checkpoint(people.table.name) == ("2",)
    assert await rows_of(keyed_tables, people) == [("1", "Ann"), ("2", "Bob")]


async def test_rows_that_are_rejected_are_named_and_the_others_written(
    keyed_tables: TableWriter, people: Selection
) -> None:
    rows: list[Row] = [(str(number), f"name {number}") for number in range(1, 9)]
    rows[2], rows[6] = ("3", None), ("7", "name 1")
    rejected = await keyed_tables.insert(people, Chunk(rows, ("8",)))
    assert [each.row for each in rejected] == [("3", None), ("7", "name 1")]
    assert re.search("null|name is missing", rejected[0].reason, re.IGNORECASE)
    assert re.search("unique|name exists already", rejected[1].reason, re.IGNORECASE)
    assert [each.is_conflict for each in rejected] == [False, True]
    assert len(await rows_of(keyed_tables, people)) == 6
    assert await keyed_tables.checkpoint(people.table.name) == ("8",)


async def test_a_missing_row_that_is_referred_to_rejects_a_row(
    keyed_tables: TableWriter, posts: Selection
) -> None:
    (rejected,) = await keyed_tables.insert(posts, Chunk([("5", "1", "t")], ("5", "1")))
    assert re.search("foreign key|refers to is missing", rejected.reason, re.IGNORECASE)


async def test_upserted_rows_take_the_place_of_those_with_their_keys(
    keyed_tables: TableWriter, people: Selection
) -> None:
    await keyed_tables.insert(people, Chunk([("1", "Ann"), ("2", "Bob")], ("2",)))
    rejected = await keyed_tables.upsert(people, [("2", "Bert"), ("3", "Cid"), ("1", "Cid")])
    assert [each.row for each in rejected] == [("1", "Cid")]
    assert await rows_of(keyed_tables, people) == [("1", "Ann"), ("2", "Bert"), ("3", "Cid")]


async def test_rows_are_read_and_deleted_by_their_keys_but_not_those_referred_to(
    keyed_tables: TableWriter, people: Selection, posts: Selection
) -> None:
    await keyed_tables.insert(people, Chunk([("1", "Ann"), ("2", "Bob"), ("3", "Cid")], ("3",)))
    await keyed_tables.insert(posts, Chunk([("2", "1", None)], ("2", "1")))
    by_author = Referrer(posts.table.name, ("author",), ("id",))
    assert await keyed_tables.delete(people, [("1",), ("2",), ("9",)], [by_author]) == 1
    assert await keyed_tables.rows(people, [("1",), ("2",)]) == {("2",): ("2", "Bob")}
    assert await keyed_tables.rows(posts, [("2", "1"), ("2", "2")]) == {
        ("2", "1"): ("2", "1", None)
    }


async def test_a_table_without_a_key_is_read_and_cleared_as_a_whole(tables: TableWriter) -> None:
    notes = await select(tables, "notes", "text")
    await tables.insert(notes, Chunk([("a",), ("a",), (None,)], ()))
    assert sorted(await rows_of(tables, notes), key=str) == [("a",), ("a",), (None,)]
    assert await tables.checkpoint(notes.table.name) == ()
    await tables.clear(notes.table)
    assert await tables.count(notes.table) == 0
    assert await tables.checkpoint(notes.table.name) is None


async def test_nothing_of_a_move_stays_when_its_checkpoints_are_forgotten(
    tables: TableWriter, people: Selection, database_url: str
) -> None:
    before = await tables.catalog()
    await tables.insert(people, Chunk([("1", "Ann")], ("1",)))
    await tables.forget_checkpoints()
    await tables.forget_checkpoints()
    assert await tables.checkpoint(people.table.name) is None
    if database_url.startswith("sqlite"):
        assert len((await tables.catalog()).tables) == len(before.tables)
        return
    with psycopg.connect(database_url) as connection:
        schema = connection.execute("SELECT to_regnamespace('amphibase_move')").fetchone()
    assert schema == (None,)


async def test_the_catalog_of_sqlite_has_keys_references_and_what_is_no_table(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('catalog')}/a.db"
    run(
        url,
        DDL
        + """
        CREATE TABLE tags (
            name TEXT NOT NULL, size INTEGER AS (length(name)), big INTEGER AS (size * 2) STORED,
            post_author INTEGER, post_number INTEGER, UNIQUE (name),
            FOREIGN KEY (post_author, post_number) REFERENCES posts
        );
        CREATE TRIGGER log AFTER INSERT ON tags BEGIN SELECT 1; END;
        CREATE VIEW all_tags AS SELECT * FROM tags;
        CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('a1');
        """,
    )
    async with SqliteTables(parse_url(url), "p") as tables:
        catalog = await tables.catalog()
    tags = find(catalog, "tags")
    assert (tags.key, tags.triggers) == (("name",), ("log",))
    assert [column.generated for column in tags.columns][:3] == ["no", "virtual", "stored"]
    (foreign_key,) = tags.foreign_keys
    assert foreign_key.target == TableName(None, "posts")
    assert foreign_key.target_columns == ("author", "number")
    assert find(catalog, "notes").key == ()
    assert find(catalog, "people").column("id").identity == "by default"
    assert catalog.alembic_heads == frozenset({"a1"})
    assert catalog.others == (("view", "all_tags"),)


async def test_the_letter_case_of_names_means_nothing_to_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    run(
        url,
        """
        CREATE TABLE Users (Id INTEGER PRIMARY KEY, boss INTEGER REFERENCES USERS (ID));
        CREATE TABLE notes (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES users);
        CREATE TRIGGER log AFTER INSERT ON USERS BEGIN SELECT 1; END;
        """,
    )
    async with SqliteTables(parse_url(url), "p") as tables:
        catalog = await tables.catalog()
    keys = [key for name in ("Users", "notes") for key in find(catalog, name).foreign_keys]
    assert [(key.target.name, key.target_columns) for key in keys] == [("Users", ("Id",))] * 2
    assert find(catalog, "Users").triggers == ("log",)


async def test_the_catalog_of_postgres_has_types_keys_and_what_is_no_table(
    postgres_url: str,
) -> None:
    run(
        postgres_url,
        """
        CREATE TYPE mood AS ENUM ('sad', 'happy');
        CREATE DOMAIN price AS numeric(8, 2);
        CREATE DOMAIN fair_price AS price CHECK (VALUE > 0);
        CREATE TABLE items (
            id uuid PRIMARY KEY, price fair_price, mood mood,
            counted int GENERATED ALWAYS AS IDENTITY, numbered serial,
            twice int GENERATED ALWAYS AS (1 + 1) STORED
        );
        CREATE TABLE parts (
            item uuid REFERENCES items DEFERRABLE, place int NOT NULL, code text NOT NULL UNIQUE
        ) PARTITION BY RANGE (place);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (9);
        CREATE VIEW cheap AS SELECT * FROM items;
        CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER logged AFTER INSERT ON items EXECUTE FUNCTION log();
        """.replace("code text NOT NULL UNIQUE", "code text NOT NULL, UNIQUE (code, place)"),
    )
    async with PostgresTables(parse_url(postgres_url), "p") as tables:
        catalog = await tables.catalog()
    items, parts = find(catalog, "items"), find(catalog, "parts")
    assert len(catalog.tables) == 2  # partitions are no tables of their own
    price = items.column("price")
    assert (price.type, price.base_type) == ("public.fair_price", "numeric(8,2)")
    assert items.column("mood").is_enum
    assert (items.column("counted").identity, items.column("numbered").identity) == (
        "always",
        "sequence",
    )
    assert items.column("numbered").sequence == TableName("public", "items_numbered_seq")
    assert items.column("twice").generated == "stored"
    assert (items.key, parts.key, parts.partitions) == (("id",), ("code", "place"), True)
    assert parts.foreign_keys[0].target == items.name
    assert items.triggers == ("logged",)
    assert catalog.others == (("function", "public.log()"), ("view", "public.cheap"))


async def test_rows_that_policies_hide_are_an_error_and_not_left_out(postgres_url: str) -> None:
    run(
        postgres_url,
        DDL
        + """
        CREATE ROLE reads_only LOGIN PASSWORD 'p'; GRANT SELECT ON people TO reads_only;
        ALTER TABLE people ENABLE ROW LEVEL SECURITY;
        """,
    )
    url = parse_url(postgres_url).set(username="reads_only", password="p")
    async with PostgresTables(url, "p") as tables:
        people = await select(tables, "people", "id", "name", key=("id",))
        assert people.table.read_policies
        with pytest.raises(Exception, match=r"may|let|polic"):
            await rows_of(tables, people)
    run(postgres_url, "DROP OWNED BY reads_only; DROP ROLE reads_only")


async def test_texts_that_no_postgres_takes_are_named_by_column(postgres_url: str) -> None:
    run(postgres_url, DDL)
    async with PostgresTables(parse_url(postgres_url), "p") as tables:
        people = await select(tables, "people", "id", "name", key=("id",))
        rejected = await tables.insert(
            people, Chunk([("1", "a\0"), ("2", "b\udcff"), ("3", "c")], ("3",))
        )
        assert [(each.row[0], each.reason.split(" ")[:3]) for each in rejected] == [
            ("1", ["name", "holds", "a"]),
            ("2", ["name", "is", "not"]),
        ]
        assert await rows_of(tables, people) == [("3", "c")]


async def test_bytes_that_are_not_utf_8_are_read_and_rows_with_null_keys_stop_the_move(
    sqlite_url: str,
) -> None:
    run(
        sqlite_url,
        """
        CREATE TABLE odd (id VARCHAR(5) PRIMARY KEY, name TEXT);
        INSERT INTO odd VALUES ('a', 'first'), ('b', CAST(x'61ff62' AS TEXT)), ('c', 'last');
        """,
    )
    async with SqliteTables(parse_url(sqlite_url), "p") as tables:
        odd = await select(tables, "odd", "id", "name", key=("id",))
        assert await rows_of(tables, odd) == [("a", "first"), ("b", "a\udcffb"), ("c", "last")]
        run(sqlite_url, "INSERT INTO odd VALUES (NULL, 'lost')")
        with pytest.raises(MoveFailed, match=r"1 rows of odd have NULL in their key \(id\)"):
            await rows_of(tables, odd)


async def test_a_reader_that_is_left_early_lets_its_connection_go(
    tables: TableWriter, people: Selection, database_url: str
) -> None:
    rows = [(str(number), f"name {number}") for number in range(base.CHUNK_ROWS * 3)]
    await tables.insert(people, Chunk(rows, rows[-1][:1]))
    async with aclosing(tables.read(people)) as reading:
        async for _ in reading:
            break
    run(database_url, "DROP TABLE posts; DROP TABLE people")
