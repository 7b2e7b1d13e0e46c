"""A gateway in the background: its own process, which says when it is ready or why it is not."""

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TextIO

from amphibase.errors import AmphibaseError, ConfigurationError
from amphibase.gateway.data_dir import LOG_FILE, Folder, State
from amphibase.gateway.process import claimed, serve
from amphibase.gateway.settings import GatewaySettings
from amphibase.redaction import RedactingFilter

LOG_LINES = 8
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def start(settings: GatewaySettings, warn: Callable[[str], None]) -> State:
    """Start a gateway in a session of its own, and wait until it is ready.

    Args:
        warn: called with what it has to say until then, such as migrations that were skipped.

    Raises:
        AlreadyRuns: another has the folder.
        ConfigurationError: it did not start; says why.
    """
    with claimed(settings) as (folder, listener):
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            os.close(reading)
            _live(settings, folder, listener, writing)
    os.close(writing)
    try:
        with os.fdopen(reading) as lines:
            for line in lines:
                word, content = json.loads(line)
                if word == "ready":
                    return State(**content)
                if word == "error":
                    raise ConfigurationError(content)
                warn(content)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        raise
    log = folder.path / LOG_FILE
    last = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    raise ConfigurationError(f"The gateway ended before it was ready; the end of {log}:\n{last}")


def _live(settings: GatewaySettings, folder: Folder, listener: socket.socket, pipe: int) -> None:
    """All that the new process does; it does not return."""
    code = 1
    try:
        _detach(folder)
        with os.fdopen(pipe, "w") as parent:
            code = _serve(settings, folder, listener, _Teller(parent))
    except BaseException:
        logging.exception("The gateway ended")
    finally:
        logging.shutdown()
        os._exit(code)


def _detach(folder: Folder) -> None:
    os.setsid()
    # What the caller had open, such as the lock of flock(1), ends with the caller: all of our own
    # is not inheritable.
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the folder itself, which is closed by now
            if int(name) > 2 and os.get_inheritable(int(name)):
                os.close(int(name))
    log = os.open(folder.path / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for given, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(given, standard)
        os.set_inheritable(standard, True)
    handler = logging.StreamHandler()
    handler.addFilter(RedactingFilter())
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _serve(
    settings: GatewaySettings, folder: Folder, listener: socket.socket, teller: "_Teller"
) -> int:
    logging.getLogger().addHandler(teller)
    try:
        serve(settings, folder, listener, teller.ready)
    except SystemExit:
        return 0
    except AmphibaseError as error:
        teller.tell("error", error.detail)
        return 1
    return 0


class _Teller(logging.Handler):
    """Tells the process that waits: warnings until all is ready, then that it is."""

    def __init__(self, parent: TextIO) -> None:
        super().__init__(logging.WARNING)
        self._parent = parent

    def tell(self, word: str, content: object) -> None:
        if not self._parent.closed:
            self._parent.write(json.dumps([word, content]) + "\n")
            self._parent.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self.tell("warning", record.getMessage())

    def ready(self, state: State) -> None:
        self.tell("ready", asdict(state))
        self._parent.close()
        logging.getLogger().removeHandler(self)
