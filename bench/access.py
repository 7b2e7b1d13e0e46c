"""Lists, rows by id and counts of one in a thousand organisations: as Amphibase writes them, as a
predicate and under row level security, beside the forms that people write by hand.

    make bench-access
    .venv/bin/python -m bench.access --tickets 50000 --rounds 3      # a short form
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg import sql
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import Mapped, mapped_column

from amphibase import Base, Caller, load_settings, postgres
from amphibase.access import Access, memberships
from amphibase.database.compiled import SelectCache
from amphibase.database.engine import Database
from amphibase.models import Timestamps, uuid7
from amphibase.records.model_info import ModelInfos
from amphibase.schema import commands
from amphibase.sql.records.query_builder import QueryBuilder
from bench import machine, report
from bench.report import Bar, Measurement

OURS = "Amphibase"
ORGANISATIONS = 1_000
WARM, REPEAT = 6, 5
"""How often a query runs before it is timed, by which Postgres has planned it once and for all, and
how often it is timed."""
SLOW_MS = 300.0
"""A query that takes longer runs once."""

JOIN, EXISTS, ANY, LATERAL = "join", "exists", "= any(array)", "lateral"
POLICY_EXISTS, POLICY_ANY, POLICY_LATERAL = "policy: exists", "policy: = any", "policy: lateral"
FUNCTION = "policy: is_member(…)"


class BenchMembership(Base):
    """Who belongs to which organisation."""

    __tablename__ = "bench_memberships"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    organisation_id: Mapped[int] = mapped_column(primary_key=True)


mine = memberships(BenchMembership.organisation_id, of=BenchMembership.user_id)


class BenchTicket(Timestamps, Base):
    """A row of an organisation."""

    __tablename__ = "bench_tickets"
    __access__ = Access(read=mine.has("organisation_id"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organisation_id: Mapped[int]
    title: Mapped[str]
    body: Mapped[str]


COLUMNS = "t.id, t.organisation_id, t.title, t.body, t.created_at, t.updated_at"
NEWEST = "ORDER BY t.created_at DESC, t.id DESC LIMIT 100"
KEYS = "SELECT organisation_id FROM bench_memberships WHERE user_id = %(caller)s"

# The last hundred organisations have old tickets alone. Few have many tickets, most have few.
FILL = """
SELECT setseed(0.5);
INSERT INTO bench_tickets (id, organisation_id, title, body, created_at, updated_at)
SELECT gen_random_uuid(), o, 'ticket ' || n, repeat(md5(n::text), 4),
    timestamptz '2026-01-01' + n * interval '20 seconds' - CASE WHEN o > 900 THEN 3 ELSE 0 END
        * interval '1 year', now()
FROM (SELECT n, 1 + floor(1000 * power(random(), 3))::int AS o
      FROM generate_series(1, {tickets}) n) AS rows;
INSERT INTO bench_memberships
SELECT md5('user ' || n % 20000)::uuid, 1 + floor(900 * random())::int
FROM generate_series(1, {members}) n ON CONFLICT DO NOTHING;
INSERT INTO bench_memberships SELECT md5('old ' || u)::uuid, 900 + 10 * u + n
FROM generate_series(1, 9) u, generate_series(1, 5) n;
INSERT INTO bench_memberships SELECT md5('many ' || u)::uuid, (u + 2 * n) % 1000 + 1
FROM generate_series(1, 10) u, generate_series(1, 500) n ON CONFLICT DO NOTHING;
"""

POLICIES = """
CREATE FUNCTION is_member(organisation int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
AS 'SELECT EXISTS (SELECT FROM bench_memberships m
    WHERE m.organisation_id = organisation AND m.user_id = auth.uid())';
CREATE ROLE by_exists; CREATE ROLE by_any; CREATE ROLE by_function;
GRANT SELECT ON bench_tickets, bench_memberships TO by_exists, by_any, by_function;
GRANT USAGE ON SCHEMA auth TO by_exists, by_any, by_function;
CREATE POLICY own ON bench_memberships FOR SELECT TO by_exists, by_any
USING (user_id = (SELECT auth.uid()));
CREATE POLICY by_exists ON bench_tickets FOR SELECT TO by_exists USING (EXISTS (
    SELECT FROM bench_memberships m
    WHERE m.organisation_id = bench_tickets.organisation_id AND m.user_id = auth.uid()));
CREATE POLICY by_any ON bench_tickets FOR SELECT TO by_any USING (organisation_id = ANY (ARRAY(
    SELECT m.organisation_id FROM bench_memberships m WHERE m.user_id = (SELECT auth.uid()))));
CREATE POLICY by_function ON bench_tickets FOR SELECT TO by_function
USING (is_member(organisation_id));
"""


def by_hand(condition: str) -> dict[str, str]:
    """Return the three queries with a condition of a ticket `t`."""
    where = f"FROM bench_tickets t WHERE {condition}"
    return {
        "list": f"SELECT {COLUMNS} {where} {NEWEST}",
        "by id": f"SELECT {COLUMNS} {where} AND t.id = %(id)s",
        "count": f"SELECT count(*) {where}",
    }


LATERAL_LIST = f"""
SELECT {COLUMNS} FROM ({{keys}}) AS keys(key) CROSS JOIN LATERAL (
    SELECT * FROM bench_tickets t WHERE t.organisation_id = keys.key {NEWEST}
) AS t {NEWEST}"""
PREDICATES = {
    JOIN: {
        name: text.replace(
            "FROM bench_tickets t WHERE",
            "FROM bench_tickets t JOIN bench_memberships m ON m.organisation_id = "
            "t.organisation_id AND m.user_id = %(caller)s WHERE",
        )
        for name, text in by_hand("true").items()
    },
    EXISTS: by_hand(
        "EXISTS (SELECT FROM bench_memberships m WHERE m.organisation_id = t.organisation_id AND "
        "m.user_id = %(caller)s)"
    ),
    ANY: by_hand(f"t.organisation_id = ANY (ARRAY({KEYS}))"),
    LATERAL: {"list": LATERAL_LIST.format(keys=KEYS)},
}
UNDER_POLICY = by_hand("true")
POLICY_FORMS = {
    POLICY_EXISTS: ("by_exists", UNDER_POLICY),
    POLICY_ANY: ("by_any", UNDER_POLICY),
    POLICY_LATERAL: ("by_any", {"list": LATERAL_LIST.format(keys=KEYS)}),
    FUNCTION: ("by_function", UNDER_POLICY),
}


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write the three queries.

    Attributes:
        role: of the database, which has a policy of its own; empty for the tables' owner.
    """

    connection: psycopg.Connection[Any]
    role: str
    queries: dict[str, str]

    def milliseconds(self, query: str, caller: UUID, id: UUID | None) -> float:
        """Return how long a query of a caller takes, at the median."""
        parameters = {"caller": caller, "id": id, "key_0": id}
        times = []
        with self.connection.transaction(force_rollback=True):
            claims = json.dumps({"sub": str(caller), "role": "authenticated"})
            self.connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims])
            if self.role:
                role = sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self.role))
                self.connection.execute(role)
            for _ in range(WARM + REPEAT):
                began = time.perf_counter()
                text = cast("Any", self.queries[query])
                self.connection.execute(text, parameters, prepare=True).fetchall()
                times.append((time.perf_counter() - began) * 1000)
                if times[-1] > SLOW_MS:
                    break
        return median(times[-REPEAT:])


def our_queries(*, rls: bool) -> dict[str, str]:
    """Return the queries as a repository sends them."""
    caller = Caller("authenticated", UUID(int=1))
    infos = ModelInfos("postgresql")
    info = infos.of(BenchTicket, caller)
    builder = QueryBuilder(
        info,
        infos,
        caller,
        cast("Any", None),
        SelectCache(),
        cast("Any", None),
        rls=rls,
        max_page_bytes=8 << 20,
    )
    order = builder.ordering(())
    rows = builder._list(info.select, (), order, limit=100)
    count = builder.visible(select(func.count()).select_from(info.table))
    by_id = builder.by_key(info.select, UUID(int=1)).select
    return {"list": _text(rows.select), "by id": _text(by_id), "count": _text(count)}


def _text(statement: Select[Any]) -> str:
    return str(statement.compile(dialect=PGDialect_psycopg()))  # type: ignore[no-untyped-call]


CALLERS = {
    "typical": [f"user {n}" for n in range(50)],
    "in old organisations": [f"old {n}" for n in range(1, 10)],
    "in none": [f"nobody {n}" for n in range(10)],
    "in 500": [f"many {n}" for n in range(1, 11)],
}


def measure(url: str, rounds: int, console: Console) -> list[Measurement]:
    """Measure each query of each kind of caller, with and without an index by time alone."""
    measurements = []
    with ExitStack() as stack:

        def form(role: str, queries: dict[str, str]) -> Form:
            connection = stack.enter_context(psycopg.connect(url, autocommit=True))
            return Form(connection, role, queries)

        admin = stack.enter_context(psycopg.connect(url, autocommit=True))
        modes = {
            "predicate": {
                OURS: form("", our_queries(rls=False)),
                **{name: form("", queries) for name, queries in PREDICATES.items()},
            },
            "policies": {
                OURS: form("authenticated", our_queries(rls=True)),
                **{name: form(*parts) for name, parts in POLICY_FORMS.items()},
            },
        }
        progress = stack.enter_context(Progress(console=console, transient=True))
        task = progress.add_task("callers", total=2 * len(modes) * len(CALLERS) * 3)
        for index in ("without", "with"):
            if index == "with":
                admin.execute("CREATE INDEX bench_by_time ON bench_tickets (created_at, id)")
                admin.execute("ANALYZE bench_tickets")
            for mode, forms in modes.items():
                for kind, names in CALLERS.items():
                    for query in UNDER_POLICY:
                        title = f"{mode}: {query}, caller {kind}, {index} (created_at, id)"
                        measurements.append(
                            _measure(admin, title, query, kind, names[:rounds], forms)
                        )
                        progress.advance(task)
    return measurements


def _measure(
    admin: psycopg.Connection[Any],
    title: str,
    query: str,
    kind: str,
    callers: list[str],
    forms: dict[str, Form],
) -> Measurement:
    present = {name: form for name, form in forms.items() if query in form.queries}
    bars = [Bar(name, "at least", _bar(name, query, kind)) for name in present if name != OURS]
    measurement = Measurement(title, "queries/s", tuple(bars))
    for name in callers:
        row = admin.execute("SELECT md5(%s)::uuid", [name]).fetchone()
        assert row is not None
        (caller,) = row
        found = admin.execute(
            "SELECT id FROM bench_tickets JOIN bench_memberships USING (organisation_id) "
            "WHERE user_id = %s LIMIT 1",
            [caller],
        ).fetchone()
        for form, each in present.items():
            id = found[0] if found else UUID(int=0)
            measurement.add(form, 1000 / each.milliseconds(query, caller, id))
    return measurement


def _bar(form: str, query: str, kind: str) -> float:
    """Return how many times as fast as a form ours has to be."""
    is_of_few = kind in ("typical", "in old organisations")
    if form == FUNCTION and query == "list" and kind == "typical":
        return 10
    if form == POLICY_EXISTS and query == "count" and is_of_few:
        return 10
    return 0.8


@contextmanager
def filled_database(tickets: int) -> Iterator[str]:
    """Open a database with tickets and the policies of every form."""
    with (
        tempfile.TemporaryDirectory(prefix="amphibase-bench-") as folder,
        postgres.start(Path(folder) / "data", fsync=False, settings={"jit": "off"}) as server,
    ):
        settings = load_settings(database_url=server.url, rls=True)

        async def create() -> None:
            database = Database(settings.database)
            await commands.ensure(database, settings, Base.metadata)
            await database.close()

        asyncio.run(create())
        with psycopg.connect(server.url, autocommit=True) as connection:
            members = max(tickets // 10, 20_000)
            connection.execute(FILL.format(tickets=tickets, members=members).encode())
            connection.execute(POLICIES.encode())
            connection.execute("VACUUM ANALYZE")
        yield server.url


def main() -> int:
    """Read the command line, measure, and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.access", description=__doc__)
    parser.add_argument("--tickets", type=int, default=1_000_000, help="how many rows there are")
    parser.add_argument("--rounds", type=int, default=50, help="how many callers of each kind")
    options = parser.parse_args()
    console = Console()
    facts = machine.facts()
    with filled_database(options.tickets) as url:
        measurements = measure(url, options.rounds, console)
    met = report.finish(
        "access",
        measurements,
        None,
        console,
        machine=facts,
        settings={"tickets": options.tickets, "callers": options.rounds},
        versions={"ours": machine.installed("amphibase", "sqlalchemy", "psycopg")},
    )
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
