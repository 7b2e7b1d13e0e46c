"""The values of changes: their types and columns, and those that are large."""

from tests.gateway.realtime.api import Api
from tests.gateway.realtime.changes import ITEMS, change, subscribe
from tests.gateway.realtime.conftest import TRIGGERS, Connect, on_both_sources


@on_both_sources
async def test_values_are_json_of_their_types(api: Api, connect: Connect) -> None:
    await api.run(
        "CREATE TYPE shop.mood AS ENUM ('calm')",
        "CREATE TABLE shop.kinds (id bigint PRIMARY KEY, price numeric, nan float8, ok bool,"
        " body jsonb, tags text[], moods shop.mood[], at timestamptz, local timestamp, raw bytea,"
        " code char(3), day date)",
        "GRANT SELECT ON shop.kinds TO anon",
        "ALTER PUBLICATION supabase_realtime ADD TABLE shop.kinds",
    )
    wire = await connect(api)
    await subscribe(wire, {"event": "*", "schema": "shop", "table": "kinds"})
    await api.run(
        "SET timezone = 'Asia/Tokyo'",
        "INSERT INTO shop.kinds VALUES (9223372036854775807, 1.50, 'NaN', true, '{\"a\": [1]}',"
        " '{a,NULL}', '{calm}', '2026-01-02T03:04:05.5+02', '2026-01-02 03:04', '\\xff', 'abc',"
        " '2026-01-02')",
    )
    data = (await change(wire))["data"]
    assert data["record"] == {
        "id": 9223372036854775807,
        "price": 1.5,
        "nan": None,
        "ok": True,
        "body": {"a": [1]},
        "tags": ["a", None],
        "moods": ["calm"],
        "at": "2026-01-02T01:04:05.5+00:00",
        "local": "2026-01-02T03:04:00",
        "raw": "ff",
        "code": "abc",
        "day": "2026-01-02",
    }
    assert data["columns"][5] == {"name": "tags", "type": "_text"}


async def test_a_selection_of_columns_has_the_key_and_large_records_lose_large_values(
    api: Api, connect: Connect
) -> None:
    await api.run(ITEMS, "ALTER TABLE shop.items REPLICA IDENTITY FULL")
    wire = await connect(api)
    table = {"event": "UPDATE", "schema": "shop", "table": "items"}
    await subscribe(wire, {**table, "select": ["n"]}, table)
    await api.run(
        "INSERT INTO shop.items VALUES (1, 1, repeat('x', 1000000))",
        "UPDATE shop.items SET n = 2",
    )
    selected, whole = [(await change(wire))["data"] for _ in range(2)]
    assert selected["record"] == {"id": 1, "n": 2}
    assert selected["old_record"] == {"id": 1, "n": 1}
    assert whole["errors"] == ["Error 413: Payload Too Large"]
    assert whole["record"] == {
        "id": 1, "n": 2, "price": None, "at": None, "ok": None
    }  # fmt: skip


async def test_a_change_that_is_whole_fits_into_what_clients_take(
    api: Api, connect: Connect
) -> None:
    await api.run(ITEMS)
    wire = await connect(api, max_size=1024 * 1024)
    await subscribe(wire, {"event": "INSERT", "schema": "shop", "table": "items"})
    sizes = (1_040_000, 1_048_000, 1_048_200, 1_048_400)
    await api.run(*(f"INSERT INTO shop.items (id, text) VALUES ({size}, repeat('x', {size}))"
                    for size in sizes))  # fmt: skip
    received = [(await change(wire))["data"] for _ in sizes]
    assert [data["record"]["id"] for data in received] == [*sizes]
    assert received[0]["errors"] is None
    assert received[-1]["errors"] == ["Error 413: Payload Too Large"]


@on_both_sources
async def test_large_values_and_keys_that_change_are_whole(
    api: Api, connect: Connect, source: str
) -> None:
    await api.run(
        "CREATE TABLE shop.pages (id int PRIMARY KEY, n int, body text)",
        "ALTER TABLE shop.pages ALTER body SET STORAGE EXTERNAL",
        "GRANT SELECT ON shop.pages TO anon",
        "ALTER PUBLICATION supabase_realtime ADD TABLE shop.pages",
        "INSERT INTO shop.pages VALUES (1, 1, repeat('x', 9000))",
    )
    wire = await connect(api)
    await subscribe(wire, {"event": "UPDATE", "schema": "shop", "table": "pages"})
    await api.run(
        "UPDATE shop.pages SET n = 2",
        "UPDATE shop.pages SET id = 2",
        "ALTER TABLE shop.pages REPLICA IDENTITY FULL",
        "UPDATE shop.pages SET n = 3",
    )
    default, moved, full = [(await change(wire))["data"] for _ in range(3)]
    # What replication does not send is missing, and never null.
    record = {"id": 1, "n": 2, **({"body": "x" * 9000} if source == TRIGGERS else {})}
    assert (default["record"], default["old_record"]) == (record, {"id": 1})
    assert (moved["record"]["id"], moved["old_record"]) == (2, {"id": 1})
    assert full["record"] == {"id": 2, "n": 3, "body": "x" * 9000}
