"""`amphibase move` in a folder of its own, between two databases with an application's tables."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import inspect, make_url
from tests.commands import Completed, Forked, inherited, run
from tests.move.application import contents, open_engine, stored_files

SECONDS = 60
OWN = ("amphibase_freeze", "amphibase_move")
"""What the names of a move's own tables and schemas begin with."""


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
            **inherited(),
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

    def run_and_kill(self, seconds: float, *options: str) -> int:
        """Run the plan and kill it after so many seconds; return how it ended: 0 if it was over."""
        streams = [self.path / f"killed.{name}" for name in ("in", "out", "err")]
        streams[0].touch()
        command = ["amphibase", "move", "run", *options]
        running = Forked(command, self.path, self.environment, streams)
        if not running.ends_within(seconds):
            os.kill(running.pid, signal.SIGKILL)
        return running.wait(SECONDS)

    def undo(self) -> None:
        """Undo the plan, of which everything goes."""
        done = self.command("undo", "--yes")
        assert done.returncode == 0, done.stderr + done.stdout

    def check_clean(self) -> None:
        """Check that nothing of the move's own remains on either side."""
        for url in (self.source, self.target):
            engine = open_engine(url)
            names = [*inspect(engine).get_table_names(), *inspect(engine).get_schema_names()]
            engine.dispose()
            assert not [name for name in names if name.startswith(OWN)]

    def check_equal(self) -> None:
        """Check that both sides hold the same rows, accounts and files."""
        there, here = contents(self.target), contents(self.source)
        for name, rows in here.items():
            assert there[name] == rows, name
        assert stored_files(self.target, self.target_files) == stored_files(
            self.source, self.source_files
        )
