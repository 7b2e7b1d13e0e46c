"""An object in a form whose policy was signed beforehand, as browsers send it
(Amazon S3 API Reference, "Browser-Based Uploads Using POST")."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from amphibase.blobs.multipart import UploadForm
from amphibase.errors import PayloadTooLarge
from amphibase.gateway.keys import S3Credentials
from amphibase.gateway.storage.context import StorageContext
from amphibase.gateway.storage.limits import checked_cache_control
from amphibase.gateway.storage.s3.errors import (
    EntityTooSmall,
    InvalidS3Signature,
    ObjectTooLarge,
    RequestDenied,
    RequestExpired,
)
from amphibase.gateway.storage.s3.objects import etag_of
from amphibase.gateway.storage.s3.request import META
from amphibase.gateway.storage.s3.signature import (
    ALGORITHM,
    read_signature,
    signing_key,
)
from amphibase.gateway.storage.s3.xml import xml_response
from amphibase.gateway.storage.upload_body import ANY_TYPE, RawBody, declared_metadata
from amphibase.gateway.storage.uploader import NewObject

OPERATION = "storage.s3.upload"
MAX_POLICY_BYTES = 64 * 1024
UNSIGNED_FIELDS = {
    *("file", "policy", "awsaccesskeyid", "signature"),
    *("x-amz-signature", "x-amz-algorithm", "x-amz-credential", "x-amz-date"),
    "x-amz-security-token",
}


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """What the signer of a form allows in it."""

    expires: datetime
    conditions: list[Any]

    @classmethod
    def parse(cls, text: str) -> "PostPolicy":
        """Read a policy as a form holds it. Raises InvalidS3Signature."""
        try:
            document = json.loads(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise InvalidS3Signature("Invalid policy")
        if not document.get("expiration"):
            raise InvalidS3Signature("Missing policy expiration")
        try:
            expires = datetime.fromisoformat(document["expiration"]).astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            raise InvalidS3Signature("Invalid policy expiration") from None
        conditions = document.get("conditions")
        if not isinstance(conditions, list):
            raise InvalidS3Signature("Invalid policy conditions")
        return cls(expires, conditions)

    def check(self, fields: Mapping[str, str]) -> tuple[int, int | None]:
        """Check the fields of a form.

        Args:
            fields: by name in lower case, with `bucket`.

        Returns:
            The least and the most bytes that the file may have; None without a limit.

        Raises:
            RequestExpired, RequestDenied: it is too late, or a field is not as the policy says.
            InvalidS3Signature: a condition is none.
        """
        if self.expires <= datetime.now(UTC):
            raise RequestExpired
        named, least, most = set[str](), 0, None
        for condition in self.conditions:
            match condition:
                case ["content-length-range", int(first), int(last)]:
                    least, most = first, last
                    continue
                case ["content-length-range", *_]:
                    raise InvalidS3Signature("Invalid content-length-range condition")
                case ["eq" | "starts-with" as operator, str(field), value] if field[:1] == "$":
                    name = field[1:].lower()
                case dict() if len(condition) == 1:
                    [(field, value)] = condition.items()
                    operator, name = "eq", field.lower()
                case dict():
                    raise InvalidS3Signature("Invalid policy condition")
                case _:
                    raise InvalidS3Signature("Unsupported policy condition")
            sent, wanted = fields.get(name), str(value)
            if operator == "eq" and sent != wanted:
                raise RequestDenied(f'Policy condition failed: "{name}" does not match')
            if sent is None or not sent.startswith(wanted):
                raise RequestDenied(
                    f'Policy condition failed: "{name}" does not start with "{wanted}"'
                )
            named.add(name)
        for name in fields.keys() - named - UNSIGNED_FIELDS:
            if not name.startswith("x-ignore-"):
                raise RequestDenied(
                    f'Policy condition failed: field "{name}" is not covered by the policy'
                )
        return least, most


async def post(
    context: StorageContext, request: Request, credentials: S3Credentials, bucket: str
) -> Response:
    """PostObject."""
    form = UploadForm(request, None, file="file", max_field_bytes=MAX_POLICY_BYTES)
    await form.find_file()
    fields = {name.lower(): value for name, value in form.values.items()}
    fields["bucket"] = bucket
    signature = read_signature(
        fields.get("x-amz-credential", ""),
        fields.get("x-amz-date", ""),
        fields.get("x-amz-signature", ""),
        fields.get("x-amz-security-token"),
    )
    if fields.get("x-amz-algorithm") != ALGORITHM or "policy" not in fields:
        raise InvalidS3Signature
    key = signing_key(credentials, signature)
    signature.check(key.sign(fields["policy"]))
    least, most = PostPolicy.parse(fields["policy"]).check(fields)
    token = signature.session_token
    caller = context.service(request) if token is None else context.caller_of_token(token, request)
    name = fields.get("key", "").replace("${filename}", form.file_name)
    content_type = fields.get("content-type") or form.content_type or ANY_TYPE
    user_metadata = {
        field.removeprefix(META): value for field, value in fields.items() if field.startswith(META)
    }

    async def content() -> Any:
        size = 0
        async for data in form.file():
            size += len(data)
            if most is not None and size > most:
                raise ObjectTooLarge
            yield data
        if size < least:
            raise EntityTooSmall

    cache_control = checked_cache_control(fields.get("cache-control"))
    body = RawBody(content(), content_type, cache_control, user_metadata, None)
    declared = declared_metadata(content_type, None)
    new = NewObject(caller, (bucket, name), OPERATION, True, declared, user_metadata)
    try:
        await context.uploader.upload(new, body, OPERATION)
    except PayloadTooLarge:
        raise ObjectTooLarge from None
    row = await context.objects.find(None, (bucket, name), OPERATION)
    status = fields.get("success_action_status")
    headers = {"ETag": etag_of(row), "Location": str(request.url.replace(query=""))}
    if status == "201":
        document = [("Bucket", bucket), ("Key", name), ("ETag", etag_of(row))]
        response = xml_response("PostResponse", document, 201)
        response.headers.update(headers)
        return response
    return Response(status_code=204 if status == "204" else 200, headers=headers)
