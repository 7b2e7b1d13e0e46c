"""How far a move is, for people and for programs."""

from typing import Protocol


class Progress(Protocol):
    """Is told by the stages how far they are."""

    def start(self, task: str, total: int | None, unit: str) -> None:
        """Begin a task, such as the rows of a table, or give it another total."""

    def advance(self, task: str, amount: int) -> None:
        """Count `amount` more of its unit as done."""

    def finish(self, task: str) -> None:
        """End a task."""


class NoProgress:
    """Shows nothing."""

    def start(self, task: str, total: int | None, unit: str) -> None: ...

    def advance(self, task: str, amount: int) -> None: ...

    def finish(self, task: str) -> None: ...
