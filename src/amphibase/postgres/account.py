"""The user that a server of ours runs as, and what is opened and started for that user.

Postgres does not run as root: root's server is another user's, who has neither our environment nor
our folders.
"""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from amphibase.errors import ConfigurationError

Account = pwd.struct_passwd | None


def account_for(data_dir: Path) -> Account:
    """Return whom root's server on a folder runs as; None where the user is not root.

    Raises:
        ConfigurationError: there is no user that it could run as.
    """
    if os.geteuid() != 0:
        return None
    owner = data_dir.stat().st_uid
    with suppress(KeyError):
        return pwd.getpwuid(owner) if owner else pwd.getpwnam("postgres")
    with suppress(KeyError):
        return pwd.getpwnam("nobody")
    raise ConfigurationError("Postgres does not run as root, and there is no user nobody")


def confined(account: Account) -> dict[str, Any]:
    """Return the options of `subprocess` for that user, without our environment and its secrets."""
    inherited = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    options: dict[str, Any] = {"cwd": "/", "env": {**inherited, "LC_ALL": "C", "TZ": "UTC"}}
    options |= {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "text": True}
    if account is not None:
        options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return options


class Programs(NamedTuple):
    """The programs of a server, run on its folder as its user.

    Attributes:
        binaries: where they are.
        way: how the user gets to the folder.
        folder: its descriptor.
        account: the user; None for us.
    """

    binaries: Path
    way: str
    folder: int
    account: Account

    def start(self, name: str, *arguments: str, stdout: IO[str] | int) -> "subprocess.Popen[str]":
        """Start one in a session of its own: Ctrl-C is for the application to handle."""
        return subprocess.Popen(  # noqa: S603 - the caller's own arguments
            [self.binaries / name, "-D", self.way, *arguments],
            stdout=stdout,
            pass_fds=[self.folder],
            start_new_session=True,
            **confined(self.account),
        )


@contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    """Open a folder for the block, and return its descriptor."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_private(path: Path, mode: str, account: Account = None) -> IO[str]:
    """Open a text file that only its owner may read, and follow no link to it: root opens these in
    a folder where the server's user could have put one.

    Args:
        account: whom the file belongs to; None for us.
    """

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NOFOLLOW, 0o600)
        if account is not None:
            os.fchown(descriptor, account.pw_uid, account.pw_gid)
        return descriptor

    return open(path, mode, errors="replace", opener=opener)
