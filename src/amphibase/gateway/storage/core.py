"""The parts that every call of Storage works with."""

from starlette.requests import Request

from amphibase.accounts.jwt.verifier import Tokens
from amphibase.blobs.disk import DiskBlobs
from amphibase.database.engine import Database, PoolOptions
from amphibase.gateway.storage.acting import Acting
from amphibase.gateway.storage.identity import Identity, identify, identify_if_any
from amphibase.gateway.storage.settings import StorageSettings
from amphibase.gateway.storage.signed import SignedUrls
from amphibase.gateway.storage.store import Store

UNFINISHED = "unfinished"
"""The folder of uploads in parts that are under way, beside that of the bytes."""


class Core:
    """The rows, the bytes and the keys of one project."""

    def __init__(self, settings: StorageSettings, database_url: str, tokens: Tokens) -> None:
        self.settings = settings
        self.database = Database(database_url, PoolOptions(size=settings.db_pool))
        self.acting = Acting(self.database)
        self.blobs = DiskBlobs(settings.file_storage_backend_path / "objects")
        self.store = Store(self.acting, self.blobs, settings.file_size_limit)
        self.signed = SignedUrls(tokens)
        self._tokens = tokens

    async def close(self) -> None:
        await self.database.close()

    def identify(self, request: Request) -> Identity:
        """Who sends the request. Raises StorageError."""
        return identify(self._tokens, request)

    def identify_if_any(self, request: Request) -> Identity | None:
        """The same; None where no token holds."""
        return identify_if_any(self._tokens, request)


def place_of(request: Request) -> tuple[str, str]:
    """The bucket and the path that a call's own path ends with."""
    return request.path_params["bucket"], request.path_params["name"]
