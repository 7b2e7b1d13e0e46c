"""Signatures of the S3 protocol, by the examples that Amazon publishes with their values."""

from datetime import timedelta

import pytest
from starlette.requests import Request
from starlette.types import Message

from amphibase.gateway.keys import S3Credentials
from amphibase.gateway.storage.s3 import signature
from amphibase.gateway.storage.s3.errors import SignatureMismatch
from amphibase.gateway.storage.s3.payload import SIGNED_CHUNKS, SignedPayload
from amphibase.gateway.storage.s3.signature import SigningKey, verify

KEY = S3Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "none here")
HOST = "examplebucket.s3.amazonaws.com"
SCOPE = "20130524/us-east-1/s3/aws4_request"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture(autouse=True)
def _at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "MAX_SKEW", timedelta(days=100_000))


def request(
    method: str,
    path: str,
    query: str = "",
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Request:
    named = {"host": HOST, **(headers or {})}

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), text.encode()) for name, text in named.items()],
    }
    return Request(scope, receive)


def authorization(names: str, value: str) -> str:
    return (
        f"AWS4-HMAC-SHA256 Credential={KEY.access_key_id}/{SCOPE},"
        f"SignedHeaders={names},Signature={value}"
    )


def test_the_signature_of_a_request_is_the_published_one() -> None:
    """Amazon S3 API Reference, "Examples: Signature Calculations", GET Object and List Objects."""
    value = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    headers = {
        "range": "bytes=0-9",
        "x-amz-content-sha256": EMPTY,
        "x-amz-date": "20130524T000000Z",
        "authorization": authorization("host;range;x-amz-content-sha256;x-amz-date", value),
    }
    verify(request("GET", "/test.txt", headers=headers), KEY)
    with pytest.raises(SignatureMismatch):
        verify(request("GET", "/test.txt", headers={**headers, "range": "bytes=0-8"}), KEY)
    with pytest.raises(SignatureMismatch):
        verify(request("GET", "/test.txt", "a=b", headers=headers), KEY)
    listed = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    del headers["range"]
    headers["authorization"] = authorization("host;x-amz-content-sha256;x-amz-date", listed)
    verify(request("GET", "/", "max-keys=2&prefix=J", headers=headers), KEY)
    verify(request("GET", "/", "prefix=J&max-keys=2", headers=headers), KEY)


def test_the_signature_of_a_url_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters"."""
    monkeypatch.setattr(signature, "_check_expiry", lambda signed, seconds: None)
    value = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={KEY.access_key_id}%2F{SCOPE.replace('/', '%2F')}"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        f"&X-Amz-Signature={value}"
    )
    verify(request("GET", "/test.txt", query), KEY)
    with pytest.raises(SignatureMismatch):
        verify(request("GET", "/test.txt", query.replace("86400", "86401")), KEY)


CHUNKS = (
    (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
)
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"


async def content_of(body: bytes) -> bytes:
    key = _signing_key()
    length = {"x-amz-decoded-content-length": "66560"}
    sent = request("PUT", "/chunkObject.txt", body=body, headers=length)
    payload = SignedPayload(sent, key, SEED, SIGNED_CHUNKS)
    return await payload.whole(66560)


def _signing_key() -> SigningKey:
    signed = signature.Signature(KEY.access_key_id, SCOPE, "20130524T000000Z", SEED, None)
    return signature.signing_key(KEY, signed)


async def test_the_signatures_of_chunks_are_the_published_ones() -> None:
    """Amazon S3 API Reference, "Transferring Payload in Multiple Chunks"."""
    body = b"".join(
        f"{size:x};chunk-signature={value}\r\n".encode() + b"a" * size + b"\r\n"
        for size, value in CHUNKS
    )
    assert await content_of(body) == b"a" * 66560
    with pytest.raises(SignatureMismatch):
        await content_of(body.replace(b"aaa\r\n400", b"aab\r\n400"))
    with pytest.raises(SignatureMismatch):
        await content_of(body.replace(CHUNKS[2][1].encode(), SEED.encode()))
