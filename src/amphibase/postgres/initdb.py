"""Initialises the folder of a server, so that a start that is cut goes on or begins anew."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from amphibase.errors import ConfigurationError
from amphibase.postgres.account import Programs, confined, open_private

PASSWORD_FILE = "amphibase.password"
UNFINISHED = "amphibase.unfinished"
"""Where initdb works, so that the rest of one that was interrupted is not taken for data."""

LOG_LINES = 8


def is_fresh(data_dir: Path) -> bool:
    """Return whether the folder is yet to be initialised; a start may have been cut half-way."""
    if (data_dir / UNFINISHED / PASSWORD_FILE).exists():
        return True
    return all(path.name == UNFINISHED for path in data_dir.iterdir())


def initialise(data_dir: Path, programs: Programs) -> None:
    """Run initdb on the folder, or go on with one that was cut; what it writes is not on the disk
    before `start_sync` has ended.

    Raises:
        ConfigurationError: initdb failed; the end of its output says why.
    """
    os.fchmod(programs.folder, 0o700)  # Postgres demands it
    unfinished = data_dir / UNFINISHED
    if not (unfinished / PASSWORD_FILE).exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        _run_initdb(unfinished, programs)
    # The password last: as long as it is not here, the next start goes on with this.
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == PASSWORD_FILE):
        path.rename(data_dir / path.name)
    unfinished.rmdir()


def start_sync(programs: Programs) -> "subprocess.Popen[str]":
    """Start to write all files of a folder to the disk, in a process of its own."""
    return programs.start("initdb", "--sync-only", stdout=subprocess.DEVNULL)


def _run_initdb(data_dir: Path, programs: Programs) -> None:
    account = programs.account
    password = secrets.token_urlsafe(24)
    locale = "C.UTF-8" if sys.platform == "linux" else "C"
    with tempfile.TemporaryFile() as file:
        file.write(password.encode())
        file.seek(0)
        if account is not None:
            os.fchown(file.fileno(), account.pw_uid, account.pw_gid)
        command: list[Any] = [programs.binaries / "initdb", "-D", f"{programs.way}/{UNFINISHED}"]
        command += f"-U postgres -A scram-sha-256 -E UTF8 --locale={locale}".split()
        command += [f"--pwfile=/dev/fd/{file.fileno()}", "--no-sync"]
        initdb = subprocess.run(  # noqa: S603 - our own arguments
            command,
            stdout=subprocess.PIPE,
            pass_fds=[programs.folder, file.fileno()],
            **confined(account),
        )
    if initdb.returncode:
        last = "\n".join(initdb.stdout.splitlines()[-LOG_LINES:])
        raise ConfigurationError(f"Postgres could not initialise {data_dir}:\n{last}")
    with open_private(data_dir / PASSWORD_FILE, "x", account) as secret:
        secret.write(password)
