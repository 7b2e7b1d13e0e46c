"""Realtime of the gateway, with its clients and the writers of rows in processes of their own:
latency beside the bare INSERT, decisions beside asking for each subscriber and change in SQL,
broadcasts beside a bare ASGI application, memory, and what it costs the writers.

    make bench-realtime
    .venv/bin/python -m bench realtime --rounds 1 --seconds 2      # a short form
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import jwt
import psycopg
from rich.console import Console

from bench import machine, report
from bench.environment import ServerError
from bench.gateway_servers import gateway
from bench.machine import ROOT
from bench.realtime_load import token
from bench.report import Bar, Measurement
from bench.servers import Server, database_server, free_port, postgres_version, serving

OURS = "Amphibase"
BARE_INSERT = "bare INSERT"
ITS_INSERT = "its INSERT, p99"
IN_SQL = "asked one by one"
BARE_LOOP = "bare uvicorn"
NO_SUBSCRIBER = "no subscriber"
BY_TRIGGERS = "by triggers"
WANTED = "wanted"

SUBSCRIBERS, MANY = 100, 1_000
RATE = 100.0
BURST, BURSTS = 100, 10
BROADCASTS = 10.0
PEER_CHANGES = 3
KILOBYTES, QUERIES = 30.0, 0.1
OUR_PACKAGES = ("amphibase", "psycopg", "orjson", "uvicorn", "uvloop", "websockets")

TABLES = """
CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO authenticated;
CREATE TABLE bench.notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner uuid, half int, sent float8
);
CREATE TABLE bench.halves (LIKE bench.notes INCLUDING ALL);
CREATE TABLE bench.open_notes (LIKE bench.notes INCLUDING ALL);
GRANT SELECT ON ALL TABLES IN SCHEMA bench TO authenticated;
ALTER TABLE bench.notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE bench.halves ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON bench.notes TO authenticated USING (owner = (SELECT auth.uid()));
CREATE POLICY half ON bench.halves TO authenticated
    USING (half = (SELECT (auth.jwt() ->> 'half')::int));
ALTER PUBLICATION supabase_realtime ADD TABLE bench.notes, bench.halves, bench.open_notes;
"""

# What Supabase Realtime does for each change (walrus, `realtime.apply_rls`), without its filters:
# a prepared query for the row's key, executed as each subscriber.
PEER = """
CREATE FUNCTION bench.ask(ids bigint[], claims text[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    id bigint;
    text text;
    is_visible boolean;
    visible bigint := 0;
BEGIN
    FOREACH id IN ARRAY ids LOOP
        EXECUTE format(
            'PREPARE visible AS SELECT EXISTS (SELECT 1 FROM bench.notes WHERE id = %L::bigint)', id
        );
        FOREACH text IN ARRAY claims LOOP
            PERFORM set_config('role', 'authenticated', true),
                set_config('request.jwt.claims', text, true);
            EXECUTE 'EXECUTE visible' INTO is_visible;
            visible := visible + is_visible::int;
        END LOOP;
        PERFORM set_config('role', 'none', true);
        DEALLOCATE visible;
    END LOOP;
    RETURN visible;
END $$
"""


def load(scenario: str, **arguments: Any) -> dict[str, float]:
    """Run a scenario in a process of its own; return its figures."""
    command = [sys.executable, "-m", "bench.realtime_load", scenario, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServerError(scenario, "the clients failed", done.stderr)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def ask_one_by_one(url: str) -> float:
    """Changes a second of the peer, with as many subscribers."""
    claims = [json.dumps(_claims(number)) for number in range(MANY)]
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO bench.notes (owner) SELECT gen_random_uuid() FROM generate_series(1, 10)"
        )
        row = connection.execute(
            "SELECT array_agg(id) FROM (SELECT id FROM bench.notes LIMIT %s) AS n", [PEER_CHANGES]
        ).fetchone()
        begin = perf_counter()
        connection.execute("SELECT bench.ask(%s, %s)", [row and row[0], claims])
        return PEER_CHANGES / (perf_counter() - begin)


def _claims(number: int) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token(number), options={"verify_signature": False})
    return claims


@contextmanager
def bare_uvicorn(scratch: Path) -> Iterator[Server]:
    """The floor of broadcasts, served as the gateway is."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "bench.realtime_floor:app", "--no-access-log",
        "--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio",
        "--ws-per-message-deflate", "false", "--port", str(port),
    ]  # fmt: skip
    with serving(BARE_LOOP, command, port, "/", {}, ROOT, scratch) as server:
        yield server


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show the figures and write them down; return whether every bar is met."""
    title = f"{SUBSCRIBERS} subscribers with claims of their own, {RATE:g} changes/s"
    p50 = Measurement(f"INSERT to client, p50: {title}", "ms", (Bar(BARE_INSERT, "at most", 3),))
    p99 = Measurement("the same, p99", "ms", (Bar(BARE_INSERT, "at most", 10),))
    rate = Measurement(
        f"changes decided and delivered, {MANY} subscribers, bursts of {BURST}", "changes/s",
        (Bar(IN_SQL, "at least", 50),),
    )  # fmt: skip
    fan_out = Measurement(
        f"broadcast to {MANY} sockets, one of which does not read", "µs of CPU per delivery",
        (Bar(BARE_LOOP, "at most", 1.1),),
    )  # fmt: skip
    memory = Measurement("idle connection with a channel", "kB", (Bar(WANTED, "at most", 1),))
    writers = Measurement(
        f"inserts of 4 writers beside {SUBSCRIBERS} subscribers", "inserts/s",
        (Bar(NO_SUBSCRIBER, "at least", 0.6),),
    )  # fmt: skip
    queries = Measurement(
        f"transactions per change without row level security, {MANY} subscribers", "",
        (Bar(WANTED, "at most", 1),),
    )  # fmt: skip
    found = machine.facts()
    machine.pin(0, machine.OTHER_CORES)
    with (
        tempfile.TemporaryDirectory() as folder,
        database_server(Path(folder), wal_level="logical", max_connections="200") as postgres,
    ):
        scratch = Path(folder)
        url = postgres.create_database("bench")
        with gateway(OURS, url, scratch) as server:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(TABLES)
                connection.execute(PEER)
            of_database = {"port": server.port, "url": url}
            of_process = {"port": server.port, "pid": server.process.pid}
            memory.add(OURS, load("idle", **of_process, count=MANY)["kilobytes"])
            memory.add(WANTED, KILOBYTES)
            figures = load("queries", **of_database, count=MANY, changes=BURST, rounds=BURSTS)
            queries.add(OURS, figures["queries"])
            queries.add(WANTED, QUERIES)
            for _ in range(rounds):
                scheduled = {"seconds": seconds, "rate": RATE}
                trip = load("insert", **of_database, **scheduled)["trip"]
                delays = load("latency", **of_database, count=SUBSCRIBERS, **scheduled)
                for measurement, name in ((p50, "p50"), (p99, "p99")):
                    measurement.add(OURS, delays[name])
                    measurement.add(BARE_INSERT, trip)
                p99.add(ITS_INSERT, delays["trip_p99"])
                figures = load("bursts", **of_database, count=MANY, changes=BURST, rounds=BURSTS)
                rate.add(OURS, figures["rate"])
                rate.add(IN_SQL, ask_one_by_one(url))
                with bare_uvicorn(scratch) as floor:
                    of_floor = {"port": floor.port, "pid": floor.process.pid}
                    servers = {OURS: {**of_process, "slow": 1}, BARE_LOOP: {**of_floor, "slow": 0}}
                    sent = {"count": MANY, "seconds": seconds, "rate": BROADCASTS}
                    for name, spent in load("broadcast", servers=servers, **sent).items():
                        fan_out.add(name, spent)
                for name, count in ((OURS, SUBSCRIBERS), (NO_SUBSCRIBER, 0)):
                    figures = load("writers", **of_database, count=count, seconds=seconds)
                    writers.add(name, figures["rate"])
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER ROLE supabase_realtime_admin NOREPLICATION")
        with gateway(BY_TRIGGERS, url, scratch) as server:
            of_database = {"port": server.port, "url": url}
            for _ in range(rounds):
                delays = load(
                    "latency", **of_database, count=SUBSCRIBERS, seconds=seconds, rate=RATE
                )
                p50.add(BY_TRIGGERS, delays["p50"])
                p99.add(BY_TRIGGERS, delays["p99"])
                figures = load("writers", **of_database, count=SUBSCRIBERS, seconds=seconds)
                writers.add(BY_TRIGGERS, figures["rate"])
        measurements = [p50, p99, rate, fan_out, memory, writers, queries]
        return report.finish(
            "realtime", measurements, None, console,
            machine=found, versions=machine.installed(*OUR_PACKAGES),
            postgres=postgres_version(url), rounds=rounds, seconds=seconds,
        )  # fmt: skip
