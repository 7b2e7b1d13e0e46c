"""Changes of rows: who receives which, and how they look."""

import asyncio
import re

import psycopg
import pytest
from tests.gateway.realtime.api import ANN, BOB, SERVICE, Api
from tests.gateway.realtime.changes import ITEMS, NOTES, ROOM, change, notes, subscribe
from tests.gateway.realtime.conftest import Connect, on_both_sources
from tests.servers import ask


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
