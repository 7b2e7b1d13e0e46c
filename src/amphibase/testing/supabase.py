"""A local Supabase for tests: one process for a run, a fresh project for each test."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

END_SECONDS = 120


@dataclass(frozen=True)
class LocalSupabase:
    """A new project: no users, no tables of an application, no buckets.

    Attributes:
        url: of the API, for a client.
        anon_key, service_role_key: JSON Web Tokens, signed by `jwt_secret`.
        publishable_key, secret_key: the opaque keys that stand for them.
        db_url: of its database, as the superuser.
        inbox_url: of the inbox; `/api/messages` below it has the emails as JSON.
    """

    url: str
    anon_key: str = field(repr=False)
    service_role_key: str = field(repr=False)
    publishable_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    db_url: str = field(repr=False)
    inbox_url: str


class Projects:
    """The process that serves the projects of a run."""

    def __init__(self, commands: IO[str], responses: IO[str], log: Path) -> None:
        self._commands = commands
        self._responses = responses
        self._log = log

    @contextmanager
    def open(self) -> Iterator[LocalSupabase]:
        """Open a fresh project, for the block.

        Raises:
            RuntimeError: the process has ended; holds its last words.
        """
        self._say(["open"])
        response = self._responses.readline()
        if not response:
            raise RuntimeError(f"The local Supabase of the tests ended:\n{self._log.read_text()}")
        project = LocalSupabase(**json.loads(response))
        try:
            yield project
        finally:
            self._say(["close", project.url])

    def _say(self, command: list[Any]) -> None:
        with suppress(BrokenPipeError):  # reading the response shows it
            self._commands.write(json.dumps(command) + "\n")
            self._commands.flush()


@contextmanager
def serve_projects() -> Iterator[Projects]:
    """Start the process, and end it with the block; its data goes with it."""
    with tempfile.TemporaryDirectory(prefix="amphibase-") as folder:
        log = Path(folder, "log")
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "amphibase.testing.supabase_server"],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Projects(process.stdin, process.stdout, log)
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(END_SECONDS)
            finally:
                process.kill()  # where it has not ended; its Postgres ends with it
                process.stdout.close()
