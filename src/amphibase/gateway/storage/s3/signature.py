"""Signature Version 4, by which a client of the S3 protocol proves that it has the secret
(Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)")."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import Request

from amphibase.gateway.keys import S3Credentials
from amphibase.gateway.storage.s3.errors import (
    InvalidAccessKeyId,
    InvalidS3Request,
    InvalidS3Signature,
    NotImplementedByStorage,
    RequestDenied,
    RequestExpired,
    RequestTimeTooSkewed,
    SignatureMismatch,
)

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
MAX_SKEW = timedelta(minutes=15)
TIMESTAMP = "%Y%m%dT%H%M%SZ"
SESSION_MISMATCH = (
    "The request signature we calculated does not match the signature you provided, "
    "Check your credentials. The session token should be a valid JWT token"
)

_SECONDS = re.compile(r"[0-9]{1,10}")
_PART = re.compile(r"\s*(\w+)=([^,]*)\s*")
_SPACES = re.compile(r" +")


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that a request, or a form, carries.

    Attributes:
        access_key_id: who signs.
        scope: date, region and service that the signing key is made for.
        timestamp: when it was signed, as the protocol writes it.
        session_token: a user's access token; None for the access key itself.
    """

    access_key_id: str
    scope: str
    timestamp: str
    value: str
    session_token: str | None

    @property
    def signed_at(self) -> datetime:
        """When it was signed. Raises InvalidS3Signature."""
        try:
            return datetime.strptime(self.timestamp, TIMESTAMP).replace(tzinfo=UTC)
        except ValueError:
            raise InvalidS3Signature from None

    def check(self, expected: str) -> None:
        """Raise SignatureMismatch unless it is the expected one."""
        try:
            check_signature(self.value, expected)
        except SignatureMismatch:
            if self.session_token is None:
                raise
            raise SignatureMismatch(SESSION_MISMATCH) from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key of one day, region and service; it signs a request, and then its chunks."""

    key: bytes = field(repr=False)
    scope: str
    timestamp: str

    def sign(self, text: str) -> str:
        """Return a signature of a text, in hex."""
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()

    def sign_digest(self, digest: str) -> str:
        """Return the signature of a canonical request, by its SHA-256."""
        return self.sign("\n".join((ALGORITHM, self.timestamp, self.scope, digest)))


def signing_key(credentials: S3Credentials, signature: Signature) -> SigningKey:
    """Return the key that a signature was made with.

    Raises:
        InvalidAccessKeyId: its access key is not the project's.
    """
    if signature.session_token is not None:
        secret = credentials.session_secret
    elif hmac.compare_digest(signature.access_key_id.encode(), credentials.access_key_id.encode()):
        secret = credentials.secret
    else:
        raise InvalidAccessKeyId
    key = f"AWS4{secret}".encode()
    for part in signature.scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return SigningKey(key, signature.scope, signature.timestamp)


def verify(request: Request, credentials: S3Credentials) -> tuple[SigningKey, Signature, str]:
    """Verify the signature of a request, in its header or in its query string.

    Returns:
        The key that signed it, the signature, and what `x-amz-content-sha256` says of the body.

    Raises:
        S3Error: there is none, it is wrong, or its time is over.
    """
    query = _query(request)
    parameters = dict(query)
    header = request.headers.get("authorization", "")
    if header.startswith(f"{ALGORITHM} "):
        signature, names = _from_header(request, header)
        payload = request.headers.get("x-amz-content-sha256")
        if payload is None:
            raise InvalidS3Request("The header x-amz-content-sha256 is missing")
        _check_skew(signature)
    elif "X-Amz-Credential" in parameters:
        signature, names = _from_query(parameters)
        payload = parameters.get("X-Amz-Content-Sha256", UNSIGNED_PAYLOAD)
        if "x-amz-content-sha256" in names:
            payload = request.headers.get("x-amz-content-sha256", payload)
        _check_expiry(signature, parameters.get("X-Amz-Expires", ""))
    elif "AWSAccessKeyId" in parameters or header.startswith("AWS "):
        raise NotImplementedByStorage(
            "Signature Version 2 is not taken; sign by version 4 "
            "(in boto3: Config(signature_version='s3v4'))"
        )
    else:
        raise RequestDenied("Missing signature")
    key = signing_key(credentials, signature)
    signed_query = [pair for pair in query if pair[0] != "X-Amz-Signature"]
    digest = _canonical_digest(request, signed_query, names, payload)
    signature.check(key.sign_digest(digest))
    return key, signature, payload


def check_signature(received: str, expected: str) -> None:
    """Raise SignatureMismatch unless both are the same; takes as long for each."""
    if not hmac.compare_digest(received.encode("utf-8", "surrogatepass"), expected.encode()):
        raise SignatureMismatch


def read_signature(
    credential: str, timestamp: str, value: str, session_token: str | None
) -> Signature:
    """Read the parts of a signature.

    Raises:
        InvalidS3Signature: one is missing, or the credential is of another day than the request.
        RequestDenied: it is for another service.
    """
    if not (credential and timestamp and value and credential.isascii()):
        raise InvalidS3Signature
    access_key_id, _, scope = credential.partition("/")
    match scope.split("/"):
        case [day, _, "s3", "aws4_request"] if day == timestamp[:8]:
            return Signature(access_key_id, scope, timestamp, value, session_token)
        case [_, _, service, "aws4_request"] if service != "s3":
            raise RequestDenied("Invalid Service")
        case _:
            raise InvalidS3Signature("Invalid credentials")


def _from_header(request: Request, header: str) -> tuple[Signature, Sequence[str]]:
    parts = {match[1]: match[2] for match in _PART.finditer(header.removeprefix(ALGORITHM))}
    signature = read_signature(
        parts.get("Credential", "").strip(),
        request.headers.get("x-amz-date", ""),
        parts.get("Signature", "").strip(),
        request.headers.get("x-amz-security-token"),
    )
    return signature, parts.get("SignedHeaders", "").strip().split(";")


def _from_query(parameters: Mapping[str, str]) -> tuple[Signature, Sequence[str]]:
    if parameters.get("X-Amz-Algorithm") != ALGORITHM:
        raise InvalidS3Signature
    signature = read_signature(
        parameters.get("X-Amz-Credential", ""),
        parameters.get("X-Amz-Date", ""),
        parameters.get("X-Amz-Signature", ""),
        parameters.get("X-Amz-Security-Token"),
    )
    return signature, parameters.get("X-Amz-SignedHeaders", "").split(";")


def _check_skew(signature: Signature) -> None:
    if abs(datetime.now(UTC) - signature.signed_at) > MAX_SKEW:
        raise RequestTimeTooSkewed


def _check_expiry(signature: Signature, seconds: str) -> None:
    if _SECONDS.fullmatch(seconds) is None:
        raise InvalidS3Signature("Invalid expiration")
    age = datetime.now(UTC) - signature.signed_at
    if age < -MAX_SKEW:
        raise RequestTimeTooSkewed
    if age > timedelta(seconds=int(seconds)):
        raise RequestExpired


def _canonical_digest(
    request: Request, query: Sequence[tuple[str, str]], names: Sequence[str], payload: str
) -> str:
    """Return the SHA-256 of the request as both sides write it."""
    if "host" not in names:
        raise InvalidS3Signature("The header host must be signed")
    for name in request.headers:  # an unsigned one of these would change what is done
        if name.startswith("x-amz-") and name not in names and name != "x-amz-content-sha256":
            raise RequestDenied(f"The header {name} is not signed")
    headers = [
        f"{name}:{','.join(_trimmed(value) for value in request.headers.getlist(name))}"
        for name in names
    ]
    encoded = sorted((_encoded(name), _encoded(value)) for name, value in query)
    text = "\n".join(
        (
            request.method,
            _canonical_path(request),
            "&".join(f"{name}={value}" for name, value in encoded),
            *headers,
            "",
            ";".join(names),
            payload,
        )
    )
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _query(request: Request) -> list[tuple[str, str]]:
    raw: bytes = request.scope["query_string"]
    pairs = [pair.partition(b"=") for pair in raw.split(b"&") if pair]
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def _canonical_path(request: Request) -> str:
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    return quote(unquote_to_bytes(raw.partition(b"?")[0]), safe="/-_.~")


def _decoded(text: bytes) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def _encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="-_.~")


def _trimmed(value: str) -> str:
    return _SPACES.sub(" ", value.strip())
