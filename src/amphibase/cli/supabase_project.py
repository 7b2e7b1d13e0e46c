"""`amphibase supabase sql` and `check`: what an application needs in its Supabase project."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amphibase.errors import ConfigurationError

if TYPE_CHECKING:  # the local Supabase, whose commands these are among, needs no application
    from amphibase.settings.application import Settings

Application = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:APP", help="Your application, to know its models."),
]


def sql(
    application: Application = None,
    since: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Your newest migration: print only what your models have beyond."
        ),
    ] = None,
    buckets: Annotated[
        list[str] | None,
        typer.Option(
            "--bucket",
            metavar="NAME",
            help="Of your application, beside uploads: others of the project are left alone.",
        ),
    ] = None,
) -> None:
    """Print the SQL that prepares a project for your models, as a file for supabase/migrations.

    Without --app: for users and files alone. It needs no project and no database; with --since it
    applies the file and those before it to a Postgres that it starts and deletes again.

    Example: amphibase supabase sql --app main:app > supabase/migrations/20261129000000_app.sql
    """
    if application:
        from amphibase.cli.loading import amphibase_of_app

        amphibase_of_app(application)
    if since is None:
        from amphibase.models import Base
        from amphibase.supabase.starter import starter_sql

        typer.echo(starter_sql(Base.metadata, buckets or ()), nl=False)
        return
    if application is None:
        raise ConfigurationError("Say where your models are: --app module:app")
    from rich.markup import escape

    from amphibase.cli.console import messages
    from amphibase.cli.project_copy import migration_since

    migration = migration_since(since)
    console = messages()
    for warning in migration.warnings:
        console.print(f"[yellow]![/yellow] {escape(warning)}")
    if migration.sql is None:
        console.print("Nothing to do: the migrations create all that your models have")
    else:
        typer.echo(migration.sql, nl=False)


def check(application: Application = None) -> None:
    """Compare the project with your models; exit code 1 if something is missing or differs.

    With SUPABASE_DB_URL object by object, else as far as the project's API shows.

    Example: amphibase supabase check --app main:app
    """
    from rich.markup import escape

    from amphibase.cli.console import results
    from amphibase.cli.loading import amphibase_of_app
    from amphibase.settings.application import load_settings

    settings = amphibase_of_app(application).settings if application else load_settings()
    console = results()
    if application is None:
        console.print("[yellow]![/yellow] Your models were not compared; add --app module:app")
    if settings.supabase_database is None:
        console.print(
            "[yellow]![/yellow] Policies, triggers and indexes were not compared; set "
            "SUPABASE_DB_URL"
        )
    differences = asyncio.run(_differences(settings))
    for difference in differences:
        console.print(f"[red]✗[/red] {escape(difference)}")
    if differences:
        console.print(
            "Write a migration with what is missing: `amphibase supabase sql` prints all of it, "
            "with --since your newest migration what your models have beyond"
        )
        raise typer.Exit(1)
    console.print("[green]✓[/green] The project has what it should have")


async def _differences(settings: "Settings") -> list[str]:
    from amphibase.database.engine import Database
    from amphibase.models import Base
    from amphibase.supabase.client import SupabaseClient
    from amphibase.supabase.project import SupabaseProject
    from amphibase.supabase.project_check import check_database, check_over_api

    url = settings.supabase_database
    if url is not None:
        database = Database(url, settings.pool_options)
        try:
            return await _listed(check_database(database, settings, Base.metadata))
        finally:
            await database.close()
    client = SupabaseClient(SupabaseProject.of(settings))
    try:
        return await _listed(check_over_api(client, Base.metadata))
    finally:
        await client.close()


async def _listed(found: AsyncIterator[str]) -> list[str]:
    return [each async for each in found]
