"""The outbox that triggers write where there is no logical replication."""

import asyncio
import re
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import pytest
from tests.gateway.conftest import PASSWORD
from tests.gateway.realtime.conftest import expect_nothing_left

from amphibase.gateway import process
from amphibase.gateway.project import role_urls
from amphibase.gateway.realtime.context import PUBLICATIONS
from amphibase.replication import outbox, outbox_stream
from amphibase.replication.change import RowChange
from amphibase.replication.change_source import ChangeSource, StreamFailed
from amphibase.replication.outbox_stream import OutboxStream
from amphibase.replication.replication_stream import ReplicationStream
from amphibase.replication.row_text import read_row

ITEMS = (
    "CREATE TABLE shop.items (id int PRIMARY KEY, n int)",
    "ALTER PUBLICATION supabase_realtime ADD TABLE shop.items",
)
LAST = (
    "CREATE TABLE IF NOT EXISTS shop.last (id int PRIMARY KEY)",
    "ALTER PUBLICATION supabase_realtime ADD TABLE shop.last",
)
TRIGGERS = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%realtime_outbox'"

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


@pytest.fixture(autouse=True)
async def _leaves_nothing(database: str) -> AsyncIterator[None]:
    yield
    await expect_nothing_left(database)


async def run(url: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


async def query(url: str, statement: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return [row[0] for row in await (await connection.execute(statement.encode())).fetchall()]


@asynccontextmanager
async def opened(database: str) -> AsyncIterator[OutboxStream]:
    stream = await OutboxStream.open(realtime_url(database), PUBLICATIONS)
    try:
        yield stream
    finally:
        await stream.close()


def realtime_url(database: str) -> str:
    return role_urls(database, PASSWORD).realtime_admin


async def kill_reader(database: str) -> None:
    """Let a reader end without a word, some time ago."""
    stream = await OutboxStream.open(realtime_url(database), PUBLICATIONS)
    await stream._connection.close()
    await run(
        database,
        "UPDATE realtime.outbox_readers SET expires_at = now()",
        "SELECT setval('realtime.outbox_lease', 0)",
    )


async def check(stream: OutboxStream, database: str) -> None:
    """What the feed does every few seconds."""
    async with await outbox.open_connection(realtime_url(database)) as connection:
        await stream.check(connection)


async def read(stream: ChangeSource, table: str = "last") -> list[RowChange]:
    """The changes as far as the one of a table that comes last."""
    changes: list[RowChange] = []
    async with asyncio.timeout(10):
        while not changes or changes[-1].relation.table != table:
            changes += await stream.read()
    return changes[:-1]


async def ids(stream: ChangeSource, count: int) -> list[int]:
    """The ids of the next rows."""
    changes: list[RowChange] = []
    async with asyncio.timeout(10):
        while len(changes) < count:
            changes += await stream.read()
    return [int(str((each.new or each.old or {})["id"])) for each in changes]


def plain(changes: Sequence[RowChange]) -> list[Any]:
    """What is compared of changes: a large value that has not changed is sent by triggers alone."""
    written = []
    for change in changes:
        relation = change.relation
        name = relation.schema, relation.table, {*relation.columns}, relation.identity
        written.append([*name, relation.is_full, change.operation, change.new, change.old])
    return written


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


async def test_a_transaction_that_commits_late_is_read_when_it_has(database: str) -> None:
    await run(database, *ITEMS)
    async with opened(database) as stream, AsyncExitStack() as stack:
        late, prepared = [
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(database))
            for _ in range(2)
        ]
        await late.execute("INSERT INTO shop.items VALUES (1)")
        await prepared.execute("INSERT INTO shop.items VALUES (2)")
        await run(database, "INSERT INTO shop.items VALUES (3)")
        assert await ids(stream, 1) == [3]
        await check(stream, database)  # deletes what was read
        await late.commit()
        assert await ids(stream, 1) == [1]
        await run(database, "INSERT INTO shop.items VALUES (4)")
        await prepared.commit()
        assert sorted(await ids(stream, 2)) == [2, 4]
        await run(database, "INSERT INTO shop.items VALUES (5)")
        assert await ids(stream, 1) == [5]
        await check(stream, database)
        assert await query(database, "SELECT count(*) FROM realtime.outbox") == [1]


async def test_a_large_transaction_is_read_in_parts_and_in_order(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_stream, "MAX_CHANGES", 7)
    await run(database, *ITEMS)
    async with opened(database) as stream:
        await run(database, "INSERT INTO shop.items SELECT generate_series(1, 100)")
        parts = [await stream.read() for _ in range(15)]
        assert [len(part) for part in parts] == [7] * 14 + [2]
        assert [(each.new or {})["id"] for part in parts for each in part] == [
            str(number) for number in range(1, 101)
        ]


async def test_triggers_are_there_while_a_gateway_reads(database: str) -> None:
    await run(database, *ITEMS)
    assert await query(database, TRIGGERS) == []
    async with opened(database) as last:
        async with opened(database) as first:
            await run(database, "INSERT INTO shop.items VALUES (1)")
            assert await ids(first, 1) == [1]
            await check(first, database)
        assert "shop.items" in await query(database, TRIGGERS)
        assert await ids(last, 1) == [1]
    assert await query(database, TRIGGERS) == []
    assert await query(database, "SELECT count(*) FROM realtime.outbox") == [0]


async def test_triggers_that_a_killed_gateway_has_left_write_nothing_and_are_removed(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "amphibase.gateway")
    await run(database, *ITEMS)
    await kill_reader(database)
    await run(database, "INSERT INTO shop.items VALUES (1)")
    assert await query(database, "SELECT count(*) FROM realtime.outbox") == [0]
    await process._remove_unused_triggers(realtime_url(database))  # at its start
    assert await query(database, TRIGGERS) == []
    (message,) = caplog.messages
    assert message.startswith("Removed the triggers of Realtime on ")
    assert "shop.items" in message


async def test_a_transaction_that_began_while_nobody_read_delays_the_next_reader(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its changes were not written, although the trigger was there."""
    monkeypatch.setattr(outbox, "OPEN_SECONDS", 0.0)
    monkeypatch.setattr(outbox, "CLOSE_SECONDS", 0.0)
    await run(database, *ITEMS)
    await kill_reader(database)
    async with await psycopg.AsyncConnection.connect(database) as writer:
        await writer.execute("INSERT INTO shop.items VALUES (1)")
        with pytest.raises(StreamFailed, match="items is locked by a transaction"):
            await OutboxStream.open(realtime_url(database), PUBLICATIONS)
        await writer.commit()
        await writer.execute("SET default_transaction_isolation = 'repeatable read'")
        await writer.commit()
        await writer.execute("SELECT")  # its snapshot does not see the reader
        async with opened(database) as stream:
            await writer.execute("INSERT INTO shop.items VALUES (2)")
            await writer.commit()
            assert await ids(stream, 1) == [2]


async def test_a_reader_whose_lease_has_expired_says_so(database: str) -> None:
    await run(database, *ITEMS)
    async with opened(database) as stream:
        await run(database, "UPDATE realtime.outbox_readers SET expires_at = now()")
        with pytest.raises(StreamFailed, match="changes may be missing"):
            await check(stream, database)
        await run(database, "INSERT INTO shop.items VALUES (1)")
        with pytest.raises(StreamFailed, match="changes may be missing"):
            await stream.read()


async def test_whoever_writes_waits_for_a_trigger_no_longer_than_its_lock_may(
    database: str,
) -> None:
    await run(database, *ITEMS)
    async with await psycopg.AsyncConnection.connect(database) as writer:
        await writer.execute("INSERT INTO shop.items VALUES (1)")
        opening = asyncio.create_task(OutboxStream.open(realtime_url(database), PUBLICATIONS))
        for number in range(2, 10):  # behind the trigger, which waits for the first
            await run(
                database, f"SET lock_timeout = '1s'; INSERT INTO shop.items VALUES ({number})"
            )
            await asyncio.sleep(0.2)
        assert not opening.done()
        await writer.commit()
        stream = await opening
        await run(database, "INSERT INTO shop.items VALUES (10)")
        assert await ids(stream, 1) == [10]
        await stream.close()


async def test_a_table_that_cannot_have_a_trigger_is_named(database: str) -> None:
    await run(
        database,
        *ITEMS,
        # As the owner of what a project consists of who is no superuser any more.
        "ALTER FUNCTION realtime.update_outbox_trigger OWNER TO supabase_realtime_admin",
    )
    try:
        with pytest.raises(StreamFailed) as failed:
            await OutboxStream.open(realtime_url(database), PUBLICATIONS)
    finally:
        await run(
            database,
            "ALTER FUNCTION realtime.update_outbox_trigger OWNER TO CURRENT_USER",
            "GRANT EXECUTE ON FUNCTION realtime.update_outbox_trigger TO supabase_realtime_admin",
        )
    tables = r"(realtime.messages_default|shop.items)"
    assert re.match(
        f"the trigger of {tables} cannot be altered: permission denied", str(failed.value)
    )


FORBIDDEN = (
    "SELECT FROM realtime.outbox",
    "INSERT INTO realtime.outbox (relation, operation) VALUES ('{}', 'INSERT')",
    "SELECT FROM realtime.outbox_readers",
    "DELETE FROM realtime.outbox_readers",
    "SELECT last_value FROM realtime.outbox_lease",
    "SELECT setval('realtime.outbox_lease', 9999999999)",
    "SELECT nextval('realtime.outbox_lease')",
    "SELECT realtime.outbox_is_read()",
    "SELECT FROM realtime.outbox_triggers(NULL)",
    "SELECT realtime.update_outbox_trigger('shop.items')",
    "CREATE TRIGGER forged AFTER INSERT ON own FOR EACH ROW"
    " EXECUTE FUNCTION realtime.write_to_outbox('{}')",
)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
async def test_a_role_of_the_api_can_neither_read_the_outbox_nor_write_to_it(
    database: str, role: str
) -> None:
    await run(database, *ITEMS)
    connecting = psycopg.AsyncConnection.connect(database, autocommit=True)
    async with await connecting as connection:
        await connection.execute(f"SET ROLE {role}".encode())
        await connection.execute("CREATE TEMPORARY TABLE own (id int)")
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(statement.encode())


async def test_no_object_of_a_writer_takes_the_place_of_what_the_trigger_calls(
    database: str,
) -> None:
    """It runs as the owner of the outbox, and finds nothing by the writer's search path."""
    await run(database, *ITEMS, "CREATE SCHEMA trap", "GRANT ALL ON SCHEMA trap TO PUBLIC")
    trapped = (
        "CREATE FUNCTION trap.{}({}) RETURNS {} LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'as %', current_user; END $$"
    )
    try:
        async with opened(database) as stream:
            await run(
                database,
                "GRANT INSERT ON shop.items TO anon; SET ROLE anon;"
                + trapped.format("pg_sequence_last_value", "regclass", "bigint") + ";"
                + trapped.format("clock_timestamp", "", "timestamptz") + ";"
                + trapped.format("less", "bigint, numeric", "bool") + ";"
                "CREATE OPERATOR trap.<= (function = trap.less, leftarg = bigint,"
                " rightarg = numeric);"
                "CREATE TEMPORARY TABLE outbox (id int); CREATE DOMAIN pg_temp.text AS int;"
                "SET search_path = trap, pg_temp, pg_catalog; INSERT INTO shop.items VALUES (1)",
            )  # fmt: skip
            assert await ids(stream, 1) == [1]
    finally:
        await run(database, "DROP SCHEMA trap CASCADE")


async def test_the_trigger_calls_no_cast_of_the_owner_of_a_table(database: str) -> None:
    """It would run as the owner of the outbox, which may become every role of the API."""
    cast = (
        "CREATE FUNCTION shop.as_text(shop.items) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'as %', current_user; END $$",
        "CREATE CAST (shop.items AS text) WITH FUNCTION shop.as_text AS IMPLICIT",
    )
    await run(database, *ITEMS, *cast)
    async with opened(database) as stream:
        await run(
            database,
            "INSERT INTO shop.items VALUES (1); UPDATE shop.items SET n = 2;"
            " DELETE FROM shop.items",
        )
        assert await ids(stream, 3) == [1, 1, 1]


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


async def test_the_lease_is_renewed_while_triggers_are_created(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is written between its end and the reader's first renewal would be lost."""
    monkeypatch.setattr(outbox, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(
        outbox, "_RENEW", outbox._RENEW.replace("SELECT", "SELECT nextval('shop.renewals'),")
    )
    await run(
        database,
        *ITEMS,
        *LAST,
        "CREATE SEQUENCE shop.renewals",
        "GRANT USAGE ON SCHEMA shop TO supabase_realtime_admin; "
        "ALTER SEQUENCE shop.renewals OWNER TO supabase_realtime_admin",
    )
    async with opened(database):
        (triggers,) = await query(database, f"SELECT count(*) FROM ({TRIGGERS}) AS t")
        assert await query(database, "SELECT last_value FROM shop.renewals") == [1 + triggers]


async def test_creating_triggers_runs_no_event_trigger(database: str) -> None:
    """Neither the outbox's own nor the one that lets the Data API read its schema anew."""
    await run(database, *ITEMS)
    connecting = psycopg.AsyncConnection.connect(database, autocommit=True)
    async with await connecting as connection:
        await connection.execute("LISTEN pgrst")
        async with opened(database):
            assert "shop.items" in await query(database, TRIGGERS)
        assert [each async for each in connection.notifies(timeout=0)] == []
