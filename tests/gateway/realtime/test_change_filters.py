"""Bindings of channels to changes: what they filter and select, and which are rejected."""

from typing import Any

import pytest
from tests.gateway.realtime.api import Api
from tests.gateway.realtime.changes import ITEMS, ROOM, change, subscribe
from tests.gateway.realtime.conftest import Connect

from amphibase.gateway.realtime.changes.filters import parse_filters


@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        (None, [1, 2, 3]),
        ("id=eq.2", [2]),
        ("id=neq.2", [1, 3]),
        ("id=not.eq.2", [1, 3]),
        ("n=lt.10", [1]),
        ("n=lte.10", [1, 2]),
        ("n=gt.9", [2]),
        ("price=gte.1.50", [2]),
        ('text=in.(tea,"a,b")', [1, 3]),
        ("id=in.(1, 03)", [1, 3]),
        ("text=like.%e%", [1, 2]),
        ("text=ilike.T%", [1]),
        ("text=match.^c.*e$", [2]),
        ("text=imatch.^TEA$", [1]),
        ("n=is.null", [3]),
        ("n=not.is.null", [1, 2]),
        ("ok=is.true", [1]),
        ("ok=is.unknown", [3]),
        ("ok=eq.true", [1]),
        ("ok=neq.TRUE", [2]),
        ("ok=in.(false, no)", [2]),
        ("n=isdistinct.10", [1, 3]),
        ("at=gt.2026-01-01T12:00:00+02", [2]),
        ("id=gt.1,n=eq.10", [2]),
        ('text=eq."a,b"', [3]),
        ("price=gt.1.495", [2]),
        ("price=lt.10000", [1, 2]),
        ("text=neq.coffees", [1, 2, 3]),
    ],
)
async def test_a_filter_compares_as_the_column_does(
    api: Api, connect: Connect, condition: str | None, passes: list[int]
) -> None:
    precise = "ALTER TABLE shop.items ALTER price TYPE numeric(5, 2), ALTER text TYPE varchar(6)"
    await api.run(ITEMS, precise)
    wire = await connect(api)
    binding = {"event": "INSERT", "schema": "shop", "table": "items", "filter": condition}
    await subscribe(wire, binding)
    await api.run(
        "INSERT INTO shop.items VALUES"
        " (1, 9, 'tea', 1.49, '2026-01-01 09:00+00', true),"
        " (2, 10, 'coffee', 1.5, '2026-01-01 11:00+00', false), (3, null, 'a,b', null, null, null)",
        "INSERT INTO shop.items (id, n, text, at, ok) VALUES (0, 0, 'end', now(), true)",
    )
    received = [(await change(wire))["data"]["record"]["id"] for _ in passes]
    assert received == passes


@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        ('tags=in.("{a,b}","{ c }")', [1, 2]),
        ('tags=not.in.("{a,b}")', [2, 3]),
        ('numbers=in.("{1.50}")', [1]),
        ('tags=eq."{a,b}"', [1]),
    ],
)
async def test_a_filter_takes_whole_arrays(
    api: Api, connect: Connect, condition: str, passes: list[int]
) -> None:
    await api.run(ITEMS, "ALTER TABLE shop.items ADD tags text[], ADD numbers numeric[]")
    wire = await connect(api)
    binding = {"event": "INSERT", "schema": "shop", "table": "items", "filter": condition}
    await subscribe(wire, binding)
    await api.run(
        "INSERT INTO shop.items (id, tags, numbers) VALUES"
        " (1, '{a,b}', '{1.5}'), (2, '{c}', '{1.5,2}'), (3, '{a}', '{2}'), (4, null, null),"
        " (5, '{a,b}', '{1.5}'), (6, '{c}', null)",
    )
    received = [(await change(wire))["data"]["record"]["id"] for _ in passes]
    assert received == passes


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ({"table": "other"}, "Please check Realtime is enabled for the given connect parameters"),
        ({"table": "items", "filter": "none=eq.1"}, "invalid column for filter none"),
        ({"table": "items", "filter": "n=eq.x"}, 'invalid input syntax for type integer: "x"'),
        ({"table": "items", "filter": "n=like.x"}, "requires a text-compatible column type, got"),
        ({"table": "items", "filter": "n=is.true"}, "is true filter requires a boolean column"),
        ({"table": "items", "filter": "text=match.("}, "invalid regular expression"),
        ({"table": "items", "filter": "n=eq"}, 'Error parsing `filter` params: ["eq"]'),
        ({"table": "items", "filter": "wrong"}, 'Error parsing `filter` params: ["wrong"]'),
        (
            {"table": "items", "filter": "n=not.a.b.c"},
            'Error parsing `filter` params: ["a", "b.c"]',
        ),
        (
            {"table": "items", "filter": "n=eq.1,,n=eq.2"},
            "filter must not contain empty segments (check for extra commas)",
        ),
        ({"table": "items", "filter": "n=in.1"}, "`in` filter value must be wrapped by parenthe"),
        ({"table": "items", "filter": r"text=match.(.+)+\1"}, "takes no backreferences"),
        ({"table": "items", "filter": ",".join(["n=eq.1"] * 21)}, "too many filters. Maximum 20"),
        ({"table": "items", "filter": "n=eq." + "(" * 2**14}, "Maximum 16384 characters"),
        ({"table": "it\0ems"}, "they have a NUL character"),
        ({"table": "items", "select": ["\0"]}, "they have a NUL character"),
        (
            {"table": "items", "filter": "n=in.(1)", "select": "id"},
            'expected a list of column name strings, e.g. select: ["col1", "col2"]',
        ),
        ({"table": "items", "select": ["none"]}, "invalid column for select none"),
        ({"table": "*", "select": ["id"]}, "Column selection is not supported for wildcard"),
        ({"table": "*", "select": []}, "Column selection is not supported for wildcard"),
        ({"schema": None}, 'to subscribe to: %{"event" => "*", "schema" => nil}'),
        ({"table": {"a": [1]}}, '"schema" => "shop", "table" => %{"a" => [1]}}'),
        (
            {"table": "items", "filter": "n=not.in.(1,x)", "select": ["n"]},
            "Unable to subscribe to changes with given parameters. An exception happened so please "
            "check your connect parameters: [event: *, schema: shop, table: items, "
            'filters: [{"n", "in", "{1,x}", true}], select: ["n"]]. Exception: ERROR 22P02 '
            '(invalid_text_representation) invalid input syntax for type integer: "x"',
        ),
    ],
)
async def test_a_binding_that_does_not_fit_is_a_system_error(
    api: Api, connect: Connect, binding: dict[str, Any], message: str
) -> None:
    await api.run(ITEMS)
    wire = await connect(api)
    response = await wire.join(ROOM, postgres_changes=[{"event": "*", "schema": "shop", **binding}])
    assert response["postgres_changes"][0]["id"] > 0
    payload = (await wire.receive())[4]
    assert (payload["extension"], payload["status"]) == ("postgres_changes", "error")
    assert message in payload["message"]


async def test_a_join_that_waits_for_changes_fails_without_them(api: Api, connect: Connect) -> None:
    await api.run(ITEMS)
    wire = await connect(api)
    right, wrong = {"event": "*", "schema": "shop"}, {"event": "*", "schema": 1}
    options = {"wait": "true", "timeout": 1000}
    reason = await wire.join(
        ROOM, postgres_changes=[right, wrong], postgres_changes_options=options
    )
    assert reason.startswith("RealtimeDisabledForConfiguration: No subscription params provided")
    await wire.join(ROOM, postgres_changes=[right], postgres_changes_options=options)
    assert (await wire.receive())[4]["message"] == "Subscribed to PostgreSQL"
    await api.run("INSERT INTO shop.items VALUES (1)")
    assert (await wire.receive())[3] == "postgres_changes"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('text=in.("a)",b),n=eq.1', [("text", ("a)", "b")), ("n", "1")]),
        ('text=in.( a , "b, c" ,d\\,e)', [("text", ("a", "b, c", "d,e"))]),
        ("text=in.()", [("text", ())]),
        ('text=eq."a,b=c",n=neq.2', [("text", "a,b=c"), ("n", "2")]),
        ('text=eq.a"b,n=eq.3', [("text", 'a"b'), ("n", "3")]),
        ('text=eq."a"b', [("text", '"a"b')]),
        ("text=eq.f(a,b),n=eq.4", [("text", "f(a,b)"), ("n", "4")]),
        ("text=eq.", [("text", "")]),
        ("text=eq.a=b.c", [("text", "a=b.c")]),
        ("   ", []),
    ],
)
def test_a_filter_is_divided_at_commas_that_stand_alone(
    condition: str, expected: list[tuple[str, Any]]
) -> None:
    assert [(each.column, each.operand) for each in parse_filters(condition)] == expected


async def test_a_selection_of_no_columns_has_the_key_alone(api: Api, connect: Connect) -> None:
    await api.run(ITEMS)
    wire = await connect(api)
    await subscribe(wire, {"event": "*", "schema": "shop", "table": "items", "select": []})
    await api.run("INSERT INTO shop.items (id, n) VALUES (1, 2)")
    assert (await change(wire))["data"]["record"] == {"id": 1}


async def test_equal_bindings_are_one_and_there_are_only_so_many(
    api: Api, connect: Connect
) -> None:
    await api.run(ITEMS)
    wire = await connect(api)
    binding = {"event": "*", "schema": "shop", "table": "items"}
    (id, *others) = await subscribe(wire, *[binding] * 100)
    assert others == [id] * 99
    await api.run("INSERT INTO shop.items (id) VALUES (1)")
    assert (await change(wire))["ids"] == [id]
    many = "InvalidJoinPayload: Too many postgres_changes of one "
    assert await wire.join("realtime:more", postgres_changes=[binding] * 101) == (
        f"{many}channel. Maximum 100"
    )
    for number in range(9):
        await wire.join(f"realtime:{number}", postgres_changes=[binding] * 100)
        await wire.receive()
    assert await wire.join("realtime:more", postgres_changes=[binding]) == (
        f"{many}connection. Maximum 1000"
    )


async def test_a_filter_that_takes_too_long_ends_and_holds_up_nobody(
    api: Api, connect: Connect
) -> None:
    await api.run(
        ITEMS,
        "CREATE DOMAIN shop.slow AS text CHECK (pg_sleep(length(value)) IS NOT NULL)",
        "ALTER TABLE shop.items ADD slow shop.slow",
        "GRANT USAGE ON SCHEMA shop TO anon",
    )
    slow, other = await connect(api), await connect(api)
    table = {"event": "*", "schema": "shop", "table": "items"}
    await subscribe(slow, {**table, "filter": "slow=is.null"}, {**table, "filter": "id=eq.2"})
    await subscribe(other, {**table, "filter": "text=like.a%"})
    await api.run("INSERT INTO shop.items (id, text, slow) VALUES (1, 'a', 'xx')")
    assert (await change(other))["data"]["record"]["id"] == 1
    ended = (await slow.receive())[4]
    assert (ended["extension"], ended["status"]) == ("postgres_changes", "error")
    assert ended["message"].startswith("A filter takes too long, so the subscription has ended: [")
    await api.run("INSERT INTO shop.items (id, text, slow) VALUES (2, 'a', 'xx')")
    assert len((await change(slow))["ids"]) == 1
    assert await slow.is_silent()
