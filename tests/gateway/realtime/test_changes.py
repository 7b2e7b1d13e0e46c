"""Changes of rows: who receives which, and how they look."""

import asyncio
import re
from typing import Any

import psycopg
import pytest
from tests.gateway.realtime.api import ANN, BOB, SERVICE, Api
from tests.gateway.realtime.changes import ITEMS, NOTES, ROOM, change, notes, subscribe
from tests.gateway.realtime.conftest import Connect, on_both_sources
from tests.servers import ask

from amphibase.gateway.realtime.changes.filters import parse_filters


@on_both_sources
async def test_a_subscriber_receives_the_rows_that_its_policies_show(
    api: Api, connect: Connect
) -> None:
    await api.run(NOTES, "ALTER TABLE shop.notes REPLICA IDENTITY FULL")
    ann, bob, service = [await connect(api) for _ in range(3)]
    ids = await subscribe(ann, notes(), notes("INSERT"), token=api.token())
    await subscribe(bob, notes(), token=api.token(BOB))
    await subscribe(service, notes(), token=SERVICE)
    assert all(0 < each < 2**27 for each in ids)
    await api.run(f"INSERT INTO shop.notes VALUES (1, '{ANN}', 'a', 'hidden')")
    inserted = await change(ann)
    columns = [{"name": name, "type": kind} for name, kind in (
        ("id", "int4"), ("owner", "uuid"), ("text", "text"))]  # fmt: skip
    assert sorted(inserted["ids"]) == sorted(ids)
    assert inserted["data"].pop("commit_timestamp").endswith("Z")
    assert inserted["data"] == {
        "schema": "shop",
        "table": "notes",
        "type": "INSERT",
        "columns": columns,
        "errors": None,
        "record": {"id": 1, "owner": str(ANN), "text": "a"},
    }
    # The version between them was hers: not his, and no longer to be asked about.
    await api.run(
        f"BEGIN; UPDATE shop.notes SET text = 'b'; UPDATE shop.notes SET owner = '{BOB}'; COMMIT"
    )
    moved = (await change(bob))["data"]
    assert (moved["record"]["text"], moved["record"]["owner"]) == ("b", str(BOB))
    assert moved["old_record"] == {"id": 1}
    await api.run("DELETE FROM shop.notes")
    for wire in (ann, bob):
        deleted = (await change(wire))["data"]
        assert (deleted["type"], deleted["old_record"]) == ("DELETE", {"id": 1})
    all_of_them = [(await change(service))["data"] for _ in range(4)]
    assert [each["type"] for each in all_of_them] == ["INSERT", "UPDATE", "UPDATE", "DELETE"]
    assert all_of_them[0]["record"]["secret"] == "hidden"
    for wire in (ann, bob, service):
        assert await wire.is_silent()


async def test_a_deleted_row_shows_no_column_that_its_primary_key_includes(
    api: Api, connect: Connect
) -> None:
    await api.run(
        NOTES,
        "ALTER TABLE shop.notes DROP CONSTRAINT notes_pkey, ADD PRIMARY KEY (id) INCLUDE (text),"
        " REPLICA IDENTITY FULL",
    )
    ann, bob = await connect(api), await connect(api)
    for wire, token in ((ann, api.token()), (bob, api.token(BOB))):
        await subscribe(wire, notes(), token=token)
    await api.run(f"INSERT INTO shop.notes VALUES (1, '{ANN}', 'hers')")
    assert (await change(ann))["data"]["record"]["text"] == "hers"
    await api.run("DELETE FROM shop.notes")
    for wire in (ann, bob):
        assert (await change(wire))["data"]["old_record"] == {"id": 1}


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


@on_both_sources
async def test_a_wildcard_has_every_published_table_from_its_first_row_on(
    api: Api, connect: Connect
) -> None:
    wire = await connect(api)
    await subscribe(wire, {"event": "*", "schema": "*"}, {"event": "*", "schema": "shop"})
    await api.run(ITEMS, "INSERT INTO shop.items (id) VALUES (1)", "TRUNCATE shop.items")
    received = await change(wire)
    assert (received["data"]["table"], len(received["ids"])) == ("items", 2)
    assert await wire.is_silent()


async def test_a_topic_without_a_configuration_names_what_it_wants(
    api: Api, connect: Connect
) -> None:
    await api.run(ITEMS)
    wire = await connect(api)
    topic = "realtime:shop:items:id=gt.1"
    reply = await wire.reply(topic, "phx_join", {})
    assert reply == {"status": "ok", "response": {"postgres_changes": []}}
    assert (await wire.receive())[4]["message"] == "Subscribed to PostgreSQL"
    await api.run("INSERT INTO shop.items (id) VALUES (1), (2)")
    _, _, name, event, payload = await wire.receive()
    assert (name, event, payload["record"]["id"], payload["table"]) == (topic, "INSERT", 2, "items")
    assert await wire.is_silent()


@pytest.mark.parametrize(
    "policy",
    ["1 / (id - id) = 1", "nextval('shop.numbers') > 0"],
    ids=["which raises an error", "which writes"],
)
async def test_a_policy_that_fails_takes_nothing_from_others(
    api: Api, connect: Connect, policy: str
) -> None:
    await api.run(
        NOTES,
        "CREATE SEQUENCE shop.numbers",
        "GRANT USAGE ON shop.numbers TO authenticated",
        "DROP POLICY own ON shop.notes",
        f"CREATE POLICY own ON shop.notes TO authenticated"
        f" USING (CASE WHEN auth.uid() = '{BOB}' THEN {policy} ELSE true END)",
    )
    ann, bob = await connect(api), await connect(api)
    await subscribe(ann, notes(), token=api.token())
    await subscribe(bob, notes(), token=api.token(BOB))
    await api.run(f"INSERT INTO shop.notes VALUES (1, '{ANN}', 'a')")
    assert (await change(ann))["data"]["record"]["id"] == 1
    system = (await bob.receive())[4]  # once
    assert (system["status"], system["message"].partition(",")[0]) == ("ok", "A policy fails")
    await api.run(f"INSERT INTO shop.notes VALUES (2, '{ANN}', 'a')")
    assert (await change(ann))["data"]["record"]["id"] == 2
    assert await bob.is_silent()


async def test_a_new_token_counts_for_later_changes_and_whoever_leaves_receives_none(
    api: Api, connect: Connect
) -> None:
    await api.run(NOTES)
    wire = await connect(api)
    await subscribe(wire, notes(), token=api.token())
    await api.run(f"INSERT INTO shop.notes VALUES (0, '{ANN}')")
    assert (await change(wire))["data"]["record"]["id"] == 0
    await wire.push(ROOM, "access_token", {"access_token": api.token(BOB)})
    assert (await wire.receive())[4]["message"] == "Subscribed to PostgreSQL"
    await api.run(
        f"INSERT INTO shop.notes VALUES (1, '{ANN}')", f"INSERT INTO shop.notes VALUES (2, '{BOB}')"
    )
    assert (await change(wire))["data"]["record"]["id"] == 2
    await wire.reply(ROOM, "phx_leave", {})
    await wire.receive()
    await api.run(f"INSERT INTO shop.notes VALUES (3, '{BOB}')")
    await asyncio.sleep(0.3)
    assert await wire.is_silent()


async def test_a_change_waits_until_others_see_it(api: Api, connect: Connect) -> None:
    """A commit is in the stream before others see it: here it waits for a standby that does not
    exist, until the wait is cancelled."""
    await api.run(NOTES)
    wire = await connect(api)
    await subscribe(wire, notes("INSERT"), token=api.token())
    await api.run(f"INSERT INTO shop.notes VALUES (0, '{ANN}')")
    assert (await change(wire))["data"]["record"]["id"] == 0
    await api.run(
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"
    )
    try:
        async with await psycopg.AsyncConnection.connect(api.database, autocommit=True) as session:
            await session.execute("SET synchronous_commit = on")
            inserting = asyncio.create_task(
                session.execute("INSERT INTO shop.notes VALUES (1, %s)", [ANN])
            )
            pid = session.info.backend_pid
            waits = f"SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = {pid}"
            while not await asyncio.to_thread(ask, api.database, waits):
                pass
            await asyncio.sleep(0.3)
            assert await wire.is_silent()
            await api.run(f"SELECT pg_cancel_backend({pid})")
            await inserting
    finally:
        await api.run("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    assert (await change(wire))["data"]["record"]["id"] == 1


@on_both_sources
async def test_every_commit_after_the_reply_is_delivered_in_order_to_whom_may_see_it(
    api: Api, connect: Connect
) -> None:
    await api.run(NOTES)
    count, writers = 100, 4
    wires = [await connect(api) for _ in range(4)]
    for number, wire in enumerate(wires):
        await subscribe(wire, notes("INSERT"), token=api.token((ANN, BOB)[number % 2], n=number))

    async def write(writer: int) -> None:
        async with await psycopg.AsyncConnection.connect(api.database, autocommit=True) as session:
            for number in range(writer * count, (writer + 1) * count):
                owner = (ANN, BOB)[number % 2]
                await session.execute("INSERT INTO shop.notes VALUES (%s, %s)", [number, owner])

    await asyncio.gather(*map(write, range(writers)))
    for place, wire in enumerate(wires):
        ids = [(await change(wire))["data"]["record"]["id"] for _ in range(count * writers // 2)]
        assert sorted(ids) == list(range(place % 2, count * writers, 2))
        for writer in range(writers):
            own = [each for each in ids if each // count == writer]
            assert own == sorted(own)


async def test_a_database_that_sends_no_changes_says_why(api: Api, connect: Connect) -> None:
    await api.run(
        ITEMS,
        "CREATE POLICY reads ON realtime.messages FOR SELECT TO authenticated USING (true)",
        "ALTER ROLE supabase_realtime_admin NOREPLICATION",
        "REVOKE EXECUTE ON FUNCTION realtime.update_outbox_trigger FROM supabase_realtime_admin",
    )
    try:
        wire = await connect(api)
        changes = [{"event": "*", "schema": "shop"}]
        options = {"wait": True}
        failed = await wire.join(ROOM, postgres_changes=changes, postgres_changes_options=options)
        await wire.join(ROOM, postgres_changes=changes)
        payload = (await wire.receive())[4]
        assert failed == f"PostgresChangesSubscribeTimeout: {payload['message']}"
        await wire.push(ROOM, "access_token", {"access_token": api.token()})
        assert (await wire.receive())[4] == payload
        private = await connect(api)
        await private.join("realtime:private", api.token(), private=True)
        message = (await private.receive())[4]
        assert (message["status"], message["message"]) == ("error", payload["message"])
    finally:
        await api.run(
            "ALTER ROLE supabase_realtime_admin REPLICATION",
            "GRANT EXECUTE ON FUNCTION realtime.update_outbox_trigger TO supabase_realtime_admin",
        )
    for each in (wire, private):  # as soon as it does, they join again
        assert (await each.receive())[4]["message"].endswith("it has been restored")
        assert (await each.receive())[3] == "phx_error"
    assert payload["status"] == "error"
    reason, _, causes = payload["message"].partition(": ")
    assert reason == "The database does not send its changes"
    assert re.fullmatch(
        "(permission denied to start WAL sender|must be .* to start walsender); and by triggers: "
        "the trigger of .* cannot be altered: permission denied for function .*",
        causes,
    )


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


@pytest.mark.parametrize("is_shown", ["owner = auth.jwt() ->> 'sub'", "ok AND kind = 'a'"])
async def test_an_earlier_version_is_not_shown_by_a_column_that_cannot_be_selected(
    api: Api, connect: Connect, is_shown: str
) -> None:
    await api.run(
        "CREATE TABLE shop.cards"
        " (id int PRIMARY KEY, text text, ok bool, kind char(3), owner text)",
        "GRANT SELECT (id, text, ok, kind) ON shop.cards TO authenticated",
        "ALTER TABLE shop.cards ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY p ON shop.cards FOR SELECT TO authenticated USING ({is_shown})",
        "ALTER PUBLICATION supabase_realtime ADD TABLE shop.cards",
    )
    wire, inserts = await connect(api), await connect(api)
    await subscribe(wire, {"event": "*", "schema": "shop"}, token=api.token())
    alone = {"event": "INSERT", "schema": "shop"}  # of which the policies are asked about one row
    await subscribe(inserts, alone, token=api.token(session_id="of its own"))
    await api.run(
        f"BEGIN; INSERT INTO shop.cards VALUES (1, 'of bob', false, 'a', '{BOB}');"
        f" UPDATE shop.cards SET text = 'of ann', ok = true, owner = '{ANN}'; COMMIT"
    )
    shown = (await change(wire))["data"]
    assert (shown["type"], shown["record"]["text"]) == ("UPDATE", "of ann")
    assert await wire.is_silent()
    assert await inserts.is_silent()


@on_both_sources
@pytest.mark.parametrize("is_root", [False, True], ids=["leaves", "root"])
async def test_changes_of_a_partition_are_its_own_unless_the_publication_says_otherwise(
    api: Api, connect: Connect, is_root: bool
) -> None:
    await api.run(
        "CREATE TABLE shop.sales (id int PRIMARY KEY, owner uuid) PARTITION BY RANGE (id)",
        "CREATE TABLE shop.sales_low PARTITION OF shop.sales FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE shop.sales_high PARTITION OF shop.sales FOR VALUES FROM (10) TO (20)",
        "GRANT SELECT ON ALL TABLES IN SCHEMA shop TO authenticated",
        *(
            f"ALTER TABLE shop.{table} ENABLE ROW LEVEL SECURITY"
            for table in ("sales", "sales_low", "sales_high")
        ),
        *(
            f"CREATE POLICY p ON shop.{table} TO authenticated USING (owner = auth.uid())"
            for table in (("sales",) if is_root else ("sales_low", "sales_high"))
        ),
        "ALTER PUBLICATION supabase_realtime ADD TABLE shop.sales",
        f"ALTER PUBLICATION supabase_realtime SET (publish_via_partition_root = {is_root})",
    )
    names = ["sales", "sales"] if is_root else ["sales_low", "sales_high"]
    ann, bob = await connect(api), await connect(api)
    bindings = [{"event": "*", "schema": "shop", "table": name} for name in dict.fromkeys(names)]
    await subscribe(ann, *bindings, token=api.token())
    await subscribe(bob, *bindings, token=api.token(BOB))
    await api.run(f"INSERT INTO shop.sales VALUES (1, '{ANN}'), (2, '{BOB}')")
    received = [(await change(ann))["data"]]
    await api.run("UPDATE shop.sales SET id = 11 WHERE id = 1")
    received += [(await change(ann))["data"] for _ in range(2)]
    assert [(each["type"], each["table"]) for each in received] == [
        ("INSERT", names[0]),
        ("DELETE", names[0]),
        ("INSERT", names[1]),
    ]
    assert (await change(bob))["data"]["record"] == {"id": 2, "owner": str(BOB)}
    assert (await change(bob))["data"]["type"] == "DELETE"
    assert await bob.is_silent()
