"""Errors of Storage say the same to clients and to Python code."""

from uuid import uuid4

import pytest
from tests.gateway.storage.api import Api

from amphibase.errors import AmphibaseError
from amphibase.gateway.storage.caller import SERVICE_ROLE
from amphibase.gateway.storage.context import StorageContext
from amphibase.gateway.storage.errors import (
    InternalStorageError,
    RejectedByDatabase,
    StorageError,
)
from amphibase.gateway.storage.settings import StorageSettings

OF_THE_PROJECT = (InternalStorageError, RejectedByDatabase)


@pytest.mark.parametrize("kind", StorageError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_an_error_that_a_client_causes_has_another_status_than_500(
    kind: type[StorageError],
) -> None:
    assert (kind.status == 500) == (kind in OF_THE_PROJECT)


async def test_a_missing_object_is_404_for_whoever_catches_the_error(api: Api) -> None:
    settings = StorageSettings(file_storage_backend_path=api.folder)
    context = StorageContext(settings, api.database, api.tokens)
    try:
        with pytest.raises(AmphibaseError) as caught:
            await context.objects.find(SERVICE_ROLE, ("b", str(uuid4())), "storage.object.info")
    finally:
        await context.close()
    assert isinstance(caught.value, StorageError)
    assert (caught.value.status, caught.value.code) == (404, "NoSuchKey")
