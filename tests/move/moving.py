"""`amphibase move` in a folder of its own, between two databases with an application's tables."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url
from tests.commands import Completed, Forked, run
from tests.move.application import contents, stored_files

SECONDS = 60


@dataclass
class MoveFolder:
    """A plan's folder, and the environment in which its commands run."""

    path: Path
    source: str
    target: str
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def password(self) -> str:
        """The target's, which is to be seen nowhere."""
        password = make_url(self.target).password
        assert password
        return password

    @property
    def source_files(self) -> Path:
        return self.path / "source-files"

    @property
    def target_files(self) -> Path:
        return self.path / "target-files"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "COLUMNS": "200",
            "SOURCE_DATABASE_URL": self.source,
            "TARGET_DATABASE_URL": self.target,
            "SOURCE_FILES_URL": f"file://{self.source_files}",
            "TARGET_FILES_URL": f"file://{self.target_files}",
            **self.extra,
        }

    def command(self, *arguments: str) -> Completed:
        """Run `amphibase move …` until it ends."""
        return run(self.path, self.environment, "move", *arguments)

    def plan(self) -> None:
        """Write the plan."""
        done = self.command("plan", "sql", "sql")
        assert done.returncode == 0, done.stderr

    def run(self, *options: str, code: int = 0) -> Completed:
        """Run the plan, and check how it ends."""
        done = self.command("run", *options)
        assert done.returncode == code, done.stderr + done.stdout
        return done

    def run_and_kill(self, seconds: float) -> int:
        """Run the plan and kill it after so many seconds; return how it ended: 0 if it was over."""
        streams = [self.path / f"killed.{name}" for name in ("in", "out", "err")]
        streams[0].touch()
        running = Forked(["amphibase", "move", "run"], self.path, self.environment, streams)
        if running.ends_within(seconds):
            return running.wait(SECONDS)
        os.kill(running.pid, signal.SIGKILL)
        return running.wait(SECONDS)

    def check_equal(self) -> None:
        """Check that both sides hold the same rows, accounts and files."""
        there, here = contents(self.target), contents(self.source)
        for name, rows in here.items():
            assert there[name] == rows, name
        assert stored_files(self.target, self.target_files) == stored_files(
            self.source, self.source_files
        )
