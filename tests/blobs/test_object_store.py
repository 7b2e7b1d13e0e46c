"""Blobs in a bucket that others write to as well."""

import logging
from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import httpx
import pytest
from tests.object_store import BUCKET, files_url, object_store

from amphibase.blobs.base import key_of
from amphibase.blobs.object_store import ObjectStoreBlobs


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with object_store() as address:
        yield address


async def content() -> AsyncIterator[bytes]:
    yield b"x"


@pytest.mark.parametrize(
    ("key", "warns"),
    [
        ("photos//b.jpg", False),
        ("/top.txt", False),
        ("archive/", False),
        ("00/", False),
        ("00//b.jpg", True),
    ],
)
async def test_keys_of_others_keep_no_blob_from_being_listed(
    address: str, key: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = uuid4().hex
    blobs = ObjectStoreBlobs(files_url(address, folder))
    versions = [UUID(int=number) for number in (1, 2, 255)]  # in folders 01, 02 and ff
    for version in versions:
        await blobs.write(version, content())
    async with httpx.AsyncClient() as client:
        response = await client.put(f"{address}/{BUCKET}/{folder}/{key}", content=b"theirs")
        assert response.is_success

    await blobs.check()
    with caplog.at_level(logging.WARNING):
        listed = {blob.key async for blob in blobs.all()}

    assert listed == {key_of(version) for version in versions}
    assert ("The folder 00/ of FILES_URL" in caplog.text) is warns
