"""Full text search in SQL: its index, and its words on SQLite beside those of Postgres."""

import random

import psycopg
from sqlalchemy import MetaData, Table, Text, create_engine, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CheckConstraint, Column, CreateIndex, CreateTable, UniqueConstraint

from amphibase.database.sqlite_search import matches_query
from amphibase.database.url import parse_url, to_conninfo
from amphibase.private_names.sqlalchemy import copy_table
from amphibase.search import matches, search_index

PARTS = ("a", "b", "c", "A", "or", "OR", "-", "-b", '"', '"a b"', '-"b c"', "&", "é")


def notes(*columns: str) -> Table:
    return Table(
        "notes",
        MetaData(),
        Column("title", Text()),
        Column("Body", Text()),
        search_index("ix_notes_search", *columns, language="english"),
    )


def test_postgres_searches_by_the_index(postgres_url: str) -> None:
    for columns in (("title",), ("title", "Body")):
        table = notes(*columns)
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        (index,) = table.indexes
        searched = matches(*(table.c[name] for name in columns), query="b", language="english")
        query = select(table.c.title).where(searched).compile(dialect=dialect)
        with psycopg.connect(to_conninfo(parse_url(postgres_url))) as connection:
            connection.execute(str(CreateTable(table).compile(dialect=dialect)).encode())
            connection.execute(str(CreateIndex(index).compile(dialect=dialect)).encode())
            connection.execute("SET enable_seqscan TO off")
            plan = connection.execute(f"EXPLAIN {query}".encode(), query.params).fetchall()
            connection.rollback()
        assert "ix_notes_search" in str(plan), (columns, plan)


def test_sqlite_has_no_search_index() -> None:
    engine = create_engine("sqlite://")
    table = notes("title", "Body")
    copied = copy_table(table, MetaData())
    with engine.begin() as connection:
        for each in (table, copied):
            each.create(connection)
            assert inspect(connection).get_indexes("notes") == []
            each.drop(connection)


def test_a_copy_of_a_table_has_its_conditional_constraints_where_it_has() -> None:
    table = notes("title")
    table.append_constraint(CheckConstraint("title ~ '^a'").ddl_if(dialect="postgresql"))
    table.append_constraint(CheckConstraint("length(title) < 9"))
    table.append_constraint(UniqueConstraint("Body").ddl_if(dialect="sqlite"))
    copied = copy_table(table, MetaData())
    for dialect in (postgresql.dialect(), sqlite.dialect()):  # type: ignore[no-untyped-call]
        statement = str(CreateTable(copied).compile(dialect=dialect))
        assert "length(title) < 9" in statement
        assert ("title ~" in statement) is (dialect.name == "postgresql")
        assert ("UNIQUE" in statement) is (dialect.name == "sqlite")


def test_any_query_finds_the_same_on_sqlite_as_on_postgres(postgres_url: str) -> None:
    """For words of letters and digits, by the configuration `simple`."""
    chosen = random.Random(7)
    cases = [
        (
            " ".join(chosen.choices(PARTS, k=chosen.randint(0, 6))),
            " ".join(chosen.choices("abcdé", k=chosen.randint(0, 5))),
        )
        for _ in range(3000)
    ]
    with psycopg.connect(to_conninfo(parse_url(postgres_url))) as connection:
        connection.execute("SET client_min_messages TO error")
        rows = connection.execute(
            "SELECT to_tsvector('simple', t) @@ websearch_to_tsquery('simple', q) "
            "FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS cases(q, t, n) ORDER BY n",
            [[query for query, _ in cases], [text for _, text in cases]],
        ).fetchall()
    found = [(case, matches_query(*case)) for case in cases]
    differing = [each for each, (row,) in zip(found, rows, strict=True) if each[1] != row]
    assert differing == []
