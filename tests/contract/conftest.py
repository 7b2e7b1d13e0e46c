"""Backends for the contract of Files: each engine with a disk and with an object store."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.conftest import SECRET
from tests.object_store import files_url, object_store

from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.settings import load_settings
from amphibase.sql.backend import SqlBackend


@pytest.fixture(scope="session")
def object_store_address() -> Iterator[str]:
    with object_store() as address:
        yield address


@pytest.fixture(params=["disk", "object store"])
async def store(
    request: pytest.FixtureRequest, prepared_url: str, tmp_path: Path
) -> AsyncIterator[SqlBackend]:
    """A backend whose files are on a disk, and one whose files are in an object store."""
    place = ""
    if request.param == "object store":
        place = files_url(request.getfixturevalue("object_store_address"), uuid4().hex)
    settings = load_settings(
        database_url=prepared_url,
        data_dir=tmp_path / "data",
        secret_key=SECRET,
        files_url=place,
        public_url="https://app.example",
    )
    opened = SqlBackend(settings, load_keys(settings))
    yield opened
    await opened.close()
