"""Creates the project of a database in a process of its own, which takes its memory along: the
revisions of its tables and the libraries that run them are needed once in a database's life."""

import asyncio
import importlib
import json
import logging
import os
import pickle
import signal
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, NoReturn, Self

from amphibase.errors import AmphibaseError, ConfigurationError


class ProjectMaker:
    """A forked process that makes one project; it imports what it takes while it waits for a call.

    To be made where no event loop and no other thread runs, since those do not survive a fork. At
    the end of the block the process ends, whether or not there was a call.
    """

    def __init__(self) -> None:
        reads_order, writes_order = os.pipe()
        reads_error, writes_error = os.pipe()
        self._process = os.fork()
        if not self._process:
            _close_all_but(reads_order, writes_error)
            _run(os.fdopen(reads_order, "rb"), os.fdopen(writes_error, "wb"))
        os.close(reads_order)
        os.close(writes_error)
        self._order = os.fdopen(writes_order, "wb")
        self._error = os.fdopen(reads_error, "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def make(self, url: str, password: str) -> None:
        """Make the project in the database, as `project.prepare` does; to be called once.

        Raises:
            ConfigurationError, Unavailable: as `prepare` does.
        """
        try:
            self._order.write(json.dumps([url, password]).encode())
            self._order.close()
            response = self._error.read()
        except BrokenPipeError:  # it has ended
            response = b""
        finally:
            self._end()
        error: AmphibaseError | None = pickle.loads(response or _FAILED)  # noqa: S301
        if error is not None:
            raise error

    def _end(self) -> None:
        process, self._process = self._process, 0
        if process:
            if not self._order.closed:
                os.kill(process, signal.SIGKILL)  # nobody waits for what it still imports
                self._order.close()
            self._error.close()
            os.waitpid(process, 0)


_FAILED = pickle.dumps(ConfigurationError("The project cannot be made; the log says why"))


def _close_all_but(*kept: int) -> None:
    """Close what the gateway has open, such as the lock of its folder: else that would be taken for
    as long as this process goes on after the gateway was killed."""
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in kept:
            with suppress(OSError):  # /dev/fd itself, which is closed by now
                os.close(descriptor)


def _run(order: BinaryIO, response: BinaryIO) -> NoReturn:
    """Run the new process."""
    try:
        from amphibase.gateway.project import prepare

        importlib.import_module("amphibase.schema.migrations.execution")  # takes longest

        if content := order.read():
            error: AmphibaseError | None = None
            try:
                asyncio.run(prepare(*json.loads(content)))
            except AmphibaseError as raised:
                error = raised
            with response:
                pickle.dump(error, response)
    except Exception:
        logging.exception("The project cannot be made")
    finally:
        logging.shutdown()
        os._exit(0)
