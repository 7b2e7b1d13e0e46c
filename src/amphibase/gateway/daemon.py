"""A gateway in the background: a process of its own that reports when it is ready, or why not."""

import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from amphibase.errors import AmphibaseError, ConfigurationError
from amphibase.gateway.data_dir import LOG_FILE, DataDir, RunningGateway
from amphibase.gateway.listeners import Listeners
from amphibase.gateway.process import claim, serve
from amphibase.gateway.settings import GatewaySettings
from amphibase.redaction import RedactingFilter

LOG_LINES = 8
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def start(settings: GatewaySettings, warn: Callable[[str], None]) -> RunningGateway:
    """Start a gateway in a session of its own, and wait until it is ready.

    Args:
        warn: called with each warning until then, such as that of a migration that was skipped.

    Raises:
        AlreadyRuns: another has the folder.
        ConfigurationError: it did not start; says why.
    """
    with claim(settings) as (folder, listeners):
        reading, writing = os.pipe()
        gc.freeze()  # a collection would copy the memory that both processes share
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            os.close(reading)
            _run(settings, folder, listeners, writing)
    os.close(writing)
    try:
        with os.fdopen(reading) as lines:
            for line in lines:
                word, content = json.loads(line)
                if word == "ready":
                    return RunningGateway(**content)
                if word == "error":
                    os.waitpid(child, 0)  # another start would find the folder taken
                    raise ConfigurationError(content)
                warn(content)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        raise
    raise ConfigurationError(_last_words(child, folder.path / LOG_FILE))


def _last_words(child: int, log: Path) -> str:
    """Say how a gateway has ended that reported nothing."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    by = f" by {signal.Signals(-code).name}" if code < 0 else ""
    ended = f"The gateway ended{by} before it was ready"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"{ended}; the end of {log}:", *lines[-LOG_LINES:]]) if lines else ended


def _run(settings: GatewaySettings, folder: DataDir, listeners: Listeners, pipe: int) -> None:
    """Run the new process; it does not return."""
    code = 1
    try:
        _detach(folder)
        with os.fdopen(pipe, "w") as parent:
            code = _serve(settings, folder, listeners, _StartReporter(parent))
    except BaseException:
        logging.exception("The gateway ended")
    finally:
        logging.shutdown()
        os._exit(code)


def _detach(folder: DataDir) -> None:
    os.setsid()
    # What the caller had open, such as the lock of flock(1), is to end with the caller: our own
    # descriptors are not inheritable.
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # /dev/fd itself, which is closed by now
            if int(name) > 2 and os.get_inheritable(int(name)):
                os.close(int(name))
    log = os.open(folder.path / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, standard)
        os.set_inheritable(standard, True)
    handler = logging.StreamHandler()
    handler.addFilter(RedactingFilter())
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # The addresses of hooks and templates may hold secrets by any name, and that of a lookup among
    # leaked passwords the beginning of a hash.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _serve(
    settings: GatewaySettings, folder: DataDir, listeners: Listeners, reporter: "_StartReporter"
) -> int:
    logging.getLogger().addHandler(reporter)
    try:
        serve(settings, folder, listeners, reporter.ready)
    except SystemExit:
        reporter.report("error", "It was stopped while it started")
        return 0
    except AmphibaseError as error:
        reporter.report("error", error.detail)
        return 1
    return 0


class _StartReporter(logging.Handler):
    """Reports to the process that waits: warnings until all is ready, then the state."""

    def __init__(self, parent: TextIO) -> None:
        super().__init__(logging.WARNING)
        self._parent = parent

    def report(self, word: str, content: object) -> None:
        if not self._parent.closed:
            self._parent.write(json.dumps([word, content]) + "\n")
            self._parent.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self.report("warning", record.getMessage())

    def ready(self, state: RunningGateway) -> None:
        self.report("ready", asdict(state))
        self._parent.close()
        logging.getLogger().removeHandler(self)
