"""The stage of files: buckets, bytes, types, owners and metadata."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any

from amphibase.errors import AmphibaseError, MoveFailed
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Endpoint, SqlEndpoint
from amphibase.move.files.base import Content, FileRejected, FileSide, StoredFile
from amphibase.move.files.buckets import MovedBuckets
from amphibase.move.files.comparison import VERIFY, FileComparison, hash_of
from amphibase.move.files.journaled_upload import UPLOADS, JournaledUpload
from amphibase.move.files.names import name_on
from amphibase.move.files.project import ProjectFileSide
from amphibase.move.files.sql import SqlFileSide
from amphibase.move.parallel import in_parallel
from amphibase.move.plan import FilesPlan
from amphibase.move.stage import Kept, Outcome, PreflightCheck, SideDifference, Verification

MOVED = "files moved"
"""Of a file that the move has written: what it was on the source, and is on the target."""

IN_FLIGHT = 6
"""Files at once; each holds a part of at most 6 MiB in memory."""


class FilesStage:
    """Moves the files of the buckets that a plan names."""

    name = "files"

    def __init__(self, context: MoveContext) -> None:
        self._context = context
        self._plan = context.plan.files or FilesPlan()
        self._journal = context.journal
        self._opened: tuple[FileSide, FileSide] | None = None

    async def check(self) -> list[PreflightCheck]:
        """Look at the buckets of both sides, and at the store of the bytes."""
        source, target = self._sides()
        try:
            await source.check()
            await target.check()
            there = {bucket.id for bucket in await target.buckets()}
            missing = set(self._plan.buckets) - {each.id for each in await source.buckets()}
            checks, files, size, owned = [], 0, 0, 0
            for bucket in self._plan.buckets:
                async for file in source.files(bucket):
                    files, size = files + 1, size + file.size
                    owned += file.owner_id is not None
                if bucket in there and await self._buckets.is_taken(bucket):
                    checks.append(
                        PreflightCheck(
                            Outcome.FAIL,
                            bucket,
                            "the target has files in this bucket already: delete them, or set "
                            "merge = true in [files], and they stay",
                        )
                    )
        except AmphibaseError as error:
            return [PreflightCheck(Outcome.FAIL, self.name, str(error))]
        for bucket in sorted(missing):
            checks.append(PreflightCheck(Outcome.FAIL, bucket, "the source has no such bucket"))
        if owned and not target.owners:
            checks.append(PreflightCheck(Outcome.WARN, self.name, self._owners_in_words(owned)))
        if source.owners and target.owners and not await target.keeps_times():
            message = (
                "a trigger writes the time of the move into updated_at of each file: connect as a "
                "role that may set session_replication_role"
            )
            checks.append(PreflightCheck(Outcome.WARN, self.name, message))
        if not source.owners:
            message = "the API of a project does not say whose a file is: name its database"
            checks.append(PreflightCheck(Outcome.WARN, self.name, message))
        message = f"{files} files in {len(self._plan.buckets)} buckets, {size} bytes"
        return [PreflightCheck(Outcome.PASS, self.name, message), *checks]

    def _owners_in_words(self, count: int) -> str:
        if self._writes_owners():
            return f"the owners of {count} files are written and cannot be read back"
        return (
            f"the owners of {count} files do not move over the API: name the project's database, "
            "or set SUPABASE_JWT_SECRET"
        )

    def _writes_owners(self) -> bool:
        target = self._context.target
        return isinstance(target, SqlEndpoint) or bool(target.database or target.jwt_secret)

    async def run(self) -> None:
        """Make the buckets and copy the files that are not on the target yet."""
        source, target = self._sides()
        buckets = {bucket.id: bucket for bucket in await source.buckets()}
        for id in self._plan.buckets:
            bucket = buckets.get(id)
            if bucket is None:
                raise MoveFailed(f"The source has no bucket {id} any more; plan anew")
            await self._buckets.make(bucket)
            self._context.progress.start(f"files of {id}", None, "files")
            await self._copy_all(self._new_files(source, id))
            self._context.progress.finish(f"files of {id}")
            if not self._buckets.held_files(id):
                # After the files, which may be older than the limits.
                await target.set_bucket(bucket)

    async def _new_files(self, source: FileSide, bucket: str) -> AsyncIterator[StoredFile]:
        async for file in source.files(bucket):
            if self._entry(file) is None:
                yield file

    async def _copy_all(self, files: AsyncIterator[StoredFile]) -> int:
        """Copy files; return how many were written."""
        written = 0

        async def copy(file: StoredFile) -> None:
            nonlocal written
            try:
                written += await self._copy(file)
            except FileRejected as error:
                bucket = f"files of {file.bucket}"
                self._context.quarantine.add(bucket, [file.name], {}, str(error))

        await in_parallel(files, copy, IN_FLIGHT)
        return written

    async def _copy(self, listed: StoredFile) -> bool:
        """Copy a file; it is in the journal once it is on the target. Raises FileRejected.

        Returns:
            Whether it was written: one that was there before the move stays.
        """
        source, target = self._sides()
        described = await source.find(listed.bucket, listed.name)
        if described is None:
            return False  # deleted a moment ago
        file = replace(
            described,
            name=self._target_name(listed.name),
            etag=listed.etag,
            created_at=listed.created_at,
            updated_at=listed.updated_at,
        )
        key = self._key(file.bucket, file.name)
        upload = JournaledUpload(self._journal, key)
        may_be_others = self._buckets.held_files(file.bucket) and self._entry(listed) is None
        if may_be_others and not upload.has_begun and await target.find(file.bucket, file.name):
            return False
        upload.begin()
        read_file = replace(described, etag=listed.etag)
        content = Content(described.size, partial(source.read, read_file))
        await target.write(file, content, upload)
        stored = await target.find(file.bucket, file.name)
        etag = stored.etag if stored else None
        entry = {
            "source": listed.mark,
            "etag": etag,
            "sha256": content.sha256,
            "description": stored and stored.description,
        }
        self._journal.put(MOVED, key, {**entry, "bucket": file.bucket, "name": file.name})
        upload.end()
        self._context.progress.advance(f"files of {file.bucket}", 1)
        return True

    async def reconcile(self) -> int:
        """Copy the files that have changed, and delete those that the source has lost; where the
        target's own are to be lost, also those that somebody has added there."""
        written = await self._buckets.set_settings()
        for bucket in self._plan.buckets:
            self._context.quarantine.clear(f"files of {bucket}")
            written += await self._copy_all(self._changed_files(bucket))
            written += await self._delete_lost(bucket)
            if self._context.overwrite:
                written += await self._delete_added(bucket)
        return written

    async def _changed_files(self, bucket: str) -> AsyncIterator[StoredFile]:
        async for file in self._sides()[0].files(bucket):
            entry = self._entry(file)
            if entry is None or entry["source"] != file.mark:
                yield file

    async def _delete_lost(self, bucket: str) -> int:
        deleted = 0
        async for file in self._lost_files(bucket):
            await self._sides()[1].delete(bucket, file.name)
            self._journal.delete(MOVED, self._key(bucket, file.name))
            deleted += 1
        return deleted

    async def _delete_added(self, bucket: str) -> int:
        deleted = 0
        async for name in self._added_files(bucket):
            await self._sides()[1].delete(bucket, name)
            deleted += 1
        return deleted

    async def _lost_files(self, bucket: str) -> AsyncIterator[StoredFile]:
        """Yield the files of the target that the move has written and the source has no more."""
        source, target = self._sides()
        present = sum([self._entry(file) is not None async for file in source.files(bucket)])
        there = sum([self._is_moved(file) async for file in target.files(bucket)])
        if there <= present:  # else a request for each file tells which
            return
        async for file in target.files(bucket):
            name = self._source_name(file.name)
            if self._is_moved(file) and not await source.find(bucket, name):
                yield file

    def _is_moved(self, file: StoredFile) -> bool:
        """Return whether a file of the target is one that the move has written."""
        return self._journal.get(MOVED, self._key(file.bucket, file.name)) is not None

    async def verify(self) -> Verification:
        """Read every file of both sides again, and compare bytes, types, owners and metadata."""
        source, target = self._sides()
        verified = Verification()
        shown = await self._shown()
        progress = self._context.progress
        progress.start(VERIFY, None, "files")
        for bucket in self._plan.buckets:
            mark = await self._mark(bucket)
            names = self._target_name
            comparison = FileComparison(source, target, names, self._kept, shown, progress)
            await in_parallel(source.files(bucket), comparison.compare, IN_FLIGHT)
            subject = f"files of {bucket}"
            count = sum([1 async for _ in target.files(bucket)])
            verified.counts[subject] = (comparison.count, count)
            verified.checksums[subject] = comparison.checksums
            verified.marks[subject] = mark
            rejected = self._context.quarantine.keys(subject)
            if rejected or self._plan.merge or self._buckets.held_files(bucket):
                verified.partial.add(subject)
            for each in comparison.differences:
                if (each.key,) not in rejected:
                    verified.differences.append(each)
                    self._copy_again(bucket, each.key or "")
            verified.differences += [
                SideDifference(subject, name, "is on the target alone")
                async for name in self._added_files(bucket)
            ]
            verified.differences += [
                SideDifference(subject, file.name, "is gone from the source")
                async for file in self._lost_files(bucket)
            ]
        verified.differences += [
            SideDifference(f"files of {bucket.id}", None, f"the bucket differs: {names}")
            for bucket, names in (await self._buckets.changed()).items()
        ]
        if self._plan.buckets and not (source.owners and target.owners):
            message = "owners of files were not compared: an API does not show them"
            verified.unverified.append(SideDifference("files", None, message))
        return verified

    async def _shown(self) -> list[str]:
        """Return the attributes of a file that both sides show as they are."""
        source, target = self._sides()
        names = ["owner_id"] if source.owners and target.owners else []
        if source.owners and await target.keeps_times():
            names += ["created_at", "updated_at"]
        return names

    def _copy_again(self, bucket: str, name: str) -> None:
        """Let the next run write a file that is not on the target as it was written."""
        key = self._key(bucket, self._target_name(name))
        entry = self._journal.get(MOVED, key)
        if entry is not None:
            self._journal.put(MOVED, key, {**entry, "source": None})

    async def _added_files(self, bucket: str) -> AsyncIterator[str]:
        """Yield the names of files that somebody has added to a bucket of the move's."""
        source, target = self._sides()
        if self._plan.merge or self._buckets.held_files(bucket):
            return
        async for file in target.files(bucket):
            name = self._source_name(file.name)
            if not self._is_moved(file) and not await source.find(bucket, name):
                yield file.name

    async def marks(self) -> dict[str, str]:
        """Return the sums of the listings of the target's buckets."""
        return {f"files of {bucket}": await self._mark(bucket) for bucket in self._plan.buckets}

    async def _mark(self, bucket: str) -> str:
        total = 0
        async for file in self._sides()[1].files(bucket):
            if self._is_moved(file) or not self._buckets.held_files(bucket):
                listed = f"{file.name} {file.mark}".encode()
                total += int.from_bytes(sha256(listed).digest()[:8])
        return f"{total % 2**64:016x}"

    def _kept(self, file: StoredFile) -> bool:
        """Return whether a file stayed as it was on the target before the move."""
        return self._entry(file) is None and self._buckets.held_files(file.bucket)

    async def undo(self) -> AsyncIterator[Kept]:
        """Delete the files that the move wrote and nobody changed since, and its buckets.

        Raises:
            Unavailable: the store of the bytes cannot be reached; nothing is deleted, so that no
                bytes are left there which nothing names any more.
        """
        target = self._sides()[1]
        await target.check()
        for key, entry in self._journal.entries(MOVED):
            bucket, name = entry["bucket"], entry["name"]
            stored = await target.find(bucket, name)
            if stored is None:
                self._journal.delete(MOVED, key)
            elif await self._is_other(stored, entry):
                yield Kept(f"files of {bucket}", name, "changed since")
            else:
                await target.delete(bucket, name)
                self._journal.delete(MOVED, key)
        for key, state in self._journal.entries(UPLOADS):
            if state:
                await target.discard(state)
            self._journal.delete(UPLOADS, key)
        async for kept in self._buckets.undo():
            yield kept

    async def _is_other(self, stored: StoredFile, entry: Mapping[str, Any]) -> bool:
        """Return whether a file of the target is not as the move has written it."""
        if stored.description != entry["description"]:
            return True
        if stored.etag == entry["etag"]:
            return False
        try:
            hashed = await hash_of(self._sides()[1], stored)
        except FileRejected:  # nobody can say any more
            return True
        expected: str | None = entry["sha256"]
        return hashed != expected

    async def finish(self) -> None:
        """Remove what uploads that were not finished have left on the target."""
        for key, state in self._journal.entries(UPLOADS):
            if state:
                await self._sides()[1].discard(state)
            self._journal.delete(UPLOADS, key)

    async def close(self) -> None:
        """Close the connections."""
        for side in self._opened or ():
            await side.close()
        self._opened = None

    @property
    def _buckets(self) -> MovedBuckets:
        return MovedBuckets(*self._sides(), self._plan, self._journal)

    def _sides(self) -> tuple[FileSide, FileSide]:
        if self._opened is None:
            self._opened = _open(self._context.source), _open(self._context.target)
        return self._opened

    def _entry(self, file: StoredFile) -> Any:
        return self._journal.get(MOVED, self._key(file.bucket, self._target_name(file.name)))

    def _target_name(self, name: str) -> str:
        source, target = self._sides()
        return name_on(target, name, source)

    def _source_name(self, name: str) -> str:
        source, target = self._sides()
        return name_on(source, name, target)

    def _key(self, bucket: str, name: str) -> str:
        return f"{bucket}/{name}"


def _open(endpoint: Endpoint) -> FileSide:
    return SqlFileSide(endpoint) if isinstance(endpoint, SqlEndpoint) else ProjectFileSide(endpoint)
