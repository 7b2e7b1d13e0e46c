"""The outbox has what logical replication sends: the same changes, with the same values."""

import asyncio
import tracemalloc
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from tests.gateway.realtime.outbox import ITEMS, LAST, opened, realtime_url, run

from amphibase.gateway.realtime.context import PUBLICATIONS
from amphibase.replication.change import RowChange
from amphibase.replication.change_source import ChangeSource
from amphibase.replication.replication_stream import ReplicationStream
from amphibase.replication.row_text import read_row

pytestmark = pytest.mark.usefixtures("nothing_left")

PARTITIONS = (
    "CREATE TABLE shop.sales (id int PRIMARY KEY, a text, b text) PARTITION BY RANGE (id)",
    "CREATE TABLE shop.low (b text, gone int, id int NOT NULL PRIMARY KEY, a text)",
    "ALTER TABLE shop.low DROP gone",
    "ALTER TABLE shop.sales ATTACH PARTITION shop.low FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE shop.high PARTITION OF shop.sales FOR VALUES FROM (10) TO (20)",
    "ALTER PUBLICATION supabase_realtime ADD TABLE shop.sales",
)
SALES = (
    "INSERT INTO shop.sales VALUES (1, 'a', 'b'), (11, 'c', 'd')",
    "UPDATE shop.sales SET a = 'e'; UPDATE shop.sales SET id = 12 WHERE id = 1",
    "CREATE TABLE shop.top PARTITION OF shop.sales FOR VALUES FROM (20) TO (30)",
    "INSERT INTO shop.top VALUES (21, 'f', 'g'); DELETE FROM shop.sales",
)
CASES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "identities": (
        (
            "CREATE TABLE shop.a (id int PRIMARY KEY, n int, text text)",
            "CREATE TABLE shop.b (x int, k int NOT NULL UNIQUE, LIKE shop.a)",
            "CREATE TABLE shop.c (LIKE shop.a)",
            "ALTER TABLE shop.b REPLICA IDENTITY USING INDEX b_k_key",
            "ALTER TABLE shop.c REPLICA IDENTITY FULL",
            "CREATE TABLE shop.i (LIKE shop.a, PRIMARY KEY (id) INCLUDE (n))",
            "ALTER PUBLICATION supabase_realtime ADD TABLE shop.a, shop.b, shop.c, shop.i",
        ),
        (
            "INSERT INTO shop.a VALUES (1, 1, 'x'), (2, NULL, NULL); "
            "UPDATE shop.a SET n = 2; UPDATE shop.a SET id = 3 WHERE id = 1; DELETE FROM shop.a",
            "INSERT INTO shop.b VALUES (0, 1, 1, 1, 'x'); UPDATE shop.b SET n = 2; "
            "UPDATE shop.b SET k = 3, id = 4; DELETE FROM shop.b",
            "INSERT INTO shop.c VALUES (1, 1, 'x'); UPDATE shop.c SET n = 2; DELETE FROM shop.c",
            "INSERT INTO shop.a VALUES (5, 5, 'y') ON CONFLICT (id) DO UPDATE SET n = 6",
            "INSERT INTO shop.a VALUES (5, 5, 'y') ON CONFLICT (id) DO UPDATE SET n = 6",
            "BEGIN; INSERT INTO shop.a VALUES (6); SAVEPOINT s; INSERT INTO shop.a VALUES (7); "
            "ROLLBACK TO s; INSERT INTO shop.a VALUES (8); COMMIT",
            "BEGIN; INSERT INTO shop.a VALUES (9); ROLLBACK",
            "INSERT INTO shop.i VALUES (1, 1, 'x'); UPDATE shop.i SET n = 2; DELETE FROM shop.i",
            "TRUNCATE shop.a",
            "SET session_replication_role = replica; INSERT INTO shop.a VALUES (10)",
        ),
    ),
    "a publication's choice": (
        (
            "CREATE TABLE shop.f (id int PRIMARY KEY, n int, secret text)",
            "CREATE TABLE shop.d (id int PRIMARY KEY, n int, secret text)",
            "ALTER TABLE shop.f REPLICA IDENTITY FULL",
            "ALTER PUBLICATION supabase_realtime ADD TABLE shop.f WHERE (n > 10 AND secret <> 'x'),"
            " TABLE shop.d (id, n) WHERE (id < 10)",
            "CREATE TABLE shop.paths (id int PRIMARY KEY, path text)",
            r"ALTER PUBLICATION supabase_realtime ADD TABLE shop.paths WHERE (path <> 'c:\new')",
        ),
        (
            "INSERT INTO shop.f VALUES (1, 5, ''), (2, 20, 'a'), (3, NULL, 'a')",
            "UPDATE shop.f SET n = 15 WHERE id = 1; UPDATE shop.f SET n = n + 1",
            "UPDATE shop.f SET secret = 'x' WHERE id = 2; UPDATE shop.f SET n = 1 WHERE id = 1",
            "DELETE FROM shop.f",
            "INSERT INTO shop.d VALUES (1, 5, 's'), (11, 5, 's')",
            "UPDATE shop.d SET id = id + 9; UPDATE shop.d SET id = 2 WHERE id = 20",
            "DELETE FROM shop.d",
            "SET standard_conforming_strings = off",
            r"INSERT INTO shop.paths VALUES (1, E'c:\\new'), (2, E'c:\\old')",
        ),
    ),
    "partitions": (PARTITIONS, SALES),
    "partitions of a published root": (
        (*PARTITIONS, "ALTER PUBLICATION supabase_realtime SET (publish_via_partition_root)"),
        SALES,
    ),
    "what changes cause": (
        (
            "CREATE TABLE shop.parents (id int PRIMARY KEY, n int)",
            "CREATE TABLE shop.children (id int PRIMARY KEY, parent int REFERENCES shop.parents"
            " ON DELETE CASCADE ON UPDATE CASCADE)",
            "CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " UPDATE shop.parents SET n = 9 WHERE id = NEW.id; RETURN NULL; END $$",
            'CREATE TRIGGER "A first" AFTER INSERT ON shop.parents FOR EACH ROW'
            " EXECUTE FUNCTION shop.touch()",
            "ALTER PUBLICATION supabase_realtime ADD TABLE shop.parents, shop.children",
        ),
        (
            "INSERT INTO shop.parents VALUES (1, 1); INSERT INTO shop.children VALUES (1, 1)",
            "UPDATE shop.parents SET id = 2; DELETE FROM shop.parents",
        ),
    ),
    "tables that are altered": (
        (*ITEMS, "CREATE TABLE shop.late (id int PRIMARY KEY, n int)"),
        (
            "INSERT INTO shop.items VALUES (1, 1)",
            "ALTER TABLE shop.items ADD extra int DEFAULT 5, DROP n",
            "INSERT INTO shop.items VALUES (2); UPDATE shop.items SET extra = 6",
            "ALTER TABLE shop.items REPLICA IDENTITY FULL; DELETE FROM shop.items WHERE id = 1",
            "BEGIN; ALTER TABLE shop.items RENAME TO things; ALTER TABLE shop.things RENAME id TO"
            " number; INSERT INTO shop.things VALUES (3); COMMIT",
            "ALTER SCHEMA shop RENAME TO store; INSERT INTO store.things VALUES (4)",
            "ALTER SCHEMA store RENAME TO shop",
            "ALTER PUBLICATION supabase_realtime ADD TABLE shop.late;"
            " INSERT INTO shop.late VALUES (1, 1)",
            "ALTER PUBLICATION supabase_realtime DROP TABLE shop.late;"
            " INSERT INTO shop.late VALUES (2, 2)",
            "ALTER PUBLICATION supabase_realtime SET (publish = 'insert, delete')",
            "UPDATE shop.things SET extra = 0; DELETE FROM shop.things",
            "ALTER PUBLICATION supabase_realtime SET (publish = 'insert, update, delete')",
        ),
    ),
    "tables that are altered by way of something else": (
        (
            "CREATE TYPE shop.item AS (id int, n int)",
            "CREATE TABLE shop.typed OF shop.item (PRIMARY KEY (id))",
            "CREATE DOMAIN shop.code AS text",
            "CREATE TABLE shop.coded (code shop.code, id int PRIMARY KEY)",
            "CREATE TABLE shop.dated (id int PRIMARY KEY, day date)",
            "ALTER PUBLICATION supabase_realtime ADD TABLE shop.typed, shop.coded,"
            " TABLE shop.dated WHERE (day > '2026-02-01')",
        ),
        (
            "ALTER TYPE shop.item RENAME ATTRIBUTE n TO number CASCADE",
            "INSERT INTO shop.typed VALUES (1, 1)",
            "DROP DOMAIN shop.code CASCADE",
            "INSERT INTO shop.coded VALUES (1)",
            'ALTER TRIGGER "000_realtime_outbox" ON shop.coded RENAME TO other_realtime_outbox',
            "INSERT INTO shop.coded VALUES (2)",
            "SET datestyle = 'SQL, DMY'; CREATE TABLE shop.more (id int)",
            "INSERT INTO shop.dated VALUES (1, '2026-01-15'), (2, '2026-02-15')",
        ),
    ),
}

KINDS = (
    "CREATE TYPE shop.mood AS ENUM ('calm', 'wild, \"so\"')",
    "CREATE TYPE shop.pair AS (a int, b text)",
    "CREATE DOMAIN shop.code AS text",
    """CREATE TABLE shop.kinds (
        id int PRIMARY KEY, small int2, big bigint, price numeric, real float4, double float8,
        ok bool, text text, code shop.code, char char(5), name name, raw bytea, body json,
        bodyb jsonb, tags text[], deep int[][], mood shop.mood, moods shop.mood[], pair shop.pair,
        pairs shop.pair[], day date, at timestamptz, local timestamp, time time, timetz timetz,
        span interval, inet inet, cidr cidr, bits bit(4), varbits varbit, point point, box box,
        range int4range, spans tstzrange, multi nummultirange, search tsvector, query tsquery,
        uuid uuid, oid oid, "odd "" name, (x)" text, mac macaddr, jsonpath jsonpath
    )""",
    "ALTER PUBLICATION supabase_realtime ADD TABLE shop.kinds",
)
VALUES = r"""
INSERT INTO shop.kinds VALUES (
    %(id)s, -1, 9223372036854775807, 1.500, 1.1, 'NaN', true, %(text)s::text,
    %(text)s::text, 'ab', %(text)s::text, '\xdeadbeef', '{"a" : [1, "x"]}', '{"b": "\\ \" ,"}',
    array[%(text)s::text, NULL, ''],
    '{{1,2},{3,4}}', 'wild, "so"', '{calm,"wild, \"so\""}', row(1, %(text)s::text),
    array[row(1, 'a,"b"')::shop.pair], '2026-01-02', '2026-01-02 03:04:05.678901+02',
    '0044-03-15 BC', '03:04:05.5', '03:04:05+02', '1 year -2 days 03:04:05.6', '10.0.0.1/8',
    '10.0.0.0/8', '1010', '10101', '(1.5,2)', '(1,2),(3,4)', '[1,5)', '[2026-01-01,)',
    '{[1,2),[3,4)}', 'a fat cat', 'fat & cat', '0198c0de-0000-7000-8000-000000000001', 42,
    %(text)s::text, '08:00:2b:01:02:03', '$.a[*] ? (@ > 1)'
)
"""
TEXTS = (
    "",
    " ",
    "plain",
    'say "hi"',
    "back\\slash\\\\",
    "a,b",
    "(x)",
    "tab\tnew\nline",
    "äöü €",
    "''",
    "NULL",
)

SETTINGS = (
    "SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape';"
    " SET extra_float_digits = -5; SET timezone = 'Asia/Tokyo'; SET search_path = shop, pg_temp"
)


async def read(stream: ChangeSource) -> list[RowChange]:
    """The changes as far as the one of the table that comes last."""
    changes: list[RowChange] = []
    async with asyncio.timeout(60):
        while not changes or changes[-1].relation.table != "last":
            changes += await stream.read()
    return changes[:-1]


def plain(changes: Sequence[RowChange]) -> list[Any]:
    """What is compared of changes: all but their times and the order of columns."""
    written = []
    for change in changes:
        relation = change.relation
        name = relation.schema, relation.table, {*relation.columns}, relation.identity
        row = change.operation, change.xid, change.new, change.old
        written.append([*name, relation.is_full, *row])
    return written


@pytest.mark.parametrize("case", CASES)
async def test_the_outbox_has_what_logical_replication_sends(database: str, case: str) -> None:
    tables, statements = CASES[case]
    await run(database, *tables, *LAST)
    replication = await ReplicationStream.open(realtime_url(database), PUBLICATIONS, "test")
    try:
        async with opened(database) as stream:
            await run(database, *statements, "INSERT INTO shop.last VALUES (1)")
            expected = await read(replication)
            assert plain(await read(stream)) == plain(expected)
            assert expected
    finally:
        await replication.close()
        await run(
            database, "ALTER PUBLICATION supabase_realtime SET (publish = 'insert, update, delete')"
        )


async def test_values_are_written_as_logical_replication_writes_them(database: str) -> None:
    await run(database, *KINDS, *LAST)
    replication = await ReplicationStream.open(realtime_url(database), PUBLICATIONS, "test")
    try:
        async with opened(database) as stream:
            connecting = psycopg.AsyncConnection.connect(database, autocommit=True)
            async with await connecting as connection:
                await connection.execute(SETTINGS.encode())
                for number, text in enumerate(TEXTS):
                    await connection.execute(VALUES.encode(), {"id": number, "text": text})
                await connection.execute("INSERT INTO shop.kinds (id) VALUES (-1)")
                await connection.execute("INSERT INTO shop.last VALUES (1)")
            expected = [change.new for change in await read(replication)]
            assert [change.new for change in await read(stream)] == expected
            assert len(expected) == len(TEXTS) + 1
    finally:
        await replication.close()


@pytest.mark.parametrize("text", ["a", "a, ", 'a"', "\\"])
def test_a_large_value_takes_memory_in_proportion(text: str) -> None:
    value = text * 250_000
    written = value.replace("\\", "\\\\").replace('"', '""')
    tracemalloc.start()
    try:
        values = read_row(f'(1,"{written}",)')
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert values == ["1", value, None]
    assert peak < 8 * len(written)
