"""Lists, rows by id, counts and searches of one in a thousand organisations: as Amphibase writes
them, as a predicate and under row level security, beside the forms that people write by hand.

    make bench-access
    .venv/bin/python -m bench.access --rows 100000 --callers 10      # a short form

Each form runs for up to 50 callers of each kind, for fewer where it is slow. What takes longer than
`TIMEOUT_MS` is cancelled, and is then at least so slow. Queries that take less than `SHORT_MS` are
compared by the processor's time of their connection's server process: most of what a client waits
for is then that the two processes are woken, by chance on the same core or on another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast
from uuid import UUID

import psycopg
from psycopg import sql
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Index

from amphibase import Base, load_settings, postgres
from amphibase.database.engine import Database
from amphibase.schema import commands
from bench import machine, report
from bench.access_forms import (
    BY_HAND,
    CALLERS,
    COUNT,
    EXISTS,
    FILL,
    FUNCTION,
    LIST,
    MANY,
    OURS,
    POLICIES,
    POLICY_FORMS,
    PREDICATES,
    QUERIES,
    SEARCHES,
    TYPICAL,
    BenchTicket,
    our_queries,
)

MODES = ("predicate", "policies")
WARM = 7
"""How often a connection runs a query before it is timed, by which Postgres has planned it once and
for all."""
LEAST_RUNS, MOST_RUNS, ENOUGH_MS = 5, 20, 4.0
"""How often a query of one caller is timed, and the time after which that is enough. The fastest
run counts: what makes others slower are other programs."""
TIMEOUT_MS = 1_000
SHORT_MS = 1.0
LEAST_CALLERS, ENOUGH_SECONDS = 3, 1.0
"""How many callers a form is measured for, and the seconds after which no others follow."""


class Duration(NamedTuple):
    """How long a query takes, in milliseconds.

    Attributes:
        waited: until the client has its rows.
        computed: of the processor's time, by the server process of the connection alone.
    """

    waited: float
    computed: float


TIMED_OUT = Duration(TIMEOUT_MS, TIMEOUT_MS)


@dataclass(slots=True)
class Form:
    """One way to write the queries, with a connection of its own.

    Attributes:
        role: of the database, which has a policy of its own; empty for the tables' owner.
    """

    connection: psycopg.Connection[Any]
    role: str
    queries: dict[str, str]
    warm: set[str] = field(default_factory=set)

    def run(self, query: str, caller: UUID, id: UUID) -> tuple[Duration, list[Any]] | None:
        """Return how long a query of a caller takes, and its rows.

        Returns:
            None where it takes longer than `TIMEOUT_MS`.
        """
        try:
            with self.connection.transaction():
                return self._run(query, caller, id)
        except psycopg.errors.QueryCanceled:
            self.warm.clear()  # psycopg forgets what it prepared when a transaction is undone
            return None

    def _run(self, query: str, caller: UUID, id: UUID) -> tuple[Duration, list[Any]]:
        claims = json.dumps({"sub": str(caller), "role": "authenticated"})
        self.connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims])
        self.connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}".encode())
        if self.role:
            role = sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self.role))
            self.connection.execute(role)
        text = cast("Any", self.queries[query])
        parameters = {"caller": caller, "id": id, "key_0": id}
        times: list[float] = []
        warm = 1 if query in self.warm else WARM
        computed = 0.0
        while len(times) < warm + MOST_RUNS:
            if len(times) == warm:
                computed = self._computed()
            began = time.perf_counter()
            # The rows have arrived then; that Python reads them is left out.
            cursor = self.connection.execute(text, parameters, prepare=True)
            times.append((time.perf_counter() - began) * 1000)
            is_enough = len(times) >= warm + LEAST_RUNS and sum(times[warm:]) > ENOUGH_MS
            if is_enough or times[-1] > 10 * ENOUGH_MS:
                break
        self.warm.add(query)
        timed = times[warm:]
        if not timed:
            return Duration(times[-1], times[-1]), cursor.fetchall()
        computed = (self._computed() - computed) / len(timed)
        return Duration(min(timed), computed), cursor.fetchall()

    def _computed(self) -> float:
        """Return the processor's time of the server process until now, in milliseconds."""
        statistics = Path(f"/proc/{self.connection.info.backend_pid}/schedstat").read_text()
        return int(statistics.split()[0]) / 1e6


@dataclass(slots=True)
class Case:
    """One query of one kind of caller, in each form.

    Attributes:
        durations: by form, of each caller.
        cancelled: the forms that took too long for a caller: their times are the least.
    """

    mode: str
    query: str
    kind: str
    has_index: bool
    durations: dict[str, list[Duration]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)

    def measure(self, forms: dict[str, Form], callers: Sequence[tuple[UUID, UUID]]) -> None:
        """Run the forms for the callers, by turns.

        Args:
            callers: the id of each, and of a row to read.
        """
        forms = {name: form for name, form in forms.items() if self.query in form.queries}
        spent = dict.fromkeys(forms, 0.0)
        for number, (caller, id) in enumerate(callers):
            expected: list[Any] | None = None
            # Who goes first changes, so that a drift of the machine favours none.
            for name, form in [*forms.items()][:: 1 if number % 2 else -1]:
                is_enough = spent[name] > ENOUGH_SECONDS and number >= LEAST_CALLERS
                if is_enough and name != OURS:
                    continue
                began = time.perf_counter()
                done = form.run(self.query, caller, id)
                spent[name] += time.perf_counter() - began
                if done is None:
                    self.cancelled.add(name)
                else:
                    expected = done[1] if expected is None else expected
                    assert done[1] == expected, f"{name} has other rows"
                self.durations.setdefault(name, []).append(done[0] if done else TIMED_OUT)
            if min(spent.values()) > ENOUGH_SECONDS and number + 1 >= LEAST_CALLERS:
                break

    @property
    def is_short(self) -> bool:
        """Whether ours is compared by the processor's time."""
        return median(each.waited for each in self.durations[OURS]) < SHORT_MS

    def times(self, form: str) -> list[float]:
        """Return by what a form is compared, in milliseconds for each caller."""
        return [each.computed if self.is_short else each.waited for each in self.durations[form]]

    def ratio(self, form: str) -> float:
        """Return how many times as fast as a form ours is, at the median of the callers."""
        pairs = zip(self.times(form), self.times(OURS), strict=False)
        return median(theirs / ours for theirs, ours in pairs)

    @property
    def title(self) -> str:
        """What the cases of a section of the table have in common."""
        return f"{self.mode}, index" if self.has_index else self.mode

    @property
    def by_hand(self) -> str:
        """The fastest of the forms by hand."""
        return min((name for name in BY_HAND if name in self.durations), key=self.ratio)

    def bars(self) -> dict[str, float]:
        """Return how many times as fast as other forms ours has to be."""
        if self.query in SEARCHES:
            return {self.by_hand: 1 / 3}
        bars = {self.by_hand: 0.8}
        is_of_few = self.kind != MANY and self.mode == "policies"
        if EXISTS in self.durations:
            bars[EXISTS] = 10.0 if self.query == COUNT and is_of_few else 0.8
        if FUNCTION in self.durations and self.query == LIST and self.kind == TYPICAL:
            bars[FUNCTION] = 10.0
        return bars

    def misses(self, form: str) -> bool:
        """Return whether ours is too slow beside a form."""
        if form not in self.bars():
            return False
        is_cancelled = OURS in self.cancelled and form not in self.cancelled
        return is_cancelled or self.ratio(form) < self.bars()[form]

    @property
    def met(self) -> bool:
        """Whether ours is fast enough."""
        return not any(map(self.misses, self.bars()))

    def compared(self, form: str) -> str:
        """Return the ratio as the table shows it, in colour where there is a bar."""
        if form not in self.durations:
            return ""
        text = report.number(self.ratio(form))
        if form in self.cancelled:
            text = f"≥ {text}"
        if form not in self.bars():
            return text
        return f"[red]{text}[/red]" if self.misses(form) else f"[green]{text}[/green]"

    def summary(self) -> dict[str, Any]:
        """Return what the JSON file says of it."""
        forms = {
            name: {
                "median": median(self.times(name)),
                "worst": max(self.times(name)),
                "callers": len(durations),
                "cancelled": name in self.cancelled,
                "ratio": self.ratio(name),
            }
            for name, durations in self.durations.items()
        }
        bars = {
            name: {"at least": bar, "met": not self.misses(name)}
            for name, bar in self.bars().items()
        }
        return {
            "mode": self.mode,
            "query": self.query,
            "caller": self.kind,
            "index_by_time": self.has_index,
            "forms": forms,
            "bars": bars,
        }


def table(cases: Sequence[Case]) -> Table:
    """Return the table of all cases: milliseconds, and ratios to other forms."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for name in ("", "Caller"):
        shown.add_column(name, no_wrap=True)
    for name in ("ms", "Worst", "By hand", "ms", "Ratio", EXISTS, FUNCTION):
        shown.add_column(name, justify="right", no_wrap=True)
    title = ""
    for case in cases:
        if case.title != title:
            title = case.title
            shown.add_section()
            shown.add_row(f"[bold]{title}[/bold]")
        ours, theirs = case.times(OURS), case.times(case.by_hand)
        shown.add_row(
            case.query,
            case.kind,
            report.number(median(ours)),
            report.number(max(ours)),
            case.by_hand,
            report.number(median(theirs)),
            case.compared(case.by_hand),
            case.compared(EXISTS),
            case.compared(FUNCTION),
        )
    return shown


def measure(url: str, callers: int, console: Console) -> list[Case]:
    """Measure each query of each kind of caller, without and with an index by time alone."""
    cases = [
        Case(mode, query, kind, has_index)
        for has_index in (False, True)
        for mode in MODES
        for query in (*QUERIES, *(SEARCHES if mode == "policies" and not has_index else ()))
        for kind in CALLERS
    ]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(cases))
        for has_index in (False, True):
            if has_index:
                _add_index(url)
            with ExitStack() as stack:
                admin = stack.enter_context(psycopg.connect(url, autocommit=True))
                ids = {kind: _ids(admin, word, callers) for kind, word in CALLERS.items()}
                forms = {mode: _forms(url, mode, stack) for mode in MODES}
                for case in (case for case in cases if case.has_index == has_index):
                    progress.update(task, description=f"{case.mode}: {case.query}, {case.kind}")
                    case.measure(forms[case.mode], ids[case.kind])
                    progress.advance(task)
    return cases


def _add_index(url: str) -> None:
    """Add the index to the table and to the model, as an application does."""
    index = Index("bench_by_time", BenchTicket.created_at, BenchTicket.id)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE INDEX {index.name} ON bench_tickets (created_at, id)".encode())
        connection.execute("VACUUM ANALYZE bench_tickets")


def _forms(url: str, mode: str, stack: ExitStack) -> dict[str, Form]:
    def form(role: str, queries: dict[str, str]) -> Form:
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        return Form(connection, role, queries)

    if mode == "predicate":
        by_hand = {name: form("", queries) for name, queries in PREDICATES.items()}
        return {OURS: form("", our_queries(rls=False)), **by_hand}
    by_hand = {name: form(*parts) for name, parts in POLICY_FORMS.items()}
    return {OURS: form("authenticated", our_queries(rls=True)), **by_hand}


def _ids(admin: psycopg.Connection[Any], word: str, count: int) -> list[tuple[UUID, UUID]]:
    """Return callers, each with the id of a ticket that they see, if there is one."""
    query = """
    SELECT user_id, COALESCE((
        SELECT t.id FROM bench_memberships m JOIN bench_tickets t USING (organisation_id)
        WHERE m.user_id = users.user_id LIMIT 1
    ), user_id) FROM (SELECT md5(%s || ' ' || n)::uuid AS user_id
                      FROM generate_series(0, %s - 1) n) AS users
    """
    return admin.execute(query, [word, count]).fetchall()


@contextmanager
def filled_database(rows: int) -> Iterator[str]:
    """Open a database with tickets and the policies of every form."""
    with (
        tempfile.TemporaryDirectory(prefix="amphibase-bench-") as folder,
        postgres.start(
            Path(folder) / "data",
            fsync=False,
            settings={"jit": "off", "shared_buffers": "512MB", "max_wal_size": "4GB"},
        ) as server,
    ):
        settings = load_settings(database_url=server.url, rls=True)

        async def create() -> None:
            database = Database(settings.database)
            await commands.ensure(database, settings, Base.metadata)
            await database.close()

        asyncio.run(create())
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(FILL.format(rows=rows).encode())
            connection.execute(POLICIES.encode())
            connection.execute("VACUUM ANALYZE")
        yield server.url


def main() -> int:
    """Read the command line, measure, and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.access", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many tickets there are")
    parser.add_argument("--callers", type=int, default=50, help="how many of each kind, up to 50")
    options = parser.parse_args()
    if options.rows < 1 or not 1 <= options.callers <= 50:
        parser.error("--rows has to be positive, --callers from 1 to 50")
    console = Console()
    facts = machine.facts()
    with console.status(f"writing {options.rows:,} rows"), ExitStack() as stack:
        url = stack.enter_context(filled_database(options.rows))
        kept = stack.pop_all()
    with kept:
        cases = measure(url, options.callers, console)
    console.print(table(cases))
    met = all(case.met for case in cases)
    path = report.write(
        "access",
        met=met,
        machine=facts,
        settings={"rows": options.rows, "callers": options.callers},
        versions={"ours": machine.installed("amphibase", "sqlalchemy", "psycopg")},
        cases=[case.summary() for case in cases],
    )
    missed = sum(not case.met for case in cases)
    console.print(f"{missed} of {len(cases)} cases miss a bar. All figures: {path}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
