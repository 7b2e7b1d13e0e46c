"""What every route of Storage works with."""

from sqlalchemy import text
from starlette.requests import Request

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.blobs.base import parse_uuid
from amphibase.blobs.disk import DiskBlobs
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.gateway.storage.bucket_storage import BucketStorage
from amphibase.gateway.storage.caller import (
    SERVICE_ROLE,
    StorageCaller,
    authenticate,
    authenticate_if_valid,
    caller_of_token,
    sent_by,
    signed_caller,
)
from amphibase.gateway.storage.errors import AccessDenied
from amphibase.gateway.storage.images import ImageRenderer
from amphibase.gateway.storage.limits import check_bucket_name
from amphibase.gateway.storage.object_rows import ObjectPath
from amphibase.gateway.storage.object_storage import ObjectStorage
from amphibase.gateway.storage.settings import StorageSettings
from amphibase.gateway.storage.signed_urls import SignedUrlClaims, SignedUrls
from amphibase.gateway.storage.transactions import StorageTransactions
from amphibase.gateway.storage.uploader import Uploader
from amphibase.gateway.storage.versions import reject_versions

_IS_BLOCKED = text("""
SELECT coalesce(banned_until > now(), false) OR deleted_at IS NOT NULL
FROM auth.users WHERE id = :id
""")


class StorageContext:
    """The rows, the bytes and the keys of one project."""

    def __init__(self, settings: StorageSettings, database_url: str, tokens: KeyRing) -> None:
        self.settings = settings
        self.database = PipelineDatabase(database_url, settings.db_pool)
        self.blobs = DiskBlobs(settings.file_storage_backend_path / "objects")
        self.parts = DiskBlobs(settings.file_storage_backend_path / "parts")
        self.transactions = StorageTransactions(self.database)
        self.buckets = BucketStorage(self.transactions, self.parts)
        self.uploader = Uploader(self.transactions, self.blobs, settings.max_object_bytes)
        self.objects = ObjectStorage(self.transactions, self.blobs, self.uploader)
        self.images = ImageRenderer(settings.image_transformation_enabled)
        self.signed_urls = SignedUrls(tokens)
        self._tokens = tokens

    async def close(self) -> None:
        """Close the connections."""
        self.images.close()
        await self.database.close()

    def caller_of_token(self, token: str, request: Request) -> StorageCaller:
        """Return the caller that an access token names. Raises StorageError."""
        return caller_of_token(self._tokens, token, request)

    def service(self, request: Request) -> StorageCaller:
        """Return the service, as the one who sends a request."""
        return sent_by(SERVICE_ROLE, request)

    def authenticate(self, request: Request) -> StorageCaller:
        """Return the caller that the request's token names. Raises StorageError."""
        return authenticate(self._tokens, request)

    def authenticate_if_valid(self, request: Request) -> StorageCaller | None:
        """Return the caller; None where the token is missing or not valid."""
        return authenticate_if_valid(self._tokens, request)

    async def caller_of(self, signed: SignedUrlClaims) -> StorageCaller:
        """Return the caller in whose place a signed URL uploads.

        Raises:
            AccessDenied: its owner has been banned or deleted since.
        """
        owner = parse_uuid(signed.owner)
        if owner is not None:
            async with self.transactions.as_admin() as connection:
                if await connection.scalar(_IS_BLOCKED, {"id": owner}):
                    raise AccessDenied("The user who signed this URL is banned")
        return signed_caller(signed.owner)


def bucket_of(request: Request) -> str:
    """Return the bucket that a request's path names. Raises InvalidBucketName."""
    bucket: str = request.path_params["bucket"]
    check_bucket_name(bucket)
    return bucket


def checked_path(request: Request) -> ObjectPath:
    """Return the bucket and the name that a request's path ends with. Raises StorageError."""
    return bucket_of(request), object_path(request)[1]


def object_path(request: Request) -> ObjectPath:
    """Return the bucket and the name that a request's path ends with.

    Raises:
        FeatureNotEnabled: the query asks for a version of the object.
    """
    reject_versions(request.query_params)
    return request.path_params["bucket"], request.path_params["name"]


def is_upsert(request: Request) -> bool:
    """Return whether the request may replace an object."""
    return request.headers.get("x-upsert") == "true"
