"""How long a query takes in one of the forms of `access`, for one caller."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple, cast
from uuid import UUID

import psycopg
from psycopg import sql

WARM = 7
"""How often a connection runs a query before it is timed, by which Postgres has planned it once and
for all."""
WARM_AGAIN = 3
"""The same for another caller."""
RUNS = ((0.2, 100), (1.0, 20), (5.0, 5), (math.inf, 1))
"""How often a query runs in a turn that takes less than so many milliseconds. Queries of about the
same time run equally often, since a turn has a price of its own."""
SLOW_MS = 50.0
"""What takes longer runs once."""
TIMEOUT_MS = 1_000


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
        warm: the queries that it has prepared.
    """

    connection: psycopg.Connection[Any]
    role: str
    queries: dict[str, str]
    warm: set[str] = field(default_factory=set)

    @contextmanager
    def transaction_of(self, caller: UUID) -> Iterator[None]:
        """Open a transaction with the role and the claims of a caller."""
        claims = json.dumps({"sub": str(caller), "role": "authenticated"})
        with self.connection.transaction():
            self.connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims])
            self.connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}".encode())
            if self.role:
                role = sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self.role))
                self.connection.execute(role)
            yield

    def run(self, query: str, caller: UUID, id: UUID, times: int) -> tuple[Duration, list[Any]]:
        """Run a query several times in one pipeline, and return how long one took, and its rows.

        Raises:
            psycopg.errors.QueryCanceled: it takes longer than `TIMEOUT_MS`.
        """
        text = cast("Any", self.queries[query])
        parameters = {"caller": caller, "id": id, "key_0": id}
        computed, began = self._computed(), time.perf_counter()
        with self.connection.pipeline():
            for _ in range(times):
                cursor = self.connection.execute(text, parameters, prepare=True)
        # The rows have arrived then; that Python reads them is left out.
        waited = time.perf_counter() - began
        computed = self._computed() - computed
        return Duration(waited * 1000 / times, computed * 1000 / times), cursor.fetchall()

    def _computed(self) -> float:
        """Return the processor's time of the server process until now, in seconds: what
        `clock_getcpuclockid` of Linux returns for it. `/proc` leaves out what it is doing now."""
        return time.clock_gettime((~self.connection.info.backend_pid << 3) | 2)


@dataclass(slots=True)
class Turns:
    """The turns of a form with one caller.

    Attributes:
        rows: what the query selects.
        durations: one for each turn.
        cancelled: whether it took too long.
        spent: in seconds, by all of them.
    """

    form: Form
    query: str
    caller: UUID
    id: UUID
    rows: list[Any] = field(default_factory=list)
    durations: list[Duration] = field(default_factory=list)
    cancelled: bool = False
    spent: float = 0.0
    _runs: int = 1

    def prepare(self) -> None:
        """Run the query until what it reads is in memory, and Postgres has planned it."""
        least = math.inf
        for _ in range(WARM_AGAIN if self.query in self.form.warm else WARM):
            duration = self._run(1)
            if duration is None:
                return
            if duration.computed > SLOW_MS:
                self.durations.append(duration)
                return
            least = min(least, duration.computed)
        self.form.warm.add(self.query)
        self._runs = next(runs for limit, runs in RUNS if least < limit)

    def take(self, number: int) -> None:
        """Run the query in its turn, by the number of the round, unless it is slow."""
        if len(self.durations) == number and not self.cancelled:
            duration = self._run(self._runs)
            self.durations += [duration] if duration is not None else []

    @property
    def duration(self) -> Duration:
        """How long it takes."""
        if self.cancelled:
            return TIMED_OUT
        return Duration(*map(median, zip(*self.durations, strict=True)))

    def _run(self, times: int) -> Duration | None:
        began = time.perf_counter()
        try:
            duration, self.rows = self.form.run(self.query, self.caller, self.id, times)
        except psycopg.errors.QueryCanceled:
            self.form.warm.clear()  # psycopg forgets what it prepared when a transaction is undone
            self.cancelled = True
            return None
        finally:
            self.spent += time.perf_counter() - began
        return duration
