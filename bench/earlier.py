"""The code of an earlier commit, to be measured beside today's in the same run."""

from __future__ import annotations

import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from bench.environment import ServerError
from bench.machine import ROOT


@dataclass(frozen=True, slots=True)
class Code:
    """One state of this repository: what processes are started with to run it."""

    name: str
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a Python process import this code rather than any other."""
        return {"PYTHONPATH": f"{self.root / 'src'}:{self.root}"}


def today() -> Code:
    """Return the code of the work tree."""
    return Code("today", ROOT)


def check_out(commit: str, folder: Path) -> Code:
    """Write the files of a commit into a folder.

    It runs in today's environment: with the libraries at the versions of today's lock file.

    Args:
        commit: anything that git resolves to a commit.
        folder: made where it is missing.

    Raises:
        ServerError: git does not know the commit, as in a shallow clone.
    """
    done = subprocess.run(
        ["git", "archive", commit, "src", "bench"], cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise ServerError(f"commit {commit}", "could not be read", done.stderr.decode())
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return Code(commit, folder)
