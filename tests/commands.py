"""Runs `amphibase …` in a process of its own, as people do.

Most of these processes are forked from one that has imported the package, and nothing of the tests:
the import takes a second, and the command itself a tenth of that.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from amphibase.cli.app import main

SECONDS = 120
TESTS_SECONDS = 280
"""Of an application: just less than pytest waits for the test that runs them."""
FROM_THE_START = [sys.executable, "-m", "amphibase"]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        "tests.commands",
        "tests.preloaded",
        *(f"amphibase.cli.{name}" for name in ("access", "server", "db", "users", "files", "move")),
        # What most commands import late, and all of the tests' would import once more.
        *("aiosqlite", "amphibase.build", "amphibase.http.limits", "rich.markdown", "uvloop"),
        *("amphibase.testing.client", "amphibase.testing.databases"),
        *(f"amphibase.http.routes.{name}" for name in ("auth.router", "files", "health", "users")),
        "uvicorn.protocols.http.httptools_impl",
        "uvicorn.protocols.websockets.websockets_sansio_impl",
        "uvicorn.loops.uvloop",
    ]
)

Completed = subprocess.CompletedProcess[str]


class Forked:
    """A forked command, with the words of `subprocess.Popen`.

    Args:
        arguments: the program's name, and what follows it.
        folder: where it runs.
        environment: all that it finds there.
        streams: files for its standard input, output and errors.
        entry: what runs in the process; `amphibase` by default.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        streams: Sequence[Path],
        entry: Callable[[], None] = main,
    ) -> None:
        self._process = _forks.Process(
            target=_become,
            args=(arguments, folder, dict(environment), streams, entry),
            daemon=True,
        )
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def ends_within(self, seconds: float) -> bool:
        """Wait for so long at the most; return whether the command has ended."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError(f"the command had not ended after {timeout:g} seconds")
        return self._process.exitcode


def inherited() -> dict[str, str]:
    """Return what every process finds in its environment."""
    return {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE")}


def run_tests(folder: Path, environment: Mapping[str, str], *options: str) -> Completed:
    """Run the tests of an application, which are in a folder, in a process of their own.

    pytest has the plugins that they need, and none of those that are installed for other tests,
    which take seconds to import.

    Args:
        environment: all that they find there.
        options: of pytest, beside those that the folder has.
    """
    plugins = ("no:cacheprovider", "pytest_asyncio.plugin", "amphibase.testing.plugin")
    chosen = (argument for name in plugins for argument in ("-p", name))
    command = ["pytest", "-q", "--disable-plugin-autoload", *chosen, *options]
    return _completed(command, folder, environment, _run_tests, seconds=TESTS_SECONDS)


def run_script(script: Path, environment: Mapping[str, str]) -> Completed:
    """Run a Python file in its folder until it ends; a warning is an error.

    Args:
        environment: all that it finds there.
    """
    return _completed([script.name], script.parent, environment, _run_script)


def run(
    folder: Path,
    environment: Mapping[str, str],
    *arguments: str,
    input: str = "",
    forked: bool = True,
) -> Completed:
    """Run the command until it ends; there is no terminal, as in a script.

    Args:
        folder: where it runs.
        environment: all that it finds there, besides `inherited` and the width of lines.
        arguments: of the command.
        input: what it reads.
        forked: False starts Python itself, as a shell does.
    """
    whole = {**inherited(), "COLUMNS": "200", **environment}
    if not forked:
        return subprocess.run(
            [*FROM_THE_START, *arguments],
            cwd=folder,
            env=whole,
            input=input,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    return _completed(["amphibase", *arguments], folder, whole, main, input)


def _completed(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    entry: Callable[[], None],
    input: str = "",
    seconds: float = SECONDS,
) -> Completed:
    with TemporaryDirectory() as name:
        given, output, errors = streams = [Path(name) / each for each in ("in", "out", "err")]
        given.write_text(input)
        code = Forked(arguments, folder, environment, streams, entry).wait(seconds)
        return Completed(arguments, code, output.read_text(), errors.read_text())


def _run_tests() -> None:
    sys.exit(pytest.main(sys.argv[1:]))


def _run_script() -> None:
    warnings.simplefilter("error")
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_path(sys.argv[0], run_name="__main__")


def _become(
    arguments: Sequence[str],
    folder: Path,
    environment: dict[str, str],
    streams: Sequence[Path],
    entry: Callable[[], None],
) -> None:
    for number, (path, mode) in enumerate(zip(streams, ("rb", "ab", "ab"), strict=True)):
        with path.open(mode) as stream:
            os.dup2(stream.fileno(), number)
    sys.stdin = os.fdopen(0, closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [*arguments]
    entry()
