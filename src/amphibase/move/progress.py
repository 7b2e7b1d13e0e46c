"""How far a move is, for people and for programs."""

import json
import time
from dataclasses import dataclass, field
from typing import Protocol, TextIO

SECONDS_BETWEEN_LINES = 0.5


class Progress(Protocol):
    """Receives from the stages how far they are."""

    def start(self, task: str, total: int | None, unit: str) -> None:
        """Begin a task, such as the rows of a table, or give it another total and unit."""

    def advance(self, task: str, amount: int) -> None:
        """Count `amount` more of its unit as done."""

    def finish(self, task: str) -> None:
        """End a task."""


class NoProgress:
    """Shows nothing."""

    def start(self, task: str, total: int | None, unit: str) -> None: ...

    def advance(self, task: str, amount: int) -> None: ...

    def finish(self, task: str) -> None: ...


@dataclass(slots=True)
class _Task:
    total: int | None
    unit: str
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    written: float = 0.0


class JsonProgress:
    """Writes a JSON object a line: `{"event": "advance", "task": "public.notes", "done": 5000,
    "total": 12000, "unit": "rows", "seconds": 0.9}`, of a task at most two lines a second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tasks: dict[str, _Task] = {}

    def start(self, task: str, total: int | None, unit: str) -> None:
        """Begin a task, or give it another total."""
        state = self._tasks.setdefault(task, _Task(total, unit))
        state.total, state.unit = total, unit
        self._write("start", task, state)

    def advance(self, task: str, amount: int) -> None:
        """Count more as done."""
        state = self._tasks.setdefault(task, _Task(None, ""))
        state.done += amount
        if time.monotonic() - state.written >= SECONDS_BETWEEN_LINES:
            self._write("advance", task, state)

    def finish(self, task: str) -> None:
        """End a task."""
        state = self._tasks.pop(task, None)
        if state is not None:
            self._write("finish", task, state)

    def _write(self, event: str, task: str, state: _Task) -> None:
        state.written = time.monotonic()
        line = {
            "event": event,
            "task": task,
            "done": state.done,
            "total": state.total,
            "unit": state.unit,
            "seconds": round(state.written - state.began, 3),
        }
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
