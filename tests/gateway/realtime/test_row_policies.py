"""What policies say of changes, and how long they may take for it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from psycopg.pq.abc import PGresult
from tests.gateway.realtime.api import ANN, BOB, Api
from tests.gateway.realtime.changes import NOTES, ROOM, change, notes, subscribe
from tests.gateway.realtime.conftest import Connect, ServeRealtime, on_both_sources

from amphibase.database.connection import Connection
from amphibase.database.statement import Call, Statement
from amphibase.gateway.realtime.changes import publisher, session, slow_lane
from amphibase.gateway.realtime.changes.round import TimeLimit
from amphibase.gateway.realtime.changes.row_policies import Decisions, RowPolicies
from amphibase.gateway.realtime.client_socket import ClientSocket

OF_BOB = """
DROP POLICY own ON shop.notes;
CREATE POLICY own ON shop.notes TO authenticated
    USING (CASE WHEN auth.uid() = '{}' THEN {} ELSE true END)
"""


async def test_who_waits_for_a_lock_delays_no_other_and_receives_everything_in_order(
    serve: ServeRealtime, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_lane, "LIMIT", TimeLimit(10_000, 60))
    monkeypatch.setattr(slow_lane, "LOCK_SECONDS", 0.05)
    api = await serve()
    await api.run(NOTES, OF_BOB.format(BOB, "pg_advisory_xact_lock(7)::text IS NOT NULL"))
    ann, bob = await connect(api), await connect(api)
    await subscribe(ann, notes(), token=api.token())
    await subscribe(bob, notes(), token=api.token(BOB))
    async with await psycopg.AsyncConnection.connect(api.database, autocommit=True) as session:
        await session.execute("SELECT pg_advisory_lock(7)")
        for number in range(3):
            await api.run(f"INSERT INTO shop.notes VALUES ({number}, '{ANN}')")
            assert (await change(ann))["data"]["record"]["id"] == number
        await asyncio.sleep(0.3)  # so that it gives up waiting for the lock, and tries again
        assert await bob.is_silent()
    await api.run(f"INSERT INTO shop.notes VALUES (3, '{ANN}')")
    for wire, numbers in ((bob, range(4)), (ann, [3])):
        for number in numbers:
            assert (await change(wire))["data"]["record"]["id"] == number


async def test_a_policy_that_takes_too_long_ends_the_subscription_of_its_caller_alone(
    serve: ServeRealtime, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "LIMIT", TimeLimit(100, 0.2))
    monkeypatch.setattr(slow_lane, "LIMIT", TimeLimit(1000, 60))
    api = await serve()
    await api.run(NOTES, OF_BOB.format(BOB, "pg_sleep(60) IS NOT NULL"))
    ann, bob = await connect(api), await connect(api)
    await subscribe(bob, notes(), notes("DELETE"), token=api.token(BOB))
    await subscribe(ann, notes(), token=api.token())
    await api.run(f"INSERT INTO shop.notes VALUES (1, '{ANN}')")
    assert (await change(ann))["data"]["record"]["id"] == 1
    ended = (await bob.receive())[4]
    assert (ended["extension"], ended["status"]) == ("postgres_changes", "error")
    assert ended["message"].startswith("A policy takes too long, so the subscription has ended: [")
    await api.run("DELETE FROM shop.notes")
    assert (await change(ann))["data"]["type"] == "DELETE"
    assert len((await change(bob))["ids"]) == 1


@pytest.mark.parametrize(
    ("policies", "is_delivered"),
    [
        (["USING (true)"], True),
        (["USING (id > 0)"], False),
        (["USING (true)", "AS RESTRICTIVE USING (id > 0)"], False),
        (["TO service_role USING (true)", "USING (id > 0)"], False),
        (["FOR UPDATE USING (true)", "USING (id > 0)"], False),
    ],
)
async def test_a_policy_that_is_true_shows_every_version(
    api: Api, connect: Connect, policies: list[str], is_delivered: bool
) -> None:
    """Of a table that every caller may read whole, nothing is asked."""
    await api.run(
        NOTES,
        "DROP POLICY own ON shop.notes",
        *(f"CREATE POLICY p{n} ON shop.notes {text}" for n, text in enumerate(policies)),
    )
    wire = await connect(api)
    await subscribe(wire, notes("INSERT"), notes("DELETE"), token=api.token())
    await api.run("BEGIN; INSERT INTO shop.notes VALUES (1); DELETE FROM shop.notes; COMMIT")
    if is_delivered:
        assert (await change(wire))["data"]["type"] == "INSERT"
    assert (await change(wire))["data"]["type"] == "DELETE"


async def test_a_right_that_is_taken_away_counts_for_the_next_change(
    api: Api, connect: Connect
) -> None:
    await api.run(NOTES, "CREATE POLICY other ON shop.notes USING (true)")
    wire = await connect(api)
    await subscribe(wire, notes("INSERT"), token=api.token())
    insert = f"INSERT INTO shop.notes (owner, id) VALUES ('{BOB}', {{}})"
    own = f"INSERT INTO shop.notes (owner, id) VALUES ('{ANN}', {{}})"
    await api.run(insert.format(1))
    assert (await change(wire))["data"]["record"]["id"] == 1
    await api.run("DROP POLICY other ON shop.notes", insert.format(2), own.format(3))
    assert (await change(wire))["data"]["record"]["id"] == 3
    await api.run("CREATE POLICY other ON shop.notes USING (true)")
    await api.run("REVOKE SELECT (text) ON shop.notes FROM authenticated", insert.format(4))
    assert len((await change(wire))["data"]["columns"]) == 2
    await api.run("REVOKE USAGE ON SCHEMA shop FROM authenticated", insert.format(5))
    system = (await wire.receive())[4]
    assert system["message"].startswith("The role authenticated may select no column of this table")
    assert await wire.is_silent()


@pytest.mark.parametrize(
    ("statement", "notice"),
    [
        ("DROP POLICY own ON shop.notes", "has no policy to select rows of this table"),
        (
            "ALTER POLICY own ON shop.notes TO service_role",
            "has no policy to select rows of this table",
        ),
        ("REVOKE SELECT ON shop.notes FROM authenticated", "may select no column of this table"),
    ],
)
async def test_a_subscriber_to_whom_nothing_can_be_delivered_is_told_why(
    api: Api, connect: Connect, statement: str, notice: str
) -> None:
    await api.run(NOTES, statement)
    wire = await connect(api)
    await subscribe(wire, notes(), token=api.token())
    message = (await wire.receive())[4]
    assert (message["status"], message["extension"]) == ("ok", "postgres_changes")
    assert message["message"].startswith(f"The role authenticated {notice}, so that ")


async def test_policies_are_asked_about_the_changed_rows_alone(api: Api, connect: Connect) -> None:
    """Of a small table too, which it would cost less to read whole, if it had no policies."""
    await api.run(
        NOTES,
        # Locks of a session, which outlast the question.
        "ALTER POLICY own ON shop.notes USING (pg_try_advisory_lock_shared(9, id))",
        "INSERT INTO shop.notes (id) SELECT generate_series(-500, 0)",
        "ANALYZE shop.notes",
    )
    wire = await connect(api)
    await subscribe(wire, notes(), token=api.token())
    await api.run("INSERT INTO shop.notes VALUES (1), (2)")
    for number in (1, 2):
        assert (await change(wire))["data"]["record"]["id"] == number
    async with await psycopg.AsyncConnection.connect(api.database) as session:
        cursor = await session.execute("SELECT objid::int FROM pg_locks WHERE classid = 9")
        assert {*await cursor.fetchall()} == {(1,), (2,)}


async def test_policies_are_asked_once_for_equal_claims_and_not_for_whom_they_cannot_show_the_row(
    api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = RowPolicies.ask

    async def recorded(self: RowPolicies, *arguments: Any) -> Decisions:
        asked.extend(question.claims for question in arguments[2])
        return await ask(self, *arguments)

    monkeypatch.setattr(RowPolicies, "ask", recorded)
    await api.run(NOTES)
    wires = [await connect(api) for _ in range(3)]
    for wire, token in zip(wires, (api.token(), api.token(email="a"), api.token(BOB)), strict=True):
        await subscribe(wire, notes(), token=token)
    asked.clear()  # what was planned for the first of them
    await api.run(f"INSERT INTO shop.notes VALUES (1, '{ANN}')")
    for wire in wires[:2]:
        assert (await change(wire))["data"]["record"]["id"] == 1
    assert await wires[2].is_silent()
    assert asked == [f'{{"sub":"{ANN}"}}']


async def test_changes_are_delivered_once_where_the_connection_that_asks_has_ended(
    api: Api, connect: Connect
) -> None:
    await api.run(NOTES)
    wire = await connect(api)
    await subscribe(wire, notes(), token=api.token())
    for number in range(3):
        await api.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_temp.rows_%' AND pid <> pg_backend_pid()",
            f"INSERT INTO shop.notes VALUES ({number}, '{ANN}')",
        )
        assert (await change(wire))["data"]["record"]["id"] == number
    assert await wire.is_silent()


SHOWS_ROW = """
CREATE FUNCTION shop.shows(note shop.notes) RETURNS boolean LANGUAGE sql
    AS $$ SELECT note.text = 'shown' $$
"""
SHOWS_KEY = """
CREATE FUNCTION shop.shows(number int) RETURNS boolean LANGUAGE sql SECURITY DEFINER
    AS $$ SELECT text = 'shown' FROM shop.Notes WHERE id = number $$
"""
LONG = "ALTER TABLE shop.notes ALTER text SET STORAGE EXTERNAL"


@pytest.mark.parametrize(
    ("setup", "policy"),
    [
        ("", "to_jsonb(notes) ->> 'text' = 'shown'"),
        ("", "EXISTS (SELECT WHERE notes::text LIKE '%shown%')"),
        (SHOWS_ROW, "shop.shows(notes)"),
        (SHOWS_KEY, "shop.shows(id)"),
        (LONG, "trim(text, '.') = 'shown'"),
    ],
)
async def test_a_policy_shows_no_version_before_its_row_was_to_be_shown(
    api: Api, connect: Connect, setup: str, policy: str
) -> None:
    """Also where it does not mention the column, or the stream does not have it (TOAST)."""
    grant = "GRANT SELECT ON shop.notes TO authenticated"
    await api.run(NOTES, grant, setup, f"ALTER POLICY own ON shop.notes USING ({policy})")
    wire = await connect(api)
    await subscribe(wire, notes(), token=api.token())
    await api.run("INSERT INTO shop.notes (id, text) SELECT 1, 'hidden' || repeat('.', 9000)")
    await api.run(
        "BEGIN; UPDATE shop.notes SET secret = 'before'; UPDATE shop.notes SET secret = 'after',"
        " text = 'shown' || CASE WHEN length(text) > 9000 THEN repeat('.', 9000) ELSE '' END;"
        " UPDATE shop.notes SET text = rtrim(text, '.'); COMMIT"
    )
    assert (await change(wire))["data"]["record"]["secret"] == "after"


KEPT = """
CREATE FUNCTION shop.me() RETURNS uuid STABLE LANGUAGE plpgsql AS $$ BEGIN
    IF coalesce(current_setting('shop.me', true), '') = '' THEN
        PERFORM set_config('shop.me', auth.uid()::text, true);
    END IF;
    RETURN current_setting('shop.me');
END $$
"""
DECLARED_IMMUTABLE = """
CREATE FUNCTION shop.me() RETURNS uuid IMMUTABLE LANGUAGE sql
    AS $$ SELECT auth.uid() $$
"""


@pytest.mark.parametrize("function", [KEPT, DECLARED_IMMUTABLE])
async def test_what_a_function_finds_out_about_a_caller_is_not_taken_for_the_next(
    api: Api, connect: Connect, function: str
) -> None:
    await api.run(NOTES, function, "ALTER POLICY own ON shop.notes USING (owner = shop.me())")
    ann, bob = await connect(api), await connect(api)
    await subscribe(ann, notes(), token=api.token())
    await subscribe(bob, notes(), token=api.token(BOB))
    await api.run(*(f"INSERT INTO shop.notes (owner, id) VALUES ('{user}', {number})"
                    for number, user in enumerate((ANN, BOB, ANN))))  # fmt: skip
    for wire, numbers in ((ann, (0, 2)), (bob, (1,))):
        assert [(await change(wire))["data"]["record"]["id"] for _ in numbers] == [*numbers]
        assert await wire.is_silent()


@on_both_sources
async def test_policies_are_asked_in_one_round_trip_from_the_first_change_of_a_table_on(
    api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = 0

    class CountingConnection(Connection):
        async def run(self, calls: Sequence[Call], *, prepare: bool = True) -> list[PGresult]:
            nonlocal trips
            trips += 1
            return await super().run(calls, prepare=prepare)

    monkeypatch.setattr(session, "Connection", CountingConnection)
    await api.run(NOTES)
    wire = await connect(api)
    await subscribe(wire, notes(), token=api.token())
    for number in range(3):
        trips = 0
        await api.run(f"INSERT INTO shop.notes VALUES ({number}, '{ANN}')")
        assert (await change(wire))["data"]["record"]["id"] == number
        assert trips == 1


async def test_a_connection_that_is_closed_while_its_client_subscribes_disturbs_no_other(
    api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it waits for goes on, on the connection that the others need."""
    begun = asyncio.Event()

    async def plan(self: RowPolicies, asking: session.QuestionSession, *arguments: Any) -> None:
        begun.set()
        await asking.run(Call(Statement("SELECT pg_sleep(0.5)")))

    monkeypatch.setattr(RowPolicies, "plan", plan)
    await api.run(NOTES)
    leaving = await connect(api)
    config = {"postgres_changes": [notes()]}
    await leaving.push(ROOM, "phx_join", {"config": config, "access_token": api.token()})
    await begun.wait()
    (closed,) = api.service._context.sockets
    assert isinstance(closed, ClientSocket)
    closed.close(1013, "The client reads too slowly")
    wire = await connect(api)
    await subscribe(wire, notes(), token=api.token())
    await api.run(f"INSERT INTO shop.notes VALUES (1, '{ANN}')")
    assert (await change(wire))["data"]["record"]["id"] == 1


async def test_a_policy_that_is_altered_during_a_round_counts_as_it_is_then(
    api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the claims that it reads, and not those that the policy before has read."""
    await api.run(NOTES)
    wire = await connect(api)
    await subscribe(wire, notes("INSERT", filter="text=like.h%"), token=api.token(blocked=True))
    insert = f"INSERT INTO shop.notes VALUES ({{}}, '{ANN}', 'hello')"
    await api.run(insert.format(1))
    assert (await change(wire))["data"]["record"]["id"] == 1
    statements = [
        "ALTER POLICY own ON shop.notes USING (id = 3 OR auth.jwt() ->> 'blocked' IS NULL)"
    ]
    ask = RowPolicies.ask

    async def altered(self: RowPolicies, *arguments: Any) -> Decisions:
        if statements:
            await api.run(statements.pop())
        return await ask(self, *arguments)

    monkeypatch.setattr(RowPolicies, "ask", altered)
    await api.run(insert.format(2), insert.format(3))
    assert (await change(wire))["data"]["record"]["id"] == 3


async def test_the_policies_of_a_table_decide_also_where_another_has_its_name_by_now(
    api: Api, connect: Connect
) -> None:
    await api.run(NOTES, "ALTER POLICY own ON shop.notes USING (id > 0 AND text = 'ann')")
    wire = await connect(api)
    await subscribe(wire, notes(), token=api.token())
    insert = f"INSERT INTO shop.notes VALUES ({{}}, '{ANN}', 'ann');"
    await api.run(
        f"BEGIN; {insert.format(-1)} {insert.format(1)}"
        " ALTER TABLE shop.notes RENAME TO before;"
        " CREATE TABLE shop.notes (LIKE shop.before INCLUDING INDEXES);"
        " INSERT INTO shop.notes SELECT * FROM shop.before WHERE id < 0;"
        " GRANT SELECT ON shop.notes TO authenticated; COMMIT"
    )
    assert (await change(wire))["data"]["record"]["id"] == 1
