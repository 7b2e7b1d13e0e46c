"""The data folder of a local project: its data, its secrets, and the gateway that runs on it."""

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from amphibase.errors import ConfigurationError

STATE_FILE = "state.json"
LOCK_FILE = "gateway.lock"
LOG_FILE = "gateway.log"
PASSWORD_FILE = "authenticator.password"
REOPENING_FILE = "reopening"
"""Is there until the gateway has let go of its services."""
PROBE_SECONDS = 10
END_SECONDS = 1
"""How long to wait for a gateway that may be about to end."""
NAME_SECONDS = 20
REOPEN_SECONDS = 30
POSTGRES = "postgres"
STORAGE = "storage"


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """The state of a running gateway.

    Attributes:
        pid: of its process.
        embedded: whether it started its Postgres.
        values: how to reach it, by the names of the Supabase CLI.
    """

    pid: int
    embedded: bool
    values: dict[str, str]


class DataDir:
    """The folder that `--data-dir` names.

    A gateway holds a lock on a file of the folder until its process ends, in whatever way. So a
    state file that a crash has left is never taken for a running gateway.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def create(self) -> None:
        """Create the folder, for its owner alone, with a .gitignore.

        Raises:
            ConfigurationError: it cannot be created.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise self._unusable(error) from None

    def lock(self) -> int | None:
        """Lock the folder for a gateway; None where another has it.

        Returns:
            A descriptor: the folder is locked until it, and its copies in forks, are closed.

        Raises:
            ConfigurationError: it cannot be written.
        """
        began = time.monotonic()
        while (descriptor := self._lock(fcntl.LOCK_EX)) is None:
            # A gateway has it for itself; whoever checks whether one runs shares it, and goes.
            limit = END_SECONDS if self._is_locked() else PROBE_SECONDS
            if time.monotonic() > began + limit:
                return None
            time.sleep(0.01)
        os.ftruncate(descriptor, 0)  # whom it named has ended
        return descriptor

    def _lock(self, kind: int) -> int | None:
        try:
            descriptor = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _is_locked(self) -> bool:
        # Shared, so that two processes that check at once do not see each other.
        descriptor = self._lock(fcntl.LOCK_SH)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def running(self) -> RunningGateway | None:
        """Return the gateway that runs on the folder and is ready; None where there is none."""
        if not (self.path / LOCK_FILE).exists() or not self._is_locked():
            return None
        try:
            return RunningGateway(**json.loads((self.path / STATE_FILE).read_text()))
        except (OSError, ValueError, TypeError):  # it is starting or ending
            return None

    def write_process(self) -> None:
        """Write into the file of the lock, which is held, that this process is the gateway."""
        (self.path / LOCK_FILE).write_text(f"{os.getpid()}\n")

    def process(self) -> int | None:
        """Return the process of the gateway that has the folder, ready or not; None where there is
        none."""
        path = self.path / LOCK_FILE
        deadline = time.monotonic() + NAME_SECONDS
        while path.exists() and self._is_locked() and time.monotonic() < deadline:
            if process := path.read_text().strip():
                return int(process)
            time.sleep(0.01)  # it has the lock, and is about to write its number
        return None

    def wait_until_free(self, seconds: float) -> bool:
        """Wait for the gateway to end; return whether it has within that time."""
        deadline = time.monotonic() + seconds
        while self._is_locked():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    @contextmanager
    def state(self, state: RunningGateway) -> Iterator[None]:
        """Publish the state of a gateway that is ready, for as long as the block runs."""
        path = self.path / STATE_FILE
        self._write(path, json.dumps(asdict(state), indent=2) + "\n")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def reopen(self, gateway: RunningGateway) -> None:
        """Have the services of a gateway open anew, and wait until no request reaches the old ones,
        or the gateway has ended or does not respond."""
        path = self.path / REOPENING_FILE
        path.touch(0o600)
        deadline = time.monotonic() + REOPEN_SECONDS
        with suppress(ProcessLookupError):
            os.kill(gateway.pid, signal.SIGUSR1)
            while path.exists() and self._is_locked() and time.monotonic() < deadline:
                time.sleep(0.01)
        self.has_reopened()

    def has_reopened(self) -> None:
        """Say that no request reaches the services that were open before."""
        (self.path / REOPENING_FILE).unlink(missing_ok=True)

    def password(self, chosen: str | None = None) -> str:
        """Return the password of `authenticator`, random where none was chosen.

        Args:
            chosen: its password, to be stored from now on.
        """
        path = self.path / PASSWORD_FILE
        if chosen is not None or not path.exists():
            self._write(path, chosen or secrets.token_urlsafe(24))
        return path.read_text()

    def _write(self, path: Path, content: str) -> None:
        temporary = path.with_suffix(f".{secrets.token_hex(4)}")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(content)
            temporary.replace(path)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"{self.path} cannot be used: {error.strerror}; name another with --data-dir"
        )
