"""What the database rejects on the way of a file leaves no bytes."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy import text

from amphibase import Caller
from amphibase.errors import AmphibaseError
from amphibase.sql.backend import SqlBackend

ANN = Caller("authenticated", UUID(int=1))

TRIGGERS = {
    "sqlite": [
        """
        CREATE TRIGGER reject BEFORE INSERT ON storage_objects
        BEGIN SELECT RAISE(ABORT, 'no more files'); END
    """
    ],
    "postgresql": [
        """
        CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no more files' USING ERRCODE = 'XX123'; END $$
        """,
        """
        CREATE TRIGGER reject BEFORE INSERT ON storage.objects
        FOR EACH ROW EXECUTE FUNCTION reject()
        """,
    ],
}


async def ten() -> AsyncIterator[bytes]:
    yield b"0123456789"


async def test_an_error_of_the_database_that_is_not_ours_leaves_no_bytes(
    backend: SqlBackend,
) -> None:
    async with backend.database.write() as connection:
        for statement in TRIGGERS[backend.database.dialect]:
            await connection.execute(text(statement))
    with pytest.raises(Exception, match="no more files") as caught:
        await backend.files.put(ANN, "uploads", "a.bin", ten(), content_type="x/y")
    assert not isinstance(caught.value, AmphibaseError)
    assert [blob async for blob in backend.files.blobs.all()] == []
