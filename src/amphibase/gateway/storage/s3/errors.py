"""The errors of the S3 protocol (Amazon S3 API Reference, "Error responses").

S3Error
├── RequestDenied             no signature, or its owner may not
├── InvalidAccessKeyId         an access key that is not the project's
├── InvalidS3Signature         what should be a signature cannot be read
├── SignatureMismatch          another signature than the secret gives
├── RequestTimeTooSkewed, RequestExpired
├── InvalidS3Request, InvalidArgument, MalformedXml
├── InvalidDigest, BadDigest, ContentSha256Mismatch, IncompleteBody
├── MissingContentLength, ObjectTooLarge, EntityTooSmall
├── InvalidCopiedRange
├── NoSuchS3Upload, InvalidPart, InvalidPartOrder, TooManyUploads
├── ConditionNotMet
├── NotImplementedByStorage    a part of the protocol that Storage does not have
└── TranslatedError            any other error of Storage
"""

from starlette.responses import Response

from amphibase.errors import AmphibaseError, IncompleteUpload, RangeNotSatisfiable, Retryable
from amphibase.gateway.storage import errors
from amphibase.gateway.storage.errors import storage_error
from amphibase.gateway.storage.s3.xml import XML_TYPE, document


class S3Error(AmphibaseError):
    """The root of the errors of the S3 protocol; `code` is the word that its clients know."""

    status = 400
    code = "InvalidRequest"

    @property
    def word(self) -> str:
        """The protocol's word for it."""
        return self.code


class RequestDenied(S3Error):
    """Raised where a request is not signed, or its signer may not do what it does."""

    status = 403
    code = "AccessDenied"
    default = "Access denied"


class InvalidAccessKeyId(S3Error):
    """Raised for an access key that is not the project's."""

    status = 403
    code = "AccessDenied"
    default = "Invalid Access Key"


class InvalidS3Signature(S3Error):
    """Raised where a signature, or the policy of a form, is not written as the protocol says."""

    code = "InvalidSignature"
    default = "Invalid signature format"


class SignatureMismatch(S3Error):
    """Raised where the signature is not the one that the secret access key gives."""

    status = 403
    code = "SignatureDoesNotMatch"
    default = (
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method."
    )


class RequestTimeTooSkewed(S3Error):
    """Raised where a request was signed too long ago, or in the future."""

    status = 403
    code = "RequestTimeTooSkewed"
    default = "The difference between the request time and the server's time is too large"


class RequestExpired(S3Error):
    """Raised for a presigned URL or form whose time is over."""

    code = "ExpiredToken"
    default = "The provided token has expired."


class InvalidS3Request(S3Error):
    """Raised where a request lacks what its action takes."""


class InvalidArgument(S3Error):
    """Raised where a parameter or a header has a value that it cannot have."""

    code = "InvalidArgument"


class MalformedXml(S3Error):
    """Raised where a body is not the XML that its action takes."""

    code = "MalformedXML"
    default = "The XML you provided was not well-formed or did not validate"


class InvalidDigest(S3Error):
    """Raised where a header holds no digest."""

    code = "InvalidDigest"
    default = "The Content-MD5 or checksum value that you specified is not valid"


class BadDigest(S3Error):
    """Raised where other bytes came than the ones that a digest was made of."""

    code = "BadDigest"
    default = "The digest that you specified did not match what we received"


class ContentSha256Mismatch(S3Error):
    """Raised where other bytes came than the ones that were signed."""

    code = "XAmzContentSHA256Mismatch"
    default = "The provided 'x-amz-content-sha256' header does not match what was computed"


class IncompleteBody(S3Error):
    """Raised where another number of bytes came than was announced."""

    code = "IncompleteBody"
    default = "You did not provide the number of bytes specified by the Content-Length header"


class InvalidCopiedRange(S3Error):
    """Raised for a range of bytes that the object has not from which a part is copied."""

    code = "InvalidRange"
    default = "invalid range provided"


class MissingContentLength(S3Error):
    """Raised where the length of an object is not announced."""

    code = "MissingContentLength"
    default = "You must provide the Content-Length HTTP header."


class ObjectTooLarge(S3Error):
    """Raised where an object has more bytes than are taken."""

    status = 413
    code = "EntityTooLarge"
    default = "The object exceeded the maximum allowed size"


class EntityTooSmall(S3Error):
    """Raised where a part that is not the last has too few bytes."""

    code = "EntityTooSmall"
    default = "Your proposed upload is smaller than the minimum allowed size"


class NoSuchS3Upload(S3Error):
    """Raised where a multipart upload is missing, another's, or has ended."""

    status = 404
    code = "NoSuchUpload"
    default = "Upload not found"


class InvalidPart(S3Error):
    """Raised where a part was not uploaded, or has another ETag."""

    code = "InvalidPart"
    default = "One or more of the specified parts could not be found"


class InvalidPartOrder(S3Error):
    """Raised where the numbers of parts do not rise."""

    code = "InvalidPartOrder"
    default = "The list of parts was not in ascending order"


class TooManyUploads(S3Error):
    """Raised where as many multipart uploads are unfinished as there may be."""

    status = 503
    code = "SlowDown"
    default = "Too many uploads are unfinished; complete or abort one"


class ConditionNotMet(S3Error):
    """Raised where what the request demands to be so is not so."""

    status = 412
    code = "PreconditionFailed"
    default = "At least one of the preconditions you specified did not hold"


class NotImplementedByStorage(S3Error):
    """Raised for a part of the protocol that Storage does not have."""

    status = 501
    code = "NotImplemented"
    default = "A header or parameter you provided implies functionality that is not implemented"


class TranslatedError(S3Error):
    """Stands for an error of Storage, whose detail it repeats."""

    def __init__(self, word: str, status: int, detail: str) -> None:
        self._word = word
        self.status = status
        super().__init__(detail)

    @property
    def word(self) -> str:
        return self._word


OWN_CODES: dict[type[errors.StorageError], tuple[str, int]] = {
    errors.BucketNotEmpty: ("BucketNotEmpty", 409),
}
"""Where the protocol has another word, or another status, than Storage."""


def s3_error(error: Exception) -> S3Error:
    """Translate an error into one of the protocol; log an unexpected one."""
    if isinstance(error, S3Error):
        return error
    if isinstance(error, IncompleteUpload):
        return IncompleteBody()
    known = storage_error(error)
    code, status = next(
        (own for kind, own in OWN_CODES.items() if isinstance(known, kind)),
        (known.code, known.status),
    )
    if isinstance(error, Retryable):
        code = "SlowDown" if known.status in (429, 503) else "InternalError"
    return TranslatedError(code, status, known.detail)


def error_response(error: Exception, resource: str) -> Response:
    """Respond to an error in XML, without a body where the method is HEAD.

    Args:
        resource: the path of what it is about, below that of the protocol.
    """
    known = s3_error(error)
    headers = {}
    if isinstance(error, Retryable):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, RangeNotSatisfiable):
        headers["content-range"] = f"bytes */{error.size}"
    fields = [("Resource", resource), ("Code", known.word), ("Message", known.detail)]
    # Without a namespace, which upstream names: boto3 would find no code in it.
    body = document("Error", fields, namespace=False)
    return Response(body, known.status, headers, media_type=XML_TYPE)
