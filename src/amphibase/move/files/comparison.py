"""Files of both sides, read again and compared."""

import hashlib
from collections.abc import Callable, Sequence

from amphibase.move.files.base import FileRejected, FileSide, StoredFile
from amphibase.move.progress import Progress
from amphibase.move.stage import SideDifference, task_of

VERIFY = task_of("files", "verify")
"""Of the progress; it counts files."""


class FileComparison:
    """Compares the files of a bucket; `compare` is called for each file of the source.

    Args:
        target_name: what a file of the source is called on the target.
        is_kept: whether a file was on the target before the move, and stays as it was.
        shown: what is compared beside size, bytes and metadata; attributes of a file.

    Attributes:
        count: how many files were compared.
        differences: what both sides do not hold alike.
    """

    def __init__(
        self,
        source: FileSide,
        target: FileSide,
        target_name: Callable[[str], str],
        is_kept: Callable[[StoredFile], bool],
        shown: Sequence[str],
        progress: Progress,
    ) -> None:
        self._source = source
        self._target = target
        self._target_name = target_name
        self._is_kept = is_kept
        self._shown = shown
        self._progress = progress
        self._sums = [0, 0]
        self.count = 0
        self.differences: list[SideDifference] = []

    @property
    def checksums(self) -> tuple[str, str]:
        """The sums of the hashes of both sides, in hex."""
        return f"{self._sums[0]:016x}", f"{self._sums[1]:016x}"

    async def compare(self, listed: StoredFile) -> None:
        """Compare a file of the source with the one of the target."""
        await self._compare(listed)
        self._progress.advance(VERIFY, 1)

    async def _compare(self, listed: StoredFile) -> None:
        self.count += 1
        if self._is_kept(listed):
            return
        file = await self._source.find(listed.bucket, listed.name)
        there = await self._target.find(listed.bucket, self._target_name(listed.name))
        if file is None:
            return  # deleted a moment ago
        if there is None:
            self._report(file, "is missing on the target")
            return
        names = [
            name
            for name in ("size", "content_type", "cache_control", *self._shown)
            if getattr(file, name) != getattr(there, name)
        ]
        if dict(file.user_metadata or {}) != dict(there.user_metadata or {}):
            names.append("user_metadata")
        try:
            hashes = await hash_of(self._source, file), await hash_of(self._target, there)
        except FileRejected as error:
            self._report(file, f"cannot be read: {error}")
            return
        if hashes[0] != hashes[1]:
            names.append("bytes")
        for side, hashed in enumerate(hashes):
            self._sums[side] = (self._sums[side] + int(hashed[:16], 16)) % 2**64
        if names:
            self._report(file, f"differs: {', '.join(names)}")

    def _report(self, file: StoredFile, message: str) -> None:
        self.differences.append(SideDifference(f"files of {file.bucket}", file.name, message))


async def hash_of(side: FileSide, file: StoredFile) -> str:
    """Read a file and return its SHA-256 in hex. Raises FileRejected."""
    digest = hashlib.sha256()
    async for chunk in side.read(file):
        digest.update(chunk)
    return digest.hexdigest()
