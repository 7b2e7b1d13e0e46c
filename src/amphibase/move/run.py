"""Runs a plan: its checks, its stages one after the other, the proof, and the way back."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Self

from amphibase.errors import MoveFailed
from amphibase.models import utc_now
from amphibase.move.accounts.stage import AccountsStage
from amphibase.move.catalog import TableName
from amphibase.move.check import check_sides
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Endpoint, Role, parse_endpoint
from amphibase.move.files.stage import FilesStage
from amphibase.move.freeze import frozen, thaw
from amphibase.move.freezers import build_freezer
from amphibase.move.journal import Journal
from amphibase.move.plan import EndPlan, Plan, read_plan
from amphibase.move.progress import NoProgress, Progress
from amphibase.move.quarantine import Quarantine
from amphibase.move.report import RunOutcome, RunReport
from amphibase.move.stage import Kept, Outcome, PreflightCheck, Stage, task_of
from amphibase.move.tables.sides import open_tables
from amphibase.move.tables.stage import TablesStage

ROUNDS = 5
"""How often the source's changes are looked for while it is written to."""

FROZEN_ROUNDS = 4
"""The last finds nothing to do, unless something else writes to the target: a row that refers to a
later one takes two, and over the Data API a third, where triggers of your own count its changes."""

ACCOUNT_TABLES = ("users", "identities", "mfa_factors", "sessions", "refresh_tokens")
FILE_TABLES = ("buckets", "objects")


class ChecksFailed(MoveFailed):
    """Raised before anything is written: the checks that failed say what to do."""

    def __init__(self, checks: Sequence[PreflightCheck]) -> None:
        self.checks = [check for check in checks if check.outcome is Outcome.FAIL]
        lines = [f"{check.subject}: {check.message}" for check in self.checks]
        super().__init__("\n".join(["Nothing was moved:", *lines]))


class Move:
    """A plan with both of its ends open; use it as a context manager.

    Args:
        path: of the plan. Beside it are the journal, the lock, the quarantine and the report.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self._path = path
        self._progress = progress or NoProgress()
        self._journal = Journal(path)
        self._stages: list[Stage] = []
        self._seconds: dict[str, float] = {}
        self._marks: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        """Read the plan and take its lock.

        Raises:
            ConfigurationError: the plan or a variable is wrong.
            Conflict: another run of the same plan is under way.
        """
        plan = read_plan(self._path)
        source, target = endpoints_of(plan)
        async with AsyncExitStack() as opened:
            opened.enter_context(self._journal)
            self._context = MoveContext(
                plan, source, target, self._journal, Quarantine(self._path), self._progress
            )
            self._stages = build_stages(self._context)
            for stage in self._stages:
                opened.push_async_callback(stage.close)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def check(self, *, overwrite: bool = False) -> list[PreflightCheck]:
        """Look at both sides, without writing to them.

        Args:
            overwrite: whether a target may differ from what a verified run has left.
        """
        checks = await check_sides(self._context)
        for stage in self._stages:
            checks += await stage.check()
        if not overwrite and all(check.outcome is not Outcome.FAIL for check in checks):
            checks += await self._check_target()
        return checks

    async def _check_target(self) -> list[PreflightCheck]:
        """Check that nobody has written to the target since a run was verified."""
        left: dict[str, str] | None = self._journal.get("move", "finished")
        if left is None:
            return []
        marks: dict[str, str] = {}
        for stage in self._stages:
            marks |= await stage.marks()
        message = (
            "the target was written to since the move was verified, and another run would undo "
            "that: leave it as it is, or force the run by --overwrite"
        )
        return [
            PreflightCheck(Outcome.FAIL, subject, message)
            for subject, mark in marks.items()
            if left.get(subject, mark) != mark
        ]

    async def run(
        self, *, freeze: bool = False, allow_quarantine: bool = False, overwrite: bool = False
    ) -> RunReport:
        """Move what has not been moved yet, and prove that both sides hold the same.

        Args:
            freeze: whether the source rejects writes during the last pass and the proof.
            allow_quarantine: whether rows that the target rejects are no failure.
            overwrite: whether what was written to the target since a verified run is lost.

        Raises:
            ChecksFailed: a check failed, and nothing was written.
            MoveFailed: it cannot go on; says what to do.
        """
        await thaw(self._context.source, self._journal)
        checks = await self.check(overwrite=overwrite)
        if freeze and (message := await build_freezer(self._context.source).error()):
            checks.append(PreflightCheck(Outcome.FAIL, Role.SOURCE, message))
        if any(check.outcome is Outcome.FAIL for check in checks):
            raise ChecksFailed(checks)
        self._check_ends()
        self._context.overwrite = overwrite
        report = self._report(allow_quarantine=allow_quarantine)
        self._journal.put("move", "began", str(utc_now()))
        self._journal.delete("move", "finished")
        for stage in self._stages:
            if self._journal.get("copied", stage.name) is None:
                with self._timed(stage, "copy"):
                    await stage.run()
                self._journal.put("copied", stage.name, str(utc_now()))
        await self._reconcile(ROUNDS)
        if freeze:
            tables, unknown = await self._frozen_tables()
            async with frozen(self._context.source, tables, self._journal) as state:
                report.unguarded = [*unknown, *map(str, state.unguarded)]
                await self._reconcile(FROZEN_ROUNDS)
                await self._verify(report)
            report.pause_seconds, report.remaining = state.seconds, state.remaining
        else:
            await self._verify(report)
        await self._end(report)
        if report.outcome is not RunOutcome.FAILED:
            self._journal.put("move", "finished", self._marks)
        return report

    async def verify(self, *, allow_quarantine: bool = False) -> RunReport:
        """Read both sides again and compare."""
        report = self._report(allow_quarantine=allow_quarantine)
        await self._verify(report)
        return await self._end(report)

    async def undo(self) -> list[Kept]:
        """Remove what the move wrote, files first; return what was changed since and is kept."""
        await thaw(self._context.source, self._journal)
        kept = []
        for stage in reversed(self._stages):
            with self._timed(stage, "undo"):
                kept += [each async for each in stage.undo()]
            self._journal.delete("copied", stage.name)
        for stage in self._stages:
            await stage.finish()
        # What was kept is the target's own from here on.
        self._journal.clear()
        return kept

    async def must_reset(self) -> AsyncIterator[str]:
        """Yield the users whose password did not move, by their addresses."""
        if self._context.plan.accounts is not None:
            accounts = AccountsStage(self._context)
            try:
                async for user in accounts.must_reset():
                    yield user
            finally:
                await accounts.close()

    def _check_ends(self) -> None:
        """Keep the journal of a move from being read as that of another."""
        ends = [self._context.source.address, self._context.target.address]
        if (self._journal.get("move", "ends") or ends) != ends:
            raise MoveFailed(
                f"The addresses of {self._path} were changed after its run had begun: change them "
                "back, or write another plan"
            )
        self._journal.put("move", "ends", ends)

    async def _reconcile(self, rounds: int) -> None:
        for _ in range(rounds):
            changes = 0
            for stage in self._stages:
                with self._timed(stage, "reconcile"):
                    changes += await stage.reconcile()
            if changes == 0:
                return

    async def _verify(self, report: RunReport) -> None:
        for stage in self._stages:
            with self._timed(stage, "verify"):
                verified = await stage.verify()
                report.add(verified)
                self._marks |= verified.marks

    async def _end(self, report: RunReport) -> RunReport:
        """Complete the report, and remove what only the move needs where it has succeeded."""
        report.quarantined = self._context.quarantine.rows()
        for stage in self._stages:
            if report.outcome is not RunOutcome.FAILED:
                await stage.finish()
        report.seconds = {name: round(spent, 3) for name, spent in self._seconds.items()}
        report.finished_at = utc_now()
        report.write(self._path)
        self._journal.put("move", "outcome", report.outcome)
        return report

    def _report(self, *, allow_quarantine: bool) -> RunReport:
        plan = self._context.plan
        return RunReport(
            plan=plan.name,
            source=plan.source.address,
            target=plan.target.address,
            started_at=utc_now(),
            finished_at=utc_now(),
            not_moved=list(plan.not_moved),
            quarantine_allowed=allow_quarantine,
        )

    @contextmanager
    def _timed(self, stage: Stage, step: str) -> Iterator[None]:
        name = task_of(stage.name, step)
        began = time.monotonic()
        self._progress.start(name, None, "steps")
        try:
            yield
        finally:
            self._progress.finish(name)
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began

    async def _frozen_tables(self) -> tuple[list[TableName], list[str]]:
        """Return the source's tables that the stages read, and the plan's names of no table."""
        plan = self._context.plan
        separator = "." if is_postgres(self._context.source) else "_"
        names = [table.source for table in plan.tables]
        names += [mapping.source for mapping in plan.mappings.values()]
        if plan.accounts is not None:
            own = plan.accounts.table
            names += [own] if own else [f"auth{separator}{name}" for name in ACCOUNT_TABLES]
        if plan.files is not None:
            names += [f"storage{separator}{name}" for name in FILE_TABLES]
        async with open_tables(self._context.source, plan.name) as source:
            catalog = await source.catalog()
        tables = {name: catalog.planned(name) for name in names}
        planned = {table.source for table in plan.tables}
        return (
            [table.name for table in tables.values() if table],
            [name for name in planned if tables[name] is None],
        )


def build_stages(context: MoveContext) -> list[Stage]:
    """Return the stages that a plan needs: accounts first, since rows and files refer to them."""
    plan = context.plan
    stages: list[Stage] = []
    if plan.accounts is not None:
        stages.append(AccountsStage(context))
    if plan.tables or plan.mappings or plan.sequences:
        stages.append(TablesStage(context))
    if plan.files is not None:
        stages.append(FilesStage(context))
    return stages


def endpoints_of(plan: Plan) -> tuple[Endpoint, Endpoint]:
    """Return the ends of a plan, with what opens them from the environment.

    Raises:
        ConfigurationError: a variable is missing, or is of another address.
    """

    def endpoint(end: EndPlan, role: Role) -> Endpoint:
        return parse_endpoint(end.address, role, files=end.files, database=end.database)

    return endpoint(plan.source, Role.SOURCE), endpoint(plan.target, Role.TARGET)


def is_postgres(endpoint: Endpoint) -> bool:
    """Return whether an end is reached as a Postgres."""
    url = endpoint.database
    return url is not None and url.get_backend_name() == "postgresql"
