"""Upgrades the project of a database in a process of its own, which takes its memory along: the
revisions of its tables and the libraries that run them are needed once a version."""

import asyncio
import logging
import os
import pickle
from contextlib import suppress
from typing import BinaryIO, NoReturn

from amphibase.errors import AmphibaseError, ConfigurationError


def upgrade(url: str, password: str) -> None:
    """Make the project in the database, as `project.prepare` does, in a forked process.

    To be called where no event loop and no other thread runs, since those do not survive a fork.

    Raises:
        ConfigurationError, Unavailable: as `prepare` does.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        _close_all_but(writing)
        _run(url, password, os.fdopen(writing, "wb"))
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            response = pipe.read()
    finally:
        os.waitpid(process, 0)
    error: AmphibaseError | None = pickle.loads(response or _FAILED)  # noqa: S301 - from our own process
    if error is not None:
        raise error


_FAILED = pickle.dumps(ConfigurationError("The project cannot be made; the log says why"))


def _close_all_but(kept: int) -> None:
    """Close what the gateway has open, such as the lock of its folder: else that would be taken for
    as long as this process goes on after the gateway was killed."""
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor != kept:
            with suppress(OSError):  # /dev/fd itself, which is closed by now
                os.close(descriptor)


def _run(url: str, password: str, response: BinaryIO) -> NoReturn:
    """Run the new process."""
    try:
        from amphibase.gateway.project import prepare

        error: AmphibaseError | None = None
        try:
            asyncio.run(prepare(url, password))
        except AmphibaseError as raised:
            error = raised
        with response:
            pickle.dump(error, response)
    except Exception:
        logging.exception("The project cannot be made")
    finally:
        logging.shutdown()
        os._exit(0)
