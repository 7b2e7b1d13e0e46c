"""`amphibase serve`: the application on a socket."""

import asyncio
import gc
import os
import socket
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from amphibase.cli.loading import load_app
from amphibase.cli.logs import configure_logs
from amphibase.http.app import Amphibase
from amphibase.settings import load_settings

GRACEFUL_SECONDS = 30


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

    In development, tables that are missing are made. In production the database must be up to
    date: run `amphibase db upgrade` first.

    Example: DATABASE_URL=postgresql://localhost/app amphibase serve main:app --port 8000
    """
    settings = load_settings()
    configure_logs(settings.environment)
    if "public_url" not in settings.model_fields_set and port:
        # Where links in letters lead, until it is said: to this server.
        os.environ["PUBLIC_URL"] = f"http://{host}:{port}"
    app = load_app(application) if application else standalone()
    found: Amphibase | None = getattr(app.state, "amphibase", None)
    if found is not None:
        # Before the server runs, so that what is wrong is said in a line and not in a traceback.
        asyncio.run(_start_once(found))
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # TRUSTED_PROXIES decides
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    _Server(config).run()


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What exists by now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()


async def _start_once(db: Amphibase) -> None:
    async with db.started():
        pass


def standalone() -> FastAPI:
    """The application that is served when none is named."""
    return Amphibase().mount(FastAPI(title="Amphibase", description="Users and sign-in."))
