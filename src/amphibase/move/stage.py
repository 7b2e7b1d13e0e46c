"""A stage of the move: accounts, tables or files, each with the same steps."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from amphibase.move.plan import NotMoved


class Outcome(StrEnum):
    """How a check came out; a failed one stops the move before anything is written."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class PreflightCheck:
    """A row of the preflight: what was looked at, how it is, and what to do."""

    outcome: Outcome
    subject: str
    message: str


def task_of(stage: str, step: str) -> str:
    """Return what a step of a stage is called where its progress is shown."""
    return f"{stage}: {step}"


@dataclass(frozen=True, slots=True)
class SideDifference:
    """Something that both sides do not hold alike.

    Args:
        subject: a table, `accounts`, or a bucket.
        key: of the row, account or file; None where it is about the whole.
    """

    subject: str
    key: str | None
    message: str

    @property
    def label(self) -> str:
        """What it is about, for people."""
        return self.subject if self.key is None else f"{self.subject} {self.key}"


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that `undo` did not remove, and why."""

    subject: str
    key: str
    reason: str


@dataclass(slots=True)
class Verification:
    """What a verification saw.

    Args:
        counts: subject → rows, accounts or files of the source and of the target.
        checksums: subject → checksum of the source and of the target, in hex.
        partial: subjects of which each side may hold what the other does not, as something was
            there before or was rejected; the counts of all others are equal.
        marks: of the target, as `Stage.marks` returns them, from before it was compared.
        unverified: what could not be looked at, and why; it is not a pass.
        hashes: kind of password hash → accounts of the source.
        not_moved: what stays on the source, and why.
    """

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    checksums: dict[str, tuple[str, str]] = field(default_factory=dict)
    partial: set[str] = field(default_factory=set)
    marks: dict[str, str] = field(default_factory=dict)
    differences: list[SideDifference] = field(default_factory=list)
    unverified: list[SideDifference] = field(default_factory=list)
    hashes: dict[str, int] = field(default_factory=dict)
    not_moved: list[NotMoved] = field(default_factory=list)


class Stage(Protocol):
    """Moves one kind of thing. Each step may be repeated, also after a kill in the middle."""

    name: str

    async def check(self) -> list[PreflightCheck]:
        """Look at both sides, without writing."""

    async def run(self) -> None:
        """Copy what is not on the target yet; what was copied before is not copied again.

        Raises:
            MoveFailed: it cannot go on; says what to do.
        """

    async def reconcile(self) -> int:
        """Copy what has changed on the source since it was copied, and remove what it has lost.

        Returns:
            How many rows, accounts or files were written or removed.
        """

    async def verify(self) -> Verification:
        """Read both sides again and compare."""

    async def marks(self) -> dict[str, str]:
        """Read the target; return subject → what changes whenever somebody writes to it.

        Of what is merged these are the rows, accounts and files of the move alone.
        """

    def undo(self) -> AsyncIterator[Kept]:
        """Remove what the move wrote; yield what has been changed or used since, which is kept."""

    async def finish(self) -> None:
        """Remove what the stage has put on either side for its own use, such as checkpoints.

        Called after the verification of a run, and after `undo`.
        """

    async def close(self) -> None:
        """Close the connections; also where none was opened."""
