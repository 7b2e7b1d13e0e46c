"""What tests of several routes share."""

from collections.abc import Iterator

import pytest
from tests.conftest import settings_on

from amphibase import Settings


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared_settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Settings of an application on each database, for all tests of a module."""
    with settings_on(request.param, request, tmp_path_factory.mktemp("shared")) as settings:
        yield settings
