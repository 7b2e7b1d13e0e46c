"""`amphibase`: the command and how it ends.

Exit codes: 0 it is done; 1 it was refused or found something (a difference, no such user); 2 the
command or the configuration is wrong, or the database cannot be reached.
"""

import sys

import typer
from rich.console import Console

from amphibase.cli import db, files, keys, serve, users
from amphibase.errors import AmphibaseError, ConfigurationError, Unavailable
from amphibase.settings import load_settings

app = typer.Typer(
    help="One data backend for FastAPI, on your own SQL database or on Supabase.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.add_typer(db.app, name="db")
app.add_typer(users.app, name="users")
app.add_typer(files.app, name="files")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command; errors that are meant for people become lines on standard error."""
    try:
        app()
    except AmphibaseError as error:
        console = Console(stderr=True, soft_wrap=True)
        detail = error.detail
        if isinstance(error, Unavailable):
            detail += f" (DATABASE_URL is {load_settings().database!r})"
        for line in detail.splitlines():
            console.print(f"[red]error[/red] {line}", highlight=False)
        sys.exit(2 if isinstance(error, ConfigurationError | Unavailable) else 1)
