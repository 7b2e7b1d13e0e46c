"""The configuration of Storage, by the names that Supabase's own has."""

from pathlib import Path

from pydantic import AliasChoices, Field

from amphibase.gateway.project_settings import ProjectSettings
from amphibase.gateway.unsupported import STORAGE, reject_unsupported
from amphibase.settings.loading import load


class StorageSettings(ProjectSettings):
    """Where the bytes of objects are, and how many there may be.

    A setting of Supabase Storage that protects something and has no effect here stops the start.

    Attributes:
        file_size_limit: the most bytes of an object, by its older name.
        upload_file_size_limit: the same by its newer name, which wins.
        file_storage_backend_path: the folder of the bytes, and of uploads that are under way.
        upload_signed_url_expiration_time: seconds for which a signed upload URL is good.
        db_pool: the most connections.
        tus_url_expiry_ms: milliseconds for which a resumable upload can go on after its last bytes.
        max_unfinished_uploads: how many resumable uploads may be unfinished, and how many in parts
            by the S3 protocol.
        max_unfinished_uploads_per_user: the same of one user, or one signed URL.
        image_transformation_enabled: whether images may be read in other sizes and formats.
    """

    file_size_limit: int = Field(
        50 * 1024 * 1024,
        ge=1,
        validation_alias="FILE_SIZE_LIMIT",
        examples=["52428800"],
    )
    upload_file_size_limit: int | None = Field(
        None, ge=1, validation_alias="UPLOAD_FILE_SIZE_LIMIT", examples=["52428800"]
    )
    file_storage_backend_path: Path = Field(
        Path("./.amphibase/storage"),
        validation_alias="FILE_STORAGE_BACKEND_PATH",
        examples=["/var/lib/storage"],
    )
    upload_signed_url_expiration_time: int = Field(
        7200, ge=1, validation_alias="UPLOAD_SIGNED_URL_EXPIRATION_TIME", examples=["7200"]
    )
    db_pool: int = Field(
        10, ge=1, le=1000, validation_alias="DATABASE_MAX_CONNECTIONS", examples=["10"]
    )
    tus_url_expiry_ms: int = Field(
        24 * 60 * 60 * 1000, ge=1, validation_alias="TUS_URL_EXPIRY_MS", examples=["86400000"]
    )
    max_unfinished_uploads: int = Field(
        1000, ge=1, validation_alias="GATEWAY_MAX_UNFINISHED_UPLOADS", examples=["1000"]
    )
    max_unfinished_uploads_per_user: int = Field(
        20, ge=1, validation_alias="GATEWAY_MAX_UNFINISHED_UPLOADS_PER_USER", examples=["20"]
    )

    image_transformation_enabled: bool = Field(
        True,
        validation_alias=AliasChoices(
            "IMAGE_TRANSFORMATION_ENABLED", "ENABLE_IMAGE_TRANSFORMATION"
        ),
        examples=["false"],
    )

    @property
    def max_object_bytes(self) -> int:
        """The most bytes of an object, whatever its bucket allows."""
        return self.upload_file_size_limit or self.file_size_limit


def load_storage_settings(folder: Path | None = None) -> StorageSettings:
    """Read the environment and `.env`.

    Args:
        folder: for the bytes of files, where the environment names none; None for that of
            the settings.

    Raises:
        ConfigurationError: one line for each wrong value: the variable, the fault, an example; or
            for each protection that the environment asks for and Storage does not give.
    """
    reject_unsupported("Storage", STORAGE)
    settings = load(StorageSettings)
    if folder is None or "file_storage_backend_path" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"file_storage_backend_path": folder})
