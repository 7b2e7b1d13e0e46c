"""`amphibase serve`: the application on a socket."""

from typing import Annotated

import typer


def serve(
    application: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:APP]",
            help="Your FastAPI application; without it, users and sign-in alone are served.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(envvar="HOST", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="PORT", min=0, max=65535)] = 8000,
) -> None:
    """Serve an application, or users and sign-in alone.

    In development, missing tables are created. In production the database must be up to
    date: run `amphibase db upgrade` first.

    Example: DATABASE_URL=postgresql://localhost/app amphibase serve main:app --port 8000
    """
    from amphibase.cli.server import run  # here, so that `--help` need not wait for FastAPI

    run(application, host, port)
