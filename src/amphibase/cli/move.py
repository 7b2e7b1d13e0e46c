"""`amphibase move`: a live application from one backend to another.

Exit codes: 0 done and verified; 1 failed, or something differs; 2 wrong usage; 3 not verified.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from amphibase.cli.console import messages, results
from amphibase.cli.move_progress import TerminalProgress
from amphibase.errors import MoveFailed, Retryable
from amphibase.move.journal import JournalState, read_state
from amphibase.move.plan import read_plan
from amphibase.move.planning import plan_move
from amphibase.move.progress import JsonProgress, Progress
from amphibase.move.quarantine import Quarantine
from amphibase.move.report import RunOutcome, RunReport
from amphibase.move.run import ChecksFailed, Move
from amphibase.move.stage import Kept, Outcome, PreflightCheck

MAX_LISTED = 20
"""Of differences and the like on a terminal; the report has all."""

COLORS = {Outcome.PASS: "green", Outcome.WARN: "yellow", Outcome.FAIL: "red"}

Result = TypeVar("Result")


class ProgressKind(StrEnum):
    """How progress is shown."""

    LINES = "lines"
    JSON = "json"


app = typer.Typer(help="Move an application to another backend.", no_args_is_help=True)

PlanFile = Annotated[Path, typer.Argument(metavar="[PLAN]", help="The plan's file.")]
ProgressOption = Annotated[
    ProgressKind, typer.Option("--progress", help="For people, or a JSON object a line.")
]
AllowQuarantine = Annotated[
    bool,
    typer.Option("--allow-quarantine", help="Rows that the target rejects are no failure."),
]
DEFAULT_PLAN = Path("plan.toml")


@app.command()
def plan(
    source: Annotated[str, typer.Argument(metavar="FROM", help="sql[:URL] or supabase[:URL]")],
    target: Annotated[str, typer.Argument(metavar="TO", help="sql[:URL] or supabase[:URL]")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file.")] = DEFAULT_PLAN,
    db_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Of the Supabase project's database; better in SUPABASE_DB_URL.",
        ),
    ] = None,
) -> None:
    """Compare both ends and write a plan, which you read and edit before anything moves.

    Passwords and keys come from the environment: SOURCE_DATABASE_URL, TARGET_DATABASE_URL,
    SOURCE_SUPABASE_SERVICE_KEY, SUPABASE_DB_URL and so on. The plan has none of them.

    Example: amphibase move plan sql:sqlite:///data/amphibase.db supabase -o plan.toml
    """
    projects = [text for text in (source, target) if text.partition(":")[0] == "supabase"]
    if db_url is not None and len(projects) != 1:
        raise typer.BadParameter(
            "--db-url needs one end that is a Supabase project; for two of them set "
            "SOURCE_SUPABASE_DB_URL and TARGET_SUPABASE_DB_URL"
        )
    planned = _run(lambda: plan_move(source, target, output, db_url=db_url))
    console = results()
    accounts = "accounts, " if planned.accounts else ""
    buckets = f", {len(planned.files.buckets)} buckets" if planned.files else ""
    console.print(
        f"[green]✓[/green] {escape(str(output))}: {accounts}{len(planned.tables)} tables{buckets}",
    )
    for each in planned.not_moved:
        _warn(console, f"{each.what} does not move: {each.reason}")
    console.print(f"Read it, then: amphibase move check {escape(str(output))}")


@app.command()
def check(plan: PlanFile = DEFAULT_PLAN) -> None:
    """Look at both ends without writing; exit code 1 where something fails.

    Example: amphibase move check plan.toml
    """

    async def look() -> list[PreflightCheck]:
        async with Move(plan) as move:
            return await move.check()

    checks = _run(look)
    _print_checks(checks)
    if any(check.outcome is Outcome.FAIL for check in checks):
        raise typer.Exit(1)


@app.command()
def run(
    plan: PlanFile = DEFAULT_PLAN,
    freeze: Annotated[
        bool,
        typer.Option("--freeze", help="The source rejects writes (503) during the last pass."),
    ] = False,
    allow_quarantine: AllowQuarantine = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="What was written to the target since a verified run is lost."
        ),
    ] = False,
    progress: ProgressOption = ProgressKind.LINES,
) -> None:
    """Move what has not been moved yet, and prove that both sides hold the same.

    Run it again after an error or a kill: it goes on from there. Exit codes: 0 done and verified,
    1 failed, 2 wrong usage, 3 done but not all of it could be verified.

    Example: amphibase move run plan.toml --freeze
    """
    with _shown(progress) as shown:

        async def move() -> RunReport:
            async with Move(plan, shown) as opened:
                return await opened.run(
                    freeze=freeze, allow_quarantine=allow_quarantine, overwrite=overwrite
                )

        report = _run(move)
    _print_report(report, plan)
    raise typer.Exit(report.outcome.exit_code)


@app.command()
def verify(
    plan: PlanFile = DEFAULT_PLAN,
    allow_quarantine: AllowQuarantine = False,
    progress: ProgressOption = ProgressKind.LINES,
) -> None:
    """Read both sides again and compare; exit code 1 where they differ, 3 where it cannot tell.

    Example: amphibase move verify plan.toml
    """
    with _shown(progress) as shown:

        async def compare() -> RunReport:
            async with Move(plan, shown) as move:
                return await move.verify(allow_quarantine=allow_quarantine)

        try:
            report = _run(compare)
        except Unreached as error:
            _error(error.detail)
            raise typer.Exit(RunOutcome.UNVERIFIED.exit_code) from None
    _print_report(report, plan)
    raise typer.Exit(report.outcome.exit_code)


@app.command()
def status(plan: PlanFile = DEFAULT_PLAN) -> None:
    """Say how far a move is, and list the users whose password did not move.

    Example: amphibase move status plan.toml
    """
    planned, state = read_plan(plan), read_state(plan)
    console = results()
    console.print(escape(f"{planned.source.address} → {planned.target.address}"))
    console.print(_progress_in_words(state))
    for stage, copied_at in state.copied.items():
        console.print(f"{stage}: copied {copied_at}")
    if state.is_frozen:
        _warn(console, "the source rejects writes; the next run or undo ends that")
    if rejected := Quarantine(plan).rows():
        _warn(console, f"{rejected} rows were rejected by the target")
    if state.began is None or state.is_running:
        return

    async def list_users() -> list[str]:
        async with Move(plan) as move:
            return [user async for user in move.must_reset()]

    users = _run(list_users)
    if users:
        console.print(f"{len(users)} users need a new password:")
        for user in users:
            console.print(f"  {escape(user)}")


@app.command()
def undo(
    plan: PlanFile = DEFAULT_PLAN,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove from the target what the move wrote; what has changed since stays and is named.

    Example: amphibase move undo plan.toml --yes
    """
    planned = read_plan(plan)
    if not yes:
        typer.confirm(f"Remove what was moved to {planned.target.address}?", abort=True)

    async def remove() -> list[Kept]:
        async with Move(plan) as move:
            return await move.undo()

    kept = _run(remove)
    console = results()
    _print_listed(console, [f"{each.subject} {each.key}: {each.reason}" for each in kept])
    if kept:
        console.print(f"Kept because they were changed or used since: {len(kept)}")
        raise typer.Exit(1)
    console.print("[green]✓[/green] The target is as it was before")


class Unreached(MoveFailed):
    """Raised where an end cannot be reached, or did not respond any more."""


def _run(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run the work; what only takes another try says so, and a terminated run cleans up."""
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    async def wait() -> Result:
        return await work()

    try:
        return asyncio.run(wait())
    except ChecksFailed as error:
        _print_checks(error.checks, messages())
        raise typer.Exit(1) from None
    except Retryable as error:
        message = f"{error.detail}. Run the same command again once it can be reached"
        raise Unreached(message) from None


@contextmanager
def _shown(kind: ProgressKind) -> Iterator[Progress]:
    if kind is ProgressKind.JSON:
        yield JsonProgress(sys.stdout)
        return
    with TerminalProgress(Console(stderr=True)) as progress:
        yield progress


def _print_checks(checks: Sequence[PreflightCheck], console: Console | None = None) -> None:
    table = Table(show_header=False, box=None)
    for each in checks:
        color = COLORS[each.outcome]
        outcome = f"[{color}]{each.outcome.upper()}[/{color}]"
        table.add_row(outcome, escape(each.subject), escape(each.message))
    (console or results()).print(table)


def _print_report(report: RunReport, plan: Path) -> None:
    console = messages()
    table = Table("what", "source", "target", "different", box=None)
    for each in report.comparisons:
        color = "green" if each.is_equal else "red"
        counts = (f"{each.source:,}", f"{each.target:,}", f"{each.differences:,}")
        table.add_row(f"[{color}]{escape(each.subject)}[/{color}]", *counts)
    console.print(table)
    _print_listed(console, [f"{each.label}: {each.message}" for each in report.differences])
    for seen in report.unverified:
        _warn(console, f"not verified: {seen.label}: {seen.message}")
    for part in report.not_moved:
        _warn(console, f"{part.what} did not move: {part.reason}")
    for name in report.unguarded:
        _warn(console, f"{name} could be written to in the pause")
    if report.remaining is not None:
        _warn(console, report.remaining)
    if report.quarantined:
        _warn(console, f"{report.quarantined} rows were rejected: see {Quarantine(plan).path}")
    if report.pause_seconds is not None:
        console.print(f"The source rejected writes for {report.pause_seconds:.1f} s")
    console.print(
        f"{report.outcome}; the report is {escape(str(plan.with_suffix('.report.html')))}"
    )
    if report.differences:
        command = f"amphibase move run {escape(str(plan))}"
        console.print(
            f"Copy what has changed on the source: {command}\n"
            f"Undo what has changed on the target, too: {command} --overwrite",
            soft_wrap=True,
        )


def _print_listed(console: Console, lines: Sequence[str]) -> None:
    for line in lines[:MAX_LISTED]:
        console.print(f"[red]✗[/red] {escape(line)}")
    if len(lines) > MAX_LISTED:
        console.print(f"and {len(lines) - MAX_LISTED:,} more")


def _progress_in_words(state: JournalState) -> str:
    if state.is_running:
        return "running"
    if state.began is None:
        return "not begun"
    return f"begun {state.began}; last outcome: {state.outcome or 'not finished'}"


def _warn(console: Console, text: str) -> None:
    console.print(f"[yellow]![/yellow] {escape(text)}")


def _error(text: str) -> None:
    messages().print(f"[red]error[/red] {escape(text)}")
