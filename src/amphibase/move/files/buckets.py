"""The buckets of a move: what they were before it, and their settings."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from amphibase.backend.files import Bucket
from amphibase.errors import Conflict, ForeignKeyViolation
from amphibase.move.files.base import FileSide
from amphibase.move.journal import Journal
from amphibase.move.plan import FilesPlan
from amphibase.move.stage import Kept

HELD = "files held"
"""Of a bucket: whether the target held files in it when the move began."""

BUCKETS = "buckets changed"
"""Of a bucket: its settings before the move; None for one that the move has made."""


class MovedBuckets:
    """Makes the buckets that a plan names, and keeps their settings the source's."""

    def __init__(
        self, source: FileSide, target: FileSide, plan: FilesPlan, journal: Journal
    ) -> None:
        self._source, self._target = source, target
        self._plan = plan
        self._journal = journal

    def held_files(self, bucket: str) -> bool:
        """Return whether the target held files in a bucket when the move began."""
        return bool(self._journal.get(HELD, bucket))

    async def is_taken(self, bucket: str) -> bool:
        """Return whether the target has files in a bucket that are to be the move's alone."""
        if self._plan.merge or self._journal.get(HELD, bucket) is not None:
            return False
        return await _has_files(self._target, bucket)

    async def make(self, bucket: Bucket) -> None:
        """Make a bucket where the target has none, and write down what was there before."""
        target = self._target
        if self._journal.get(HELD, bucket.id) is not None:
            return
        there = next((each for each in await target.buckets() if each.id == bucket.id), None)
        if there is None:
            self._journal.put(BUCKETS, bucket.id, None)
            with suppress(Conflict):  # made by a run that was killed
                await target.make_bucket(bucket)
            self._journal.put(HELD, bucket.id, False)
            return
        if not self._journal.has(BUCKETS, bucket.id):
            before = (there.public, there.file_size_limit, there.allowed_types)
            self._journal.put(BUCKETS, bucket.id, before)
        self._journal.put(HELD, bucket.id, await _has_files(target, bucket.id))

    async def set_settings(self) -> int:
        """Give the buckets the source's settings, but those that held files before the move."""
        changed = await self.changed()
        for bucket in changed:
            await self._target.set_bucket(bucket)
        return len(changed)

    async def changed(self) -> dict[Bucket, str]:
        """Return the source's buckets that differ from the target's, and in which settings."""
        there = {bucket.id: _settings(bucket) for bucket in await self._target.buckets()}
        changed = {}
        for bucket in await self._source.buckets():
            id, settings = bucket.id, _settings(bucket)
            if id in self._plan.buckets and id in there and not self.held_files(id):
                names = [name for name in settings if settings[name] != there[id][name]]
                if names:
                    changed[bucket] = ", ".join(names)
        return changed

    async def undo(self) -> AsyncIterator[Kept]:
        """Delete the buckets that the move made, and give the others their settings back."""
        there = {bucket.id: bucket for bucket in await self._target.buckets()}
        for id, before in self._journal.entries(BUCKETS):
            if before is not None and id in there:
                public, limit, types = before
                await self._target.set_bucket(
                    replace(
                        there[id], public=public, file_size_limit=limit, allowed_types=tuple(types)
                    )
                )
            elif before is None:
                try:
                    await self._target.delete_bucket(id)
                except ForeignKeyViolation:
                    yield Kept("buckets", id, "holds files")


async def _has_files(side: FileSide, bucket: str) -> bool:
    return await anext(side.files(bucket), None) is not None


def _settings(bucket: Bucket) -> dict[str, Any]:
    types = frozenset(bucket.allowed_types)
    return {
        "public": bucket.public,
        "file_size_limit": bucket.file_size_limit,
        "allowed_types": types,
    }
