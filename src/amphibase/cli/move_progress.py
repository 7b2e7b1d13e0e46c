"""The progress of a move on a terminal: a line for each table, with rows a second and time left."""

from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichLines
from rich.text import Text


class SpeedColumn(ProgressColumn):
    """How many rows, accounts, files or bytes are done a second."""

    def render(self, task: Task) -> Text:
        """Return the text of a task."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s")


class CountColumn(MofNCompleteColumn):
    """How many of how many are done; nothing of a step that counts nothing."""

    def render(self, task: Task) -> Text:
        """Return the text of a task."""
        return Text("") if task.total is None and not task.completed else super().render(task)


class TerminalProgress:
    """Shows the tasks that are under way; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._lines = RichLines(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            CountColumn(),
            SpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._lines.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.stop()

    def start(self, task: str, total: int | None, unit: str) -> None:
        """Begin a task, or give it another total."""
        if task in self._tasks:
            self._lines.update(self._tasks[task], total=total, unit=unit)
        else:
            self._tasks[task] = self._lines.add_task(escape(task), total=total, unit=unit)

    def advance(self, task: str, amount: int) -> None:
        """Count more as done."""
        if task in self._tasks:
            self._lines.advance(self._tasks[task], amount)

    def finish(self, task: str) -> None:
        """End a task."""
        if task in self._tasks:
            self._lines.remove_task(self._tasks.pop(task))
