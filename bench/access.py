"""Lists, rows by id, counts and searches of one in a thousand organisations: as Amphibase writes
them, as a predicate and under row level security, beside the forms that people write by hand.

    make bench-access
    .venv/bin/python -m bench.access --rows 100000 --callers 10      # a short form

Each form runs for up to 50 callers of each kind, for fewer where it is slow. What takes longer than
`TIMEOUT_MS` is cancelled, and is then at least so slow. The forms of a caller take turns, each on a
connection of its own that has planned the statement for all callers. In a turn, a query runs some
times in one pipeline; what counts is the median of the turns, and then of the callers. Queries that
take less than `SHORT_MS` are compared by the time that the processor works in the server process of
their connection: what a client waits for is mostly that the two processes are woken.

The measurements share `--seconds`: a case that has spent its part runs for no further callers.
Where the output is no terminal, a line for each case says how far they are, and an interrupted run
ends with the table of what it has measured.

Two cases are near their bar or below it:

- A list of a caller in no organisation takes the server 0.03 ms beside 0.013 ms. One statement is
  for all callers: it has a part for few organisations, one for many and one for too many, and
  Postgres prepares each before it runs. Which part counts is known once the memberships are read,
  and a round trip for them alone would take longer than what it saves.
- A list of a caller in 500, by policies and beside an index by time, is read as the list by hand
  is, and the memberships are read twice: by the statement, to count them, and by the policy, which
  has no access to values of the statement.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
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
from bench.access_timing import Duration, Form, Turns

MODES = ("predicate", "policies")
INDEXES = """
SELECT indexname::text, indexdef FROM pg_indexes
WHERE tablename = 'bench_tickets' AND indexdef NOT LIKE 'CREATE UNIQUE%'
"""
ROUNDS = 6
"""How often each form has its turn with a caller."""
SHORT_MS = 1.0
LEAST_CALLERS, ENOUGH_SECONDS = 3, 1.0
"""How many callers a form is measured for, and the seconds after which no others follow."""


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

    def measure(
        self, forms: dict[str, Form], callers: Sequence[tuple[UUID, UUID]], seconds: float
    ) -> None:
        """Run the forms for the callers, by turns.

        Args:
            callers: the id of each, and of a row to read.
            seconds: after which no other caller follows.
        """
        end = time.monotonic() + seconds
        forms = {name: form for name, form in forms.items() if self.query in form.queries}
        spent = dict.fromkeys(forms, 0.0)
        for number, (caller, id) in enumerate(callers):
            taking = {
                name: Turns(form, self.query, caller, id)
                for name, form in forms.items()
                if name == OURS or number < LEAST_CALLERS or spent[name] <= ENOUGH_SECONDS
            }
            with ExitStack() as stack:
                for turns in taking.values():
                    stack.enter_context(turns.form.transaction_of(caller))
                    turns.prepare()
                for round_ in range(ROUNDS):
                    # Who goes first changes, so that a drift of the machine favours none.
                    for turns in [*taking.values()][:: 1 if round_ % 2 else -1]:
                        turns.take(round_)
            self._add(taking)
            for name, turns in taking.items():
                spent[name] += turns.spent
            is_enough = min(spent.values()) > ENOUGH_SECONDS and number + 1 >= LEAST_CALLERS
            if is_enough or time.monotonic() > end:
                break

    def _add(self, taken: dict[str, Turns]) -> None:
        """Add what one caller took in each form, which all select the same rows."""
        selected = [turns.rows for turns in taken.values() if not turns.cancelled]
        for name, turns in taken.items():
            if turns.cancelled:
                self.cancelled.add(name)
            else:
                assert turns.rows == selected[0], f"{name} has other rows"
            self.durations.setdefault(name, []).append(turns.duration)

    @property
    def is_short(self) -> bool:
        """Whether ours is compared by the processor's time."""
        return median(each.computed for each in self.durations[OURS]) < SHORT_MS

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
    def name(self) -> str:
        """What it measures, in words."""
        return f"{self.title}: {self.query}, {self.kind}"

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


def measure(url: str, callers: int, seconds: float, console: Console) -> Iterator[Case]:
    """Measure each query of each kind of caller, without and with an index by time alone.

    Yields:
        Each case when it is measured.
    """
    end = time.monotonic() + seconds
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
                for number, case in enumerate(cases):
                    if case.has_index != has_index:
                        continue
                    progress.update(task, description=case.name)
                    part = (end - time.monotonic()) / (len(cases) - number)
                    case.measure(forms[case.mode], ids[case.kind], part)
                    progress.advance(task)
                    if not console.is_terminal:
                        console.print(f"{number + 1} of {len(cases)}: {case.name}")
                    yield case


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
            # Rows are written several times as fast beside no indexes but the key's.
            indexes = connection.execute(INDEXES).fetchall()
            for name, _ in indexes:
                connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
            connection.execute(FILL.format(rows=rows).encode())
            connection.execute("SET maintenance_work_mem = '256MB'")
            for _, definition in indexes:
                connection.execute(definition.encode())
            connection.execute(POLICIES.encode())
            connection.execute("VACUUM ANALYZE")
        yield server.url


def main() -> int:
    """Read the command line, measure, and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.access", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many tickets there are")
    parser.add_argument("--callers", type=int, default=50, help="how many of each kind, up to 50")
    parser.add_argument("--seconds", type=float, default=150, help="for the measurements")
    options = parser.parse_args()
    if options.rows < 1 or not 1 <= options.callers <= 50:
        parser.error("--rows has to be positive, --callers from 1 to 50")
    console = Console()
    facts = machine.facts()
    cases: list[Case] = []
    writing = f"writing {options.rows:,} rows"
    if not console.is_terminal:
        console.print(writing)
    with console.status(writing), ExitStack() as stack:
        url = stack.enter_context(filled_database(options.rows))
        kept = stack.pop_all()
    try:
        with kept:
            for case in measure(url, options.callers, options.seconds, console):
                cases.append(case)
    except KeyboardInterrupt:
        console.print(table(cases))
        console.print("interrupted; nothing is written to a file")
        return 130
    console.print(table(cases))
    met = all(case.met for case in cases)
    path = report.write(
        "access",
        met=met,
        machine=facts,
        settings={
            "rows": options.rows,
            "callers": options.callers,
            "seconds": options.seconds,
        },
        versions={"ours": machine.installed("amphibase", "sqlalchemy", "psycopg")},
        cases=[case.summary() for case in cases],
    )
    missed = sum(not case.met for case in cases)
    console.print(f"{missed} of {len(cases)} cases miss a bar. All figures: {path}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
