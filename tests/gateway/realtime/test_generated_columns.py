"""Generated columns of changes, which the stream of Postgres does not have."""

import psycopg
import pytest
from tests.gateway.realtime.api import ANN, BOB, Api
from tests.gateway.realtime.changes import change, subscribe
from tests.gateway.realtime.conftest import TRIGGERS, Connect, on_both_sources

BILLS = """
CREATE FUNCTION shop.taxed(price numeric, "number" text) RETURNS numeric IMMUTABLE LANGUAGE sql
    RETURN price * CASE "number" WHEN '%' THEN 2 ELSE 1.2 END;
CREATE TABLE shop.bills (
    id int PRIMARY KEY, net numeric(6, 2), "number" text, code char(4),
    total numeric(6, 2) GENERATED ALWAYS AS (shop.taxed(net, "number")) STORED,
    is_large bool GENERATED ALWAYS AS ("number" LIKE 'L%' OR net > 100) STORED,
    "text 0" text GENERATED ALWAYS AS (code || "number") STORED,
    hidden int GENERATED ALWAYS AS (id) STORED
);
ALTER TABLE shop.bills ALTER "number" SET STORAGE EXTERNAL;
GRANT SELECT (id, net, "number", code, total, is_large, "text 0") ON shop.bills TO anon;
ALTER PUBLICATION supabase_realtime ADD TABLE shop.bills;
"""


@on_both_sources
@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
async def test_generated_columns_are_those_of_the_version_of_the_row(
    api: Api, connect: Connect, identity: str, source: str
) -> None:
    is_full = identity == "FULL"
    if is_full and await _major(api) >= 18:
        pytest.skip("It takes no updates of such a table whose generated columns are not published")
    await api.run(BILLS, f"ALTER TABLE shop.bills REPLICA IDENTITY {identity}")
    wire, filtered = await connect(api), await connect(api)
    bills = {"event": "*", "schema": "shop", "table": "bills"}
    await subscribe(wire, bills)
    await subscribe(filtered, {**bills, "filter": "total=gt.100,is_large=is.true"})
    long = "x" * 5000
    await api.run(
        f"BEGIN; INSERT INTO shop.bills VALUES (1, 10, '%', 'ab'), (2, NULL, '{long}', 'c');"
        " UPDATE shop.bills SET net = 100.5 WHERE id = 1; DELETE FROM shop.bills WHERE id = 1;"
        " UPDATE shop.bills SET code = 'd' WHERE id = 2; COMMIT"
    )
    of_ten = {"id": 1, "net": 10.0, "number": "%", "code": "ab  ", "total": 20.0,
              "is_large": False, "text 0": "ab%"}  # fmt: skip
    of_hundred = {**of_ten, "net": 100.5, "total": 201.0, "is_large": True}
    received = [(await change(wire))["data"] for _ in range(5)]
    assert received[0]["record"] == of_ten
    unknown = received[1]["record"]
    assert (unknown["total"], unknown["is_large"], unknown["text 0"]) == (None, None, f"c{long}")
    assert received[2]["record"] == of_hundred
    assert received[2]["old_record"] == (of_ten if is_full else {"id": 1})
    assert received[3]["old_record"] == (of_hundred if is_full else {"id": 1})
    # Of a large value that has not changed, replication sends what a whole old row has.
    is_known = is_full or source == TRIGGERS
    assert received[4]["record"].get("text 0") == (f"d{long}" if is_known else None)
    for kind in ("UPDATE", "DELETE") if is_full else ("UPDATE",):
        assert (await change(filtered))["data"]["type"] == kind
    assert await filtered.is_silent()


async def test_an_earlier_version_is_not_shown_where_its_generated_column_is_not_known(
    api: Api, connect: Connect
) -> None:
    await api.run(
        "CREATE FUNCTION shop.owner(of text) RETURNS uuid IMMUTABLE LANGUAGE sql RETURN of::uuid",
        "REVOKE EXECUTE ON FUNCTION shop.owner FROM PUBLIC",
        "CREATE TABLE shop.cards (id int PRIMARY KEY, text text, owner_text text,"
        " owner uuid GENERATED ALWAYS AS (shop.owner(owner_text)) STORED)",
        "GRANT SELECT ON shop.cards TO authenticated",
        "ALTER TABLE shop.cards ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON shop.cards FOR SELECT TO authenticated USING (owner = auth.uid())",
        "ALTER PUBLICATION supabase_realtime ADD TABLE shop.cards",
    )
    wire = await connect(api)
    await subscribe(wire, {"event": "*", "schema": "shop"}, token=api.token())
    await api.run(
        f"BEGIN; INSERT INTO shop.cards VALUES (1, 'of bob', '{BOB}');"
        f" UPDATE shop.cards SET text = 'of ann', owner_text = '{ANN}'; COMMIT"
    )
    shown = (await change(wire))["data"]["record"]
    assert shown == {"id": 1, "text": "of ann", "owner_text": str(ANN)}
    assert await wire.is_silent()


async def _major(api: Api) -> int:
    async with await psycopg.AsyncConnection.connect(api.database) as connection:
        return connection.info.server_version // 10000
