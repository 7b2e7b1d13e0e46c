"""Runs the server of `amphibase serve`."""

import asyncio
import errno
import logging
import os
import socket

from fastapi import FastAPI

from amphibase.allocator import use_one_arena
from amphibase.cli.loading import load_app
from amphibase.cli.logs import configure_logs
from amphibase.errors import ConfigurationError
from amphibase.http.app import Amphibase
from amphibase.redaction import redacted_logger
from amphibase.server import local_url, server
from amphibase.settings.application import load_settings
from amphibase.settings.misspelt_variables import misspelt_variables

logger = redacted_logger("amphibase")


def run(application: str | None, host: str, port: int) -> None:
    """Serve until a signal ends it.

    Args:
        application: `module:attribute`; None for users and sign-in alone.

    Raises:
        ConfigurationError: a setting, the application or the port is wrong.
    """
    use_one_arena()
    settings = load_settings()
    configure_logs(settings.environment)
    _check_free(host, port)
    if "public_url" not in settings.model_fields_set and port:
        # The links in emails lead to this server, unless PUBLIC_URL says otherwise.
        os.environ["PUBLIC_URL"] = url = local_url(host, port)
        if settings.environment == "production":
            logger.warning("PUBLIC_URL is not set: links in emails lead to %s", url)
    app = load_app(application) if application else standalone()
    amphibase: Amphibase | None = getattr(app.state, "amphibase", None)
    if amphibase is not None:
        if names := misspelt_variables(type(amphibase.settings)):
            logger.warning("No settings, and without effect: %s", ", ".join(names))
        # Before the server runs, so that a wrong setting is one line and not a traceback.
        asyncio.run(_start_once(amphibase))
    # TRUSTED_PROXIES decides whom to believe who a client is.
    server(app, host=host, port=port, proxy_headers=False).run()


def _check_free(host: str, port: int) -> None:
    """Raise ConfigurationError when nothing can listen there; uvicorn would say it at length."""
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except socket.gaierror:
        raise ConfigurationError(f"HOST: there is no host {host!r}") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigurationError(f"HOST: this machine has no address {host}") from None
        reason = os.strerror(error.errno or 0).lower()
        raise ConfigurationError(
            f"PORT: cannot listen on {host}:{port}: {reason}; name another (--port)"
        ) from None


async def _start_once(db: Amphibase) -> None:
    logs = logging.getLogger("amphibase")
    level = logs.level
    logs.setLevel(logging.ERROR)  # the start of the server says the rest
    try:
        async with db.started():
            pass
    finally:
        logs.setLevel(level)


def standalone() -> FastAPI:
    """Return the application that is served when none is named."""
    return Amphibase().mount(FastAPI(title="Amphibase", description="Users and sign-in."))
