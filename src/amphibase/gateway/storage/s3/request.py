"""A request of the S3 protocol, whose signature has been verified."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request

from amphibase.gateway.storage.caller import StorageCaller
from amphibase.gateway.storage.context import StorageContext
from amphibase.gateway.storage.object_rows import ObjectPath
from amphibase.gateway.storage.s3.errors import InvalidArgument, InvalidS3Request
from amphibase.gateway.storage.s3.payload import SignedPayload
from amphibase.gateway.storage.s3.signature import Signature, SigningKey

META = "x-amz-meta-"
_INTEGER = re.compile(r"[+-]?\d{1,15}", re.ASCII)
MAX_META_BYTES = 2 * 1024
"""Of all names and values together (Amazon S3 User Guide, "User-defined object metadata")."""


@dataclass(frozen=True, slots=True)
class S3Request:
    """Who wants what of which bucket and object.

    Attributes:
        bucket, key: empty where the path names none.
        query: the parameters of the query string.
        payload_kind: what `x-amz-content-sha256` says of the body.
    """

    context: StorageContext
    http: Request
    caller: StorageCaller
    bucket: str
    key: str
    query: Mapping[str, str]
    signing_key: SigningKey
    signature: Signature
    payload_kind: str

    @property
    def path(self) -> ObjectPath:
        """Bucket and name of the object."""
        return self.bucket, self.key

    @property
    def headers(self) -> Mapping[str, str]:
        return self.http.headers

    def payload(self) -> SignedPayload:
        """Return the body, to be read once. Raises S3Error."""
        return SignedPayload(self.http, self.signing_key, self.signature.value, self.payload_kind)

    def number(self, name: str, default: int, *, least: int = 0, most: int = 2**31) -> int:
        """Return a number of the query string.

        Raises:
            InvalidS3Request: it is none, or not from `least` to `most`, in upstream's words.
        """
        text = self.query.get(name)
        if text is None or text == "":
            return default
        if not _INTEGER.fullmatch(text):
            raise InvalidS3Request(f"Querystring, {name} must be integer")
        number = int(text)
        if number < least:
            raise InvalidS3Request(f"Querystring, {name} must be >= {least}")
        if number > most:
            raise InvalidS3Request(f"Querystring, {name} must be <= {most}")
        return number

    @property
    def encoding_type(self) -> str:
        """How lists write keys: as they are, or `url`. Raises InvalidS3Request."""
        kind = self.query.get("encoding-type", "")
        if kind not in ("", "url"):
            fault = "must be equal to one of the allowed values"
            raise InvalidS3Request(f"Querystring, encoding-type {fault}")
        return kind

    def encoded(self, key: str) -> str:
        """Return a key as a list writes it. Raises InvalidS3Request."""
        return quote(key, safe="") if self.encoding_type == "url" else key

    def user_metadata(self) -> dict[str, str]:
        """Return what the headers `x-amz-meta-…` hold. Raises InvalidArgument."""
        metadata = {
            name.removeprefix(META): value
            for name, value in self.headers.items()
            if name.startswith(META)
        }
        if sum(len(name) + len(value) for name, value in metadata.items()) > MAX_META_BYTES:
            raise InvalidArgument(f"The metadata must have at most {MAX_META_BYTES} bytes")
        return metadata
