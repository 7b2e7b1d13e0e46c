"""Runs the server of `amphibase serve`."""

import asyncio
import gc
import logging
import os
import socket

import uvicorn
from fastapi import FastAPI

from amphibase.cli.loading import load_app
from amphibase.cli.logs import configure_logs
from amphibase.errors import ConfigurationError
from amphibase.http.app import Amphibase
from amphibase.settings import load_settings

logger = logging.getLogger("amphibase")

GRACEFUL_SECONDS = 30


def run(application: str | None, host: str, port: int) -> None:
    """Serve until a signal ends it.

    Args:
        application: `module:attribute`; None for users and sign-in alone.

    Raises:
        ConfigurationError: a setting, the application or the port is wrong.
    """
    settings = load_settings()
    configure_logs(settings.environment)
    _check_free(host, port)
    if "public_url" not in settings.model_fields_set and port:
        # Where links in letters lead, until it is said: to this server.
        os.environ["PUBLIC_URL"] = url = local_url(host, port)
        if settings.environment == "production":
            logger.warning("PUBLIC_URL is not set: links in letters lead to %s", url)
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


def local_url(host: str, port: int) -> str:
    """Where a browser on this machine finds the server."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _check_free(host: str, port: int) -> None:
    """Raise ConfigurationError when nothing can listen there; uvicorn would say it at length."""
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except socket.gaierror:
        raise ConfigurationError(f"HOST: there is no host {host!r}") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ConfigurationError(f"PORT: cannot listen on {host}:{port}: {reason}") from None


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
