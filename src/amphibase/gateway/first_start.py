"""Creates the project of a database in a process of its own, which takes its memory along: the
revisions of its tables and the libraries that run them are needed once in a database's life."""

import asyncio
import logging
import os
import pickle

from amphibase.errors import AmphibaseError, ConfigurationError
from amphibase.gateway.project import prepare


def prepare_apart(url: str, password: str) -> None:
    """Make a project in the database as `prepare` does, in a forked process.

    To be called where no event loop and no other thread runs, since those do not survive a fork.

    Raises:
        ConfigurationError, Unavailable: as `prepare` does.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run(url, password, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if content:
        error: AmphibaseError = pickle.loads(content)  # noqa: S301  our own process wrote it
        raise error
    if status:
        raise ConfigurationError("The project cannot be made; the log says why")


def _run(url: str, password: str, pipe: int) -> None:
    """Run the new process; it does not return."""
    code = 1
    try:
        asyncio.run(prepare(url, password))
        code = 0
    except AmphibaseError as error:
        os.write(pipe, pickle.dumps(error))
    except BaseException:
        logging.exception("The project cannot be made")
    finally:
        logging.shutdown()
        os._exit(code)
