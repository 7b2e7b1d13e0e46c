"""From `FILES_URL` to a store of bytes."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from amphibase.blobs.base import Blobs
from amphibase.blobs.disk import DiskBlobs


def build_blobs(url: str) -> Blobs:
    """Build the store that `FILES_URL` names.

    Raises:
        ConfigurationError: the client for it is not installed, or the URL names no place.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return DiskBlobs(Path(unquote(parts.netloc + parts.path)))
    # Here, since its client is an extra.
    from amphibase.blobs.object_store import ObjectStoreBlobs

    return ObjectStoreBlobs(url)
