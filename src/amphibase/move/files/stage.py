"""The stage of files."""

from collections.abc import AsyncIterator

from amphibase.move.context import MoveContext
from amphibase.move.stage import Check, Kept, Outcome, Verified


class FilesStage:
    """Moves buckets and files, with types, owners and metadata."""

    name = "files"

    def __init__(self, context: MoveContext) -> None:
        self._context = context

    async def check(self) -> list[Check]:
        """Look at the files of both sides."""
        return [Check(Outcome.FAIL, self.name, "files cannot be moved yet")]

    async def run(self) -> None:
        """Copy the files that are not on the target yet."""

    async def reconcile(self) -> int:
        """Copy what has changed since, and remove what the source has lost."""
        return 0

    async def verify(self) -> Verified:
        """Compare the files of both sides."""
        return Verified()

    async def undo(self) -> AsyncIterator[Kept]:
        """Remove the files that the move made and nobody changed since."""
        nothing: list[Kept] = []
        for kept in nothing:
            yield kept

    async def finish(self) -> None:
        """Remove nothing: there is nothing of the stage's own."""

    async def close(self) -> None:
        """Close nothing."""
