"""`amphibase db`: the tables of the database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.markup import escape
from sqlalchemy.engine import URL

from amphibase.cli.console import results, table
from amphibase.cli.loading import amphibase_of_app
from amphibase.database.engine import Database
from amphibase.errors import ConfigurationError
from amphibase.models import Base
from amphibase.schema import commands as schema
from amphibase.schema.index_advice import bypassed_indexes, index_advice
from amphibase.schema.migrations.locations import PART_OF
from amphibase.schema.row_level_security import describe_unenforced, unenforced_tables
from amphibase.settings.application import Part, Settings, load_settings

Result = TypeVar("Result")

app = typer.Typer(help="The tables of the database.", no_args_is_help=True)
Application = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:APP", help="Your application, to know its models."),
]
MARKS = {
    "applied": "[green]✓[/green]",
    "stamped": "[yellow]=[/yellow]",
    "undone": "[yellow]↶[/yellow]",
}


@app.command()
def upgrade(
    revision: Annotated[
        str, typer.Argument(help="How far to go with your own revisions; all by default.")
    ] = "head",
    application: Application = None,
) -> None:
    """Bring the database up to date, wholly or not at all.

    Example: amphibase db upgrade
    """
    done = _run_on_each(
        application,
        lambda database, settings: schema.upgrade(
            database, settings, Base.metadata, revision=revision
        ),
    )
    _report([outcome for outcomes in done for outcome in outcomes], "The database is up to date")


@app.command(context_settings={"ignore_unknown_options": True})
def downgrade(
    revision: Annotated[
        str, typer.Argument(help="The revision to go back to; -1 undoes the last, base all.")
    ],
    chain: Annotated[
        str, typer.Option(help="Whose revisions: application, auth or storage.")
    ] = "application",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    application: Application = None,
) -> None:
    """Undo revisions; what their tables and columns hold is lost.

    Example: amphibase db downgrade -1
    """
    if not yes:
        typer.confirm("What the tables and columns hold is lost. Go on?", abort=True)
    done = _run(
        application,
        lambda database, settings: schema.downgrade(
            database, settings, Base.metadata, chain, revision
        ),
        part=next((part for name, part in PART_OF.items() if name == chain), "records"),
    )
    _report(done, "There was nothing to undo")


@app.command()
def current(application: Application = None) -> None:
    """Say which revisions the database has.

    Example: amphibase db current
    """
    statuses = _run_on_each(
        application,
        lambda database, settings: schema.current(database, settings, Base.metadata),
    )
    revisions = table("chain", "the database is at", "the newest is", "")
    for position in [status for each in statuses for status in each]:
        mark = "[red]✗ behind[/red]" if position.behind else "[green]✓[/green]"
        revisions.add_row(position.chain, position.current or "nothing", position.head, mark)
    results().print(revisions)


@app.command()
def check(application: Application = None) -> None:
    """Compare the database with the models; exit code 1 if it is behind or differs.

    It also says what to do about indexes that access rules need or suffer from, and with RLS=true
    about privileges, views and functions that lead past the policies.

    Example: amphibase db check --app main:app
    """

    async def work(
        database: Database, settings: Settings
    ) -> tuple[list[schema.ChainStatus], list[schema.Difference], list[str]]:
        statuses = await schema.current(database, settings, Base.metadata)
        unenforced = await unenforced_tables(database, settings)
        return (
            statuses,
            await schema.check(database, settings, Base.metadata),
            [
                *([describe_unenforced(unenforced, settings)] if unenforced else []),
                *await schema.bypasses(database, settings, Base.metadata),
                *(bypassed_indexes(Base.metadata) if settings.rls else []),
            ],
        )

    compared = _run_on_each(application, work)
    positions = [status for statuses, _, _ in compared for status in statuses]
    differences = [difference for _, differing, _ in compared for difference in differing]
    console = results()
    if application is None:
        # Without the application its tables would all look superfluous.
        differences = [each for each in differences if each.chain != "application"]
        console.print("[yellow]![/yellow] Your models were not compared; add --app module:app")
    else:
        for advice in index_advice(Base.metadata):
            console.print(f"[yellow]![/yellow] {escape(advice)}")
    for warning in [warning for _, _, warnings in compared for warning in warnings]:
        console.print(f"[yellow]![/yellow] {escape(warning)}")
    behind = [position.chain for position in positions if position.behind]
    if behind:
        chains = ", ".join(behind)
        console.print(f"[red]✗[/red] The database is behind ({chains}): run `amphibase db upgrade`")
    for difference in differences:
        console.print(f"[red]✗[/red] {difference.chain}: {escape(str(difference))}")
    if not behind and any(each.chain == "application" for each in differences):
        console.print(
            "`amphibase db revision` writes what your models have and your revisions lack"
        )
    if behind or differences:
        raise typer.Exit(1)
    console.print("[green]✓[/green] The database has what it should have")


@app.command()
def revision(
    message: Annotated[str, typer.Option("--message", "-m", help="What changes, in a few words.")],
    empty: Annotated[
        bool, typer.Option("--empty", help="Compare nothing; you write the revision yourself.")
    ] = False,
    application: Application = None,
) -> None:
    """Write a revision with what your models have and your revisions do not make yet.

    Example: amphibase db revision --app main:app -m "add notes"
    """
    if application is None and not empty:
        raise ConfigurationError("Say where your models are: --app module:app, or use --empty")
    file = _run(
        application,
        lambda database, settings: schema.revision(
            database, settings, Base.metadata, message, autogenerate=not empty
        ),
    )
    console = results()
    if file is None:
        console.print("Nothing to do: your revisions create all that your models have")
        return
    console.print(f"[green]✓[/green] {escape(str(file.path))}")
    for warning in file.warnings:
        console.print(f"[yellow]![/yellow] {escape(warning)}")
    console.print("Read it, then `amphibase db upgrade`")


@app.command()
def policies(application: Application = None) -> None:
    """Print the row level security that your models declare, as SQL for Postgres.

    It needs no database, and may be run again and again.

    Example: amphibase db policies --app main:app | psql
    """
    if application is None:
        raise ConfigurationError("Say where your models are: --app module:app")
    amphibase_of_app(application)
    typer.echo(schema.policies(Base.metadata))


def _run(
    application: str | None,
    work: Callable[[Database, Settings], Awaitable[Result]],
    *,
    part: Part = "records",
) -> Result:
    """Run the work on the database of a part of the data."""
    settings = _settings(application)
    database = settings.database_of(part)
    if database is None:
        raise ConfigurationError(f"{part.upper()}: not stored in SQL, so there is nothing to do")
    return asyncio.run(_on(database, settings, work))


def _run_on_each(
    application: str | None, work: Callable[[Database, Settings], Awaitable[Result]]
) -> list[Result]:
    """Run the work on each SQL database of the application."""
    settings = _settings(application)

    async def run() -> list[Result]:
        return [await _on(database, settings, work) for database in settings.databases]

    return asyncio.run(run())


def _settings(application: str | None) -> Settings:
    return amphibase_of_app(application).settings if application else load_settings()


async def _on(
    url: URL, settings: Settings, work: Callable[[Database, Settings], Awaitable[Result]]
) -> Result:
    database = Database(url, settings.pool_options)
    try:
        return await work(database, settings)
    finally:
        await database.close()


def _report(done: list[schema.RevisionOutcome], otherwise: str) -> None:
    console = results()
    for applied in done:
        note = (
            " (its tables existed already; it is recorded as done)"
            if applied.status == "stamped"
            else ""
        )
        console.print(
            f"{MARKS[applied.status]} {applied.chain} {applied.revision} "
            f"{escape(applied.message)}{note}"
        )
    if not done:
        console.print(otherwise)
