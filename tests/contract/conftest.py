"""The backends that the contract is tested on, built as an application builds them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.backends import Records
from tests.conftest import SECRET
from tests.object_store import files_url, object_store

from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import Backend
from amphibase.build import build_backend
from amphibase.settings import Settings, load_settings


@pytest.fixture(scope="session")
def object_store_address() -> Iterator[str]:
    with object_store() as address:
        yield address


@pytest.fixture(params=["disk", "object store"])
async def store(
    request: pytest.FixtureRequest, prepared_url: str, tmp_path: Path
) -> AsyncIterator[Backend]:
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
    opened = build_backend(settings, load_keys(settings))
    yield opened
    await opened.close()


@pytest.fixture
async def backend(settings: Settings) -> AsyncIterator[Backend]:
    """A backend on a database of the test's own."""
    opened = build_backend(settings, load_keys(settings))
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def _capable(request: pytest.FixtureRequest) -> None:
    """Skip a test that requires what the backend under test does not declare."""
    marks = list(request.node.iter_markers("requires"))
    if not marks:
        return
    records: Records = request.getfixturevalue("shared_records")
    for mark in marks:
        if not getattr(records.backend.capabilities, mark.args[0]):
            pytest.skip(f"{records.backend.capabilities.backend} has no {mark.args[0]}")
