"""The lock file that a server keeps in its folder, `postmaster.pid`
(https://www.postgresql.org/docs/current/storage-file-layout.html)."""

import os
from pathlib import Path


def read_lock(data_dir: Path) -> tuple[int, int, bool]:
    """Return the server's process, its port, and whether it is ready; zeros where they are not
    known."""
    try:
        # The later lines are added while the server starts.
        lines = [*(data_dir / "postmaster.pid").read_text().splitlines(), *[""] * 8]
        return int(lines[0]), int(lines[3] or 0), lines[7].strip() == "ready"
    except (FileNotFoundError, ValueError):
        return 0, 0, False


def is_postgres(pid: int) -> bool:
    """Return whether a process is a Postgres that runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's, and alive
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return pid > 0
    return "postgres" in status.partition("\n")[0] and "\nState:\tZ" not in status
