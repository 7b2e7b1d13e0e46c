"""The folder of a local project: its data, its secrets, and the gateway that runs on it."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from amphibase.errors import ConfigurationError

STATE_FILE = "state.json"
LOCK_FILE = "gateway.lock"
LOG_FILE = "gateway.log"
PASSWORD_FILE = "authenticator.password"
PROBE_SECONDS = 0.1
POSTGRES = "postgres"
STORAGE = "storage"


@dataclass(frozen=True, slots=True)
class State:
    """A gateway that runs.

    Attributes:
        pid: of its process.
        embedded: whether its Postgres is its own.
        values: what people and programs want to know, by the names of the Supabase CLI.
    """

    pid: int
    embedded: bool
    values: dict[str, str]


class Folder:
    """`--data-dir`.

    A gateway holds a lock on a file of the folder for as long as it lives, however it ends: so a
    state that was left over is never taken for one that runs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def make(self) -> None:
        """Make the folder, for its owner alone; git is told to leave it.

        Raises:
            ConfigurationError: it cannot be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise ConfigurationError(
                f"{self.path} cannot be used: {error.strerror}; name another with --data-dir"
            ) from None

    def lock(self) -> int | None:
        """Take the folder; None where a gateway has it.

        Returns:
            A descriptor: the folder is taken until it, and those a fork makes of it, are closed.
        """
        deadline = time.monotonic() + PROBE_SECONDS
        while (descriptor := self._lock(fcntl.LOCK_EX)) is None and time.monotonic() < deadline:
            time.sleep(0.01)  # somebody may be looking whether a gateway runs
        return descriptor

    def _lock(self, kind: int) -> int | None:
        descriptor = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _is_taken(self) -> bool:
        # Shared: who looks at the same moment is no gateway.
        descriptor = self._lock(fcntl.LOCK_SH)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def running(self) -> State | None:
        """The gateway that runs on the folder and is ready."""
        if not (self.path / LOCK_FILE).exists() or not self._is_taken():
            return None
        try:
            return State(**json.loads((self.path / STATE_FILE).read_text()))
        except (OSError, ValueError, TypeError):  # it is about to start, or to end
            return None

    def wait_until_free(self, seconds: float) -> bool:
        """Whether the gateway has ended within that time."""
        deadline = time.monotonic() + seconds
        while self._is_taken():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    @contextmanager
    def state(self, state: State) -> Iterator[None]:
        """Say that the gateway is ready, for as long as the block runs."""
        path = self.path / STATE_FILE
        self._write(path, json.dumps(asdict(state), indent=2) + "\n")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def password(self, given: str | None = None) -> str:
        """Return the password of `authenticator`, random where none has been given.

        Args:
            given: its password, to be kept from now on.
        """
        path = self.path / PASSWORD_FILE
        if given is not None or not path.exists():
            self._write(path, given or secrets.token_urlsafe(24))
        return path.read_text()

    def _write(self, path: Path, content: str) -> None:
        temporary = path.with_suffix(f".{secrets.token_hex(4)}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
        temporary.replace(path)
