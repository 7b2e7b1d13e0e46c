"""How far the upload of a file is, in the journal of a move."""

from amphibase.move.journal import Journal

UPLOADS = "files uploading"
"""Of a file that is being written: the upload that is under way, or the blob."""


class JournaledUpload:
    """The upload of one file."""

    def __init__(self, journal: Journal, key: str) -> None:
        self._journal = journal
        self._key = key

    @property
    def has_begun(self) -> bool:
        return self._journal.get(UPLOADS, self._key) is not None

    @property
    def state(self) -> str | None:
        return self._journal.get(UPLOADS, self._key) or None

    def begin(self) -> None:
        if not self.has_begun:
            self.remember("")

    def remember(self, state: str) -> None:
        self._journal.put(UPLOADS, self._key, state)

    def end(self) -> None:
        self._journal.delete(UPLOADS, self._key)
