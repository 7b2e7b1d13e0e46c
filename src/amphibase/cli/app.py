"""`amphibase`: the command and how it ends.

Exit codes: 0 success; 1 rejected, or something is not as it should be (a difference, no such
user); 2 the command or the configuration is wrong, or the database cannot be reached.
"""

import importlib
import sys
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from amphibase.cli import advise, serve
from amphibase.errors import AmphibaseError, ConfigurationError, Unavailable


def lazy_group(module: str, help: str) -> typer.Typer:
    """Return the commands of a module, which is imported when one of them is used.

    So `amphibase --help` waits for neither SQLAlchemy nor FastAPI.
    """

    class LazyGroup(TyperGroup):
        def _load(self) -> None:
            if not self.commands:
                self.commands = get_group(importlib.import_module(module).app).commands

        def list_commands(self, ctx: Any) -> list[str]:
            self._load()
            return super().list_commands(ctx)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            self._load()
            return super().get_command(ctx, cmd_name)

    return typer.Typer(cls=LazyGroup, help=help, no_args_is_help=True)


app = typer.Typer(
    help="One data backend for FastAPI, on your own SQL database or on Supabase.",
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("advise")(advise.advise)
app.add_typer(lazy_group("amphibase.cli.db", "The tables of the database."), name="db")
app.add_typer(lazy_group("amphibase.cli.access", "Who may do what with rows."), name="access")
app.add_typer(lazy_group("amphibase.cli.users", "The users of the application."), name="users")
app.add_typer(lazy_group("amphibase.cli.files", "The files of the application."), name="files")
app.add_typer(lazy_group("amphibase.cli.keys", "The keys that sign tokens."), name="keys")
app.add_typer(
    lazy_group("amphibase.cli.supabase", "A local Supabase, and what a project needs."),
    name="supabase",
)
app.add_typer(
    lazy_group("amphibase.cli.move", "Move an application to another backend."), name="move"
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    """Print the version, or go on to the command."""
    if version:
        typer.echo(f"amphibase {metadata.version('amphibase')}")
        raise typer.Exit


def main() -> None:
    """Run the command; expected errors become lines on standard error."""
    try:
        app()
    except AmphibaseError as error:
        from rich.markup import escape

        from amphibase.cli.console import messages
        from amphibase.failures import failure_text
        from amphibase.settings.application import load_settings

        for line in failure_text(error, load_settings).splitlines():
            messages().print(f"[red]error[/red] {escape(line)}")
        sys.exit(2 if isinstance(error, ConfigurationError | Unavailable) else 1)
