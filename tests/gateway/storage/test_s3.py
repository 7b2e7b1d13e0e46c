"""The S3 protocol, by the clients that people use for it."""

import asyncio
import base64
import hashlib
import random
import zlib
from typing import Any

import httpx
import obstore
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from obstore.store import S3Store
from tests.gateway.storage.api import ANN, TEN, Api
from tests.gateway.storage.s3_client import MB, client, credentials, rejected, run

from amphibase.gateway.storage.s3.crc64 import Crc64Nvme


async def test_what_is_put_by_s3_is_an_object_of_storage_and_the_other_way_around(api: Api) -> None:
    s3 = client(api)
    await run(s3.create_bucket, Bucket="b")
    put = await run(
        s3.put_object,
        Bucket="b",
        Key="a folder/rye & spelt.txt",
        Body=TEN,
        ContentType="text/x-bread",
        CacheControl="max-age=60",
        Metadata={"baker": "Ann"},
    )
    assert put["ETag"] == f'"{hashlib.md5(TEN).hexdigest()}"'
    response = await api.get("/object/authenticated/b/a folder/rye & spelt.txt")
    assert response.content == TEN
    assert response.headers["cache-control"] == "max-age=60"
    info = (await api.get("/object/info/b/a folder/rye & spelt.txt")).json()
    assert (info["content_type"], info["metadata"]) == ("text/x-bread", {"baker": "Ann"})

    await api.uploaded("b/by-storage.txt")
    got = await run(s3.get_object, Bucket="b", Key="by-storage.txt")
    assert (got["Body"], got["ContentType"], got["ContentLength"]) == (TEN, "text/plain", 10)
    head = await run(s3.head_object, Bucket="b", Key="a folder/rye & spelt.txt")
    assert (head["Metadata"], head["ContentType"]) == ({"baker": "Ann"}, "text/x-bread")


async def test_buckets_are_listed_found_and_deleted(api: Api) -> None:
    s3 = client(api)
    await api.bucket("other")
    await run(s3.create_bucket, Bucket="b")
    assert [b["Name"] for b in (await run(s3.list_buckets))["Buckets"]] == ["b", "other"]
    assert (await run(s3.get_bucket_location, Bucket="b"))["LocationConstraint"] == "local"
    assert (await run(s3.get_bucket_versioning, Bucket="b"))["Status"] == "Suspended"
    await run(s3.head_bucket, Bucket="b")
    assert await rejected(s3.create_bucket, Bucket="b") == (409, "BucketAlreadyExists")
    await api.uploaded("b/a.txt")
    assert await rejected(s3.delete_bucket, Bucket="b") == (409, "BucketNotEmpty")
    await run(s3.delete_object, Bucket="b", Key="a.txt")
    await run(s3.delete_bucket, Bucket="b")
    assert await rejected(s3.head_bucket, Bucket="b") == (404, "404")
    assert await rejected(s3.list_objects_v2, Bucket="b") == (404, "NoSuchBucket")


async def test_lists_go_by_bytes_prefix_delimiter_and_page(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    names = ["B.txt", "a/1.txt", "a/2.txt", "a/b/3.txt", "a.txt", "c/4.txt", "z+ &?.txt"]
    await api.uploaded(*(f"b/{name.replace('?', '%3F')}" for name in names))
    for version in (s3.list_objects, s3.list_objects_v2):
        listed = await run(version, Bucket="b")
        assert [each["Key"] for each in listed["Contents"]] == sorted(names)
        assert [each["Size"] for each in listed["Contents"]] == [10] * len(names)
    listed = await run(s3.list_objects_v2, Bucket="b", Delimiter="/")
    assert [each["Key"] for each in listed["Contents"]] == ["B.txt", "a.txt", "z+ &?.txt"]
    assert [each["Prefix"] for each in listed["CommonPrefixes"]] == ["a/", "c/"]
    listed = await run(s3.list_objects, Bucket="b", Prefix="a/", Delimiter="/")
    assert [each["Key"] for each in listed["Contents"]] == ["a/1.txt", "a/2.txt"]
    assert [each["Prefix"] for each in listed["CommonPrefixes"]] == ["a/b/"]
    listed = await run(s3.list_objects_v2, Bucket="b", Prefix="a/", StartAfter="a/1.txt")
    assert [each["Key"] for each in listed["Contents"]] == ["a/2.txt", "a/b/3.txt"]
    for operation in ("list_objects", "list_objects_v2"):
        pages = s3.get_paginator(operation).paginate(
            Bucket="b", Delimiter="/", PaginationConfig={"PageSize": 2}
        )
        entries: list[str] = []
        for page in await asyncio.to_thread(list, pages):
            assert page["MaxKeys"] == 2
            entries += [each["Key"] for each in page.get("Contents", [])]
            entries += [each["Prefix"] for each in page.get("CommonPrefixes", [])]
        assert sorted(entries) == ["B.txt", "a.txt", "a/", "c/", "z+ &?.txt"]


async def test_parts_and_conditions_of_a_download_hold(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    await api.uploaded()
    got = await run(s3.get_object, Bucket="b", Key="a.txt", Range="bytes=2-4")
    assert (got["Body"], got["ContentRange"]) == (b"234", "bytes 2-4/10")
    got = await run(s3.get_object, Bucket="b", Key="a.txt", Range="bytes=-3")
    assert got["Body"] == b"789"
    wrong = await rejected(s3.get_object, Bucket="b", Key="a.txt", Range="bytes=10-")
    assert wrong == (416, "InvalidRange")
    tag = got["ETag"]
    wrong = await rejected(s3.get_object, Bucket="b", Key="a.txt", IfMatch='"other"')
    assert wrong == (412, "PreconditionFailed")
    assert (await rejected(s3.get_object, Bucket="b", Key="a.txt", IfNoneMatch=tag))[0] == 304
    named = await run(
        s3.get_object, Bucket="b", Key="a.txt", ResponseContentDisposition="attachment"
    )
    assert named["ContentDisposition"] == "attachment"
    assert await rejected(s3.get_object, Bucket="b", Key="none") == (404, "NoSuchKey")
    assert (await rejected(s3.head_object, Bucket="b", Key="none"))[0] == 404


async def test_an_object_is_copied_with_its_metadata_or_with_others(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    metadata = {"baker": "Ann"}
    await run(s3.put_object, Bucket="b", Key="a b.txt", Body=TEN, Metadata=metadata)
    source = {"Bucket": "b", "Key": "a b.txt"}
    await run(s3.copy_object, Bucket="b", Key="kept.txt", CopySource=source)
    await run(
        s3.copy_object,
        Bucket="b",
        Key="new.txt",
        CopySource=source,
        MetadataDirective="REPLACE",
        ContentType="text/new",
        Metadata={"baker": "Bob"},
    )
    for key, baker in (("kept.txt", "Ann"), ("new.txt", "Bob")):
        got = await run(s3.get_object, Bucket="b", Key=key)
        assert (got["Body"], got["Metadata"]) == (TEN, {"baker": baker})
    assert got["ContentType"] == "text/new"
    missing = {"Bucket": "b", "Key": "none"}
    wrong = await rejected(s3.copy_object, Bucket="b", Key="x", CopySource=missing)
    assert wrong == (404, "NoSuchKey")
    wrong = await rejected(
        s3.copy_object, Bucket="b", Key="x", CopySource=source, CopySourceIfMatch="other"
    )
    assert wrong == (412, "PreconditionFailed")


async def test_many_objects_are_deleted_at_once(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    await api.uploaded("b/1", "b/2", "b/3")
    deleted = await run(
        s3.delete_objects, Bucket="b", Delete={"Objects": [{"Key": "1"}, {"Key": "3"}]}
    )
    assert [each["Key"] for each in deleted["Deleted"]] == ["1", "3"]
    assert await api.names() == ["2"]
    quiet = {"Objects": [{"Key": "2"}], "Quiet": True}
    assert "Deleted" not in await run(s3.delete_objects, Bucket="b", Delete=quiet)
    assert api.blobs() == []


async def test_blanks_around_a_key_are_part_of_it(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    for key in ("doc", " doc", "doc "):
        await run(s3.put_object, Bucket="b", Key=key, Body=TEN)
    deleted = await run(s3.delete_objects, Bucket="b", Delete={"Objects": [{"Key": "doc "}]})
    assert [each["Key"] for each in deleted["Deleted"]] == ["doc "]
    listed = await run(s3.list_objects_v2, Bucket="b")
    assert [each["Key"] for each in listed["Contents"]] == [" doc", "doc"]


async def test_what_policies_keep_is_not_said_to_be_deleted(api: Api) -> None:
    await api.bucket()
    await api.uploaded("b/a.txt")
    ann = client(api, token=api.token(ANN))
    objects = {"Objects": [{"Key": "a.txt"}, {"Key": "none"}]}
    answer = await run(ann.delete_objects, Bucket="b", Delete=objects)
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [("a.txt", "AccessDenied")]
    assert [each["Key"] for each in answer["Deleted"]] == ["none"]
    denied = await rejected(ann.delete_object, Bucket="b", Key="a.txt")
    assert denied == (403, "AccessDenied")
    assert await api.names() == ["a.txt"]
    missing = await rejected(ann.delete_object, Bucket="nope", Key="a.txt")
    assert missing == (404, "NoSuchBucket")


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256", "SHA1"])
async def test_a_checksum_is_compared_and_repeated(api: Api, algorithm: str) -> None:
    await api.bucket()
    put = await run(
        client(api).put_object, Bucket="b", Key="k", Body=TEN, ChecksumAlgorithm=algorithm
    )
    assert put[f"Checksum{algorithm}"]
    assert (await api.get("/object/authenticated/b/k")).content == TEN


@pytest.mark.parametrize(
    ("name", "right"), [("ChecksumCRC32C", "4waSgw=="), ("ChecksumCRC64NVME", "rosUhgp5mIg=")]
)
async def test_a_checksum_that_its_client_knows_is_compared_and_repeated(
    api: Api, name: str, right: str
) -> None:
    await api.bucket()
    s3, checksum = client(api), {name: right}
    put = {"Bucket": "b", "Key": "k", "Body": b"123456789"}
    assert (await run(s3.put_object, **put, **checksum))[name] == right
    wrong = await rejected(s3.put_object, **{**put, "Body": b"12345678"}, **checksum)
    assert wrong == (400, "BadDigest")


def test_a_long_body_has_the_crc64_of_its_bytes_one_by_one() -> None:
    body = random.Random(7).randbytes(40_000)
    at_once, one_by_one = Crc64Nvme(), Crc64Nvme()
    at_once.update(body)
    for byte in body:
        one_by_one.update(bytes([byte]))
    assert at_once.digest() == one_by_one.digest()


async def put_chunked(api: Api, body: bytes, *, trailer: str = "x-amz-checksum-crc32") -> Any:
    """Put ten bytes as clients do that learn the checksum while they send."""
    key = credentials()
    url = f"{api.url}/storage/v1/s3/b/k"
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "10",
        "x-amz-trailer": trailer,
    }
    request = AWSRequest("PUT", url, headers)
    request.context["payload_signing_enabled"] = False
    signer = S3SigV4Auth(Credentials(key.access_key_id, key.secret), "s3", "local")
    signer.payload = lambda _: headers["x-amz-content-sha256"]
    signer.add_auth(request)
    async with httpx.AsyncClient() as http:
        return await http.put(url, content=body, headers=dict(request.headers.items()))


async def test_the_crc64_that_follows_the_chunks_is_compared(api: Api) -> None:
    await api.bucket()
    digest = Crc64Nvme()
    digest.update(TEN)
    crc = base64.b64encode(digest.digest())
    for sent, status in ((b"AAAAAAAAAAA=", 400), (crc, 200)):
        body = b"a\r\n" + TEN + b"\r\n0\r\nx-amz-checksum-crc64nvme:" + sent + b"\r\n\r\n"
        response = await put_chunked(api, body, trailer="x-amz-checksum-crc64nvme")
        assert response.status_code == status, response.text
    assert response.headers["x-amz-checksum-crc64nvme"] == crc.decode()


async def test_chunks_end_with_the_checksum_that_was_announced(api: Api) -> None:
    await api.bucket()
    crc = base64.b64encode(zlib.crc32(TEN).to_bytes(4, "big"))
    chunks = b"4\r\n0123\r\n6\r\n456789\r\n0\r\n"
    trailer = b"x-amz-checksum-crc32:" + crc + b"\r\n\r\n"
    for body, code in (
        (chunks + trailer.replace(crc, b"AAAAAA=="), "BadDigest"),
        (chunks + b"\r\n", "InvalidRequest"),
        (b"4\r\n0123\r\n0\r\n" + trailer, "IncompleteBody"),
        (b"4\r\n01234\r\n0\r\n" + trailer, "InvalidRequest"),
        (b"x\r\n" + trailer, "InvalidRequest"),
    ):
        response = await put_chunked(api, body)
        assert (response.status_code, f"<Code>{code}</Code>" in response.text) == (400, True)
        assert (await api.names(), api.blobs()) == ([], [])
    response = await put_chunked(api, chunks + trailer)
    assert response.status_code == 200, response.text
    assert response.headers["x-amz-checksum-crc32"] == crc.decode()
    assert (await api.get("/object/authenticated/b/k")).content == TEN


@pytest.mark.parametrize(
    ("checksum", "code"), [("AAAAAA==", "BadDigest"), ("nonsense", "InvalidDigest")]
)
async def test_other_bytes_than_were_digested_are_not_stored(
    api: Api, checksum: str, code: str
) -> None:
    await api.bucket()
    s3 = client(api)
    wrong = await rejected(s3.put_object, Bucket="b", Key="k", Body=TEN, ChecksumCRC32=checksum)
    assert wrong == (400, code)
    md5 = "AAAAAAAAAAAAAAAAAAAAAA=="
    wrong = await rejected(s3.put_object, Bucket="b", Key="k", Body=TEN, ContentMD5=md5)
    assert wrong == (400, "BadDigest")
    assert (await api.names(), api.blobs()) == ([], [])


async def test_limits_of_a_bucket_hold(api: Api) -> None:
    await api.bucket("small", file_size_limit=10, allowed_mime_types=["text/plain"])
    s3 = client(api)
    put = {"Bucket": "small", "Key": "k", "ContentType": "text/plain"}
    await run(s3.put_object, **put, Body=TEN)
    wrong = await rejected(s3.put_object, **put, Body=TEN + b"x")
    assert wrong == (413, "EntityTooLarge")
    wrong = await rejected(s3.put_object, **{**put, "ContentType": "image/png"}, Body=TEN)
    assert wrong == (415, "InvalidMimeType")
    made = await run(s3.create_multipart_upload, **put)
    upload = {"Bucket": "small", "Key": "k", "UploadId": made["UploadId"]}
    await run(s3.upload_part, **upload, PartNumber=1, Body=b"123456")
    wrong = await rejected(s3.upload_part, **upload, PartNumber=2, Body=b"123456")
    assert wrong == (413, "EntityTooLarge")


async def test_an_entity_in_a_body_is_refused(api: Api) -> None:
    await api.bucket()
    await api.uploaded("b/a")
    s3 = client(api)
    body = b'<!DOCTYPE d [<!ENTITY e "a">]><Delete><Object><Key>&e;</Key></Object></Delete>'

    def replaced(request: Any, **_: Any) -> None:
        request.data = body
        for name in list(request.headers):
            if "checksum" in name.lower() or name == "Content-MD5":
                del request.headers[name]

    s3.meta.events.register("before-sign.s3.DeleteObjects", replaced)
    objects = {"Objects": [{"Key": "a"}]}
    code = await rejected(s3.delete_objects, Bucket="b", Delete=objects)
    assert code[1] == "MalformedXML"
    assert await api.names() == ["a"]


async def test_what_storage_does_not_have_says_so(api: Api) -> None:
    await api.bucket()
    s3 = client(api)
    policy = s3.get_bucket_policy
    assert await rejected(policy, Bucket="b") == (501, "NotImplemented")
    assert await rejected(s3.get_bucket_acl, Bucket="b") == (501, "NotImplemented")
    url = client(api, signature_version="s3").generate_presigned_url(
        "get_object", Params={"Bucket": "b", "Key": "a"}
    )
    async with httpx.AsyncClient() as http:
        response = await http.get(url)
    assert (response.status_code, "version 4" in response.text) == (501, True)


async def test_obstore_reads_and_writes_it(api: Api) -> None:
    await api.bucket()
    key = credentials()
    store = S3Store(
        "b",
        endpoint=f"{api.url}/storage/v1/s3",
        region="local",
        access_key_id=key.access_key_id,
        secret_access_key=key.secret,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    content = b"y" * (11 * MB)
    await obstore.put_async(store, "in parts.bin", content, chunk_size=5 * MB)
    got = await obstore.get_async(store, "in parts.bin")
    assert bytes(await got.bytes_async()) == content
    part = await obstore.get_range_async(store, "in parts.bin", start=5 * MB - 1, length=2)
    assert bytes(part) == b"yy"
    await obstore.copy_async(store, "in parts.bin", "copy.bin")
    listed = [each["path"] async for batch in store.list() for each in batch]
    assert sorted(listed) == ["copy.bin", "in parts.bin"]
    await obstore.delete_async(store, ["copy.bin", "in parts.bin"])
    assert await api.names() == []
