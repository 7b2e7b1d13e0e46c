"""`amphibase supabase`: a local Supabase, and what an application needs in a project."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from amphibase.cli import supabase_project
from amphibase.cli.extras import require
from amphibase.errors import ConfigurationError, Unavailable
from amphibase.gateway import process
from amphibase.gateway.data_dir import DataDir, RunningGateway
from amphibase.gateway.settings import DataDirSettings, GatewaySettings
from amphibase.settings.loading import check_lines, load

if TYPE_CHECKING:  # what serves in the foreground would keep it in memory
    from rich.console import Console

app = typer.Typer(help="A local Supabase.", no_args_is_help=True)


class Output(StrEnum):
    """How values are printed."""

    PRETTY = "pretty"
    JSON = "json"
    ENV = "env"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="A table, or what programs read.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Where the data is; ./.amphibase by default.", show_default=False
    ),
]


@app.command()
def start(
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay in the foreground; Ctrl-C stops it.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="Where to listen; 127.0.0.1 by default.")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Of the API; 54321 by default, or the next free; 0 for any."
        ),
    ] = None,
    db_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Of Postgres; 54322 by default, or the next free; 0 for any."
        ),
    ] = None,
    inbox_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Of the inbox; 54324 by default, or the next free; 0 for any."
        ),
    ] = None,
    data_dir: DataDirOption = None,
    database_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Your own Postgres ≥ 15, as a superuser."),
    ] = None,
    output: OutputOption = Output.PRETTY,
) -> None:
    """Start it in the background, and print how to reach it.

    Applies the migrations in supabase/migrations that are new, and supabase/seed.sql once.

    Example: amphibase supabase start -o env > .env.local
    """
    options = {
        "host": host,
        "port": port,
        "db_port": db_port,
        "inbox_port": inbox_port,
        "data_dir": data_dir,
        "database_url": database_url,
    }
    settings = _settings(**options)
    require("gateway")
    try:
        if foreground:
            from amphibase.cli.logs import configure_logs

            configure_logs("development")
            with _readable_errors(), process.claim(settings) as (folder, listeners):
                process.serve(settings, folder, listeners, lambda state: _print(state, output))
        else:
            from amphibase.gateway.daemon import start

            _print(start(settings, _warn), output)
    except process.AlreadyRunning as running:
        if running.state is None:
            _end(f"Another is just starting or ending on {settings.data_dir}; try again")
        _warn("The local Supabase is running already; `amphibase supabase stop` ends it")
        _print(running.state, output)


@app.command()
def stop(data_dir: DataDirOption = None) -> None:
    """Stop it; its data stays.

    Example: amphibase supabase stop
    """
    if not process.stop(_folder(data_dir)):
        _warn("The local Supabase is not running")
        return
    _console().print("[green]✓[/green] Stopped; the data stays")


@app.command()
def status(data_dir: DataDirOption = None, output: OutputOption = Output.PRETTY) -> None:
    """Print how to reach it; exit code 1 when it is not running.

    Example: amphibase supabase status -o json
    """
    _, state = _running(data_dir)
    _print(state, output)


@app.command()
def reset(
    data_dir: DataDirOption = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", help="Do not ask before dropping a database of your own Postgres."
        ),
    ] = False,
) -> None:
    """Create its database anew: users, rows and files are deleted, migrations and seed applied.

    Example: amphibase supabase reset
    """
    folder, state = _running(data_dir)
    settings = _settings(data_dir=data_dir)
    if not (state.embedded or yes):
        typer.confirm("The database of your own Postgres is dropped. Go on?", abort=True)
    _log_warnings()
    from amphibase.gateway import setup

    with _readable_errors():
        done = asyncio.run(
            setup.reset(folder, state, exposes_new_tables=settings.auto_expose_new_tables)
        )
    from rich.markup import escape

    console = _console()
    for name in done:
        console.print(f"[green]✓[/green] {escape(name)}")
    console.print("[green]✓[/green] The database is new")


@app.command()
def grants(data_dir: DataDirOption = None) -> None:
    """Print the GRANTs of the tables that no role of the Data API may use, for a migration.

    Example: amphibase supabase grants > supabase/migrations/20261130000000_grants.sql
    """
    from amphibase.gateway.build import exposed_schemas
    from amphibase.gateway.grants import grants_sql, tables_without_grants

    _, state = _running(data_dir)
    with _readable_errors():
        tables = asyncio.run(tables_without_grants(state.values["DB_URL"], exposed_schemas()))
    if tables:
        typer.echo(grants_sql(tables), nl=False)
    else:
        _console().print("[green]✓[/green] A role has grants on every table")


app.command("sql")(supabase_project.sql)
app.command("check")(supabase_project.check)


def _settings(**options: Any) -> GatewaySettings:
    check_lines(Path(".env"))
    return load(
        GatewaySettings, **{name: value for name, value in options.items() if value is not None}
    )


def _folder(data_dir: Path | None) -> DataDir:
    named = {} if data_dir is None else {"data_dir": data_dir}
    return DataDir(load(DataDirSettings, **named).data_dir)


def _running(data_dir: Path | None) -> tuple[DataDir, RunningGateway]:
    folder = _folder(data_dir)
    state = folder.running()
    if state is None:
        _end("The local Supabase is not running; `amphibase supabase start` starts it")
    return folder, state


def _print(state: RunningGateway, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(state.values, indent=2))
    elif output is Output.ENV:
        for name, value in state.values.items():
            typer.echo(f'{name}="{value}"')
    else:
        # Values are there to be copied: none is cut or framed, however narrow the terminal is.
        width = max(map(len, state.values))
        for name, value in state.values.items():
            typer.echo(f"{name:{width}}  {value}")


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Report an unreachable database without DATABASE_URL, which is the application's."""
    try:
        yield
    except Unavailable as error:
        raise ConfigurationError(error.detail) from error


def _log_warnings() -> None:
    import logging

    class Warn(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _warn(record.getMessage())

    logging.getLogger("amphibase").addHandler(Warn(logging.WARNING))


def _warn(text: str) -> None:
    from rich.markup import escape

    _console().print(f"[yellow]![/yellow] {escape(text)}")


def _end(text: str) -> NoReturn:
    from rich.markup import escape

    _console().print(f"[red]✗[/red] {escape(text)}")
    raise typer.Exit(1)


def _console() -> "Console":
    """Standard error, for what is not a command's result."""
    from amphibase.cli.console import messages

    return messages()
