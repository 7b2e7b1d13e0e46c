"""The S3 protocol, by the clients that people use for it."""

import asyncio
import base64
import hashlib
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import boto3
import httpx
import obstore
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from obstore.store import S3Store
from pydantic import SecretStr, ValidationError
from tests.gateway.storage.api import ANN, ANON, BOB, OWN_FOLDER, SECRET, SERVICE, TEN, Api

from amphibase.gateway.keys import ApiKeys, S3Credentials, s3_credentials
from amphibase.gateway.settings import GatewaySettings
from amphibase.published_secrets import CLI_S3_SECRET_ACCESS_KEY

MB = 1024 * 1024
MAX_AGE = timedelta(seconds=1)


def credentials() -> S3Credentials:
    return s3_credentials(ApiKeys(SECRET, ANON, SERVICE))


def client(api: Api, *, token: str | None = None, **options: Any) -> Any:
    """A client with the project's access key, or with a user's token."""
    key = credentials()
    settings = {"signature_version": "s3v4", "s3": {"addressing_style": "path"}, **options}
    return boto3.client(
        "s3",
        endpoint_url=f"{api.url}/storage/v1/s3",
        region_name="local",
        aws_access_key_id=key.access_key_id if token is None else "project",
        aws_secret_access_key=key.secret if token is None else ANON,
        aws_session_token=token,
        config=Config(retries={"max_attempts": 1}, **settings),
    )


async def run(call: Callable[..., Any], **arguments: Any) -> Any:
    """Make a call and read its body, in a thread: the server runs in this one."""

    def wait() -> Any:
        result = call(**arguments)
        if "Body" in result:
            result["Body"] = result["Body"].read()
        return result

    return await asyncio.to_thread(wait)


async def rejected(call: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
    """Status and code of the error that a call ends in."""
    with pytest.raises(ClientError) as raised:
        await run(call, **arguments)
    response = raised.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


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
    for table in ("objects", "buckets"):
        api.rows(f"CREATE POLICY r ON storage.{table} FOR SELECT TO authenticated USING (true)")
    ann = client(api, token=api.token(ANN))
    objects = {"Objects": [{"Key": "a.txt"}, {"Key": "none"}]}
    answer = await run(ann.delete_objects, Bucket="b", Delete=objects)
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [("a.txt", "AccessDenied")]
    assert [each["Key"] for each in answer["Deleted"]] == ["none"]
    denied = await rejected(ann.delete_object, Bucket="b", Key="a.txt")
    assert denied == (403, "AccessDenied")
    assert await api.names() == ["a.txt"]


async def test_anonymous_callers_upload_whole_and_users_do_not_hold_up_the_service(
    serve: Any,
) -> None:
    api = await serve(max_unfinished_uploads=1)
    await api.bucket()
    api.rows("CREATE POLICY drop ON storage.objects FOR ALL TO anon, authenticated USING (true)")
    anonymous = client(api, token=ANON)
    await run(anonymous.put_object, Bucket="b", Key="a", Body=TEN)
    denied = await rejected(anonymous.create_multipart_upload, Bucket="b", Key="b")
    assert denied == (403, "AccessDenied")
    ann = client(api, token=api.token(ANN))
    await run(ann.create_multipart_upload, Bucket="b", Key="c")
    full = await rejected(ann.create_multipart_upload, Bucket="b", Key="d")
    assert full == (503, "SlowDown")
    await run(client(api).create_multipart_upload, Bucket="b", Key="d")


async def test_an_object_comes_in_parts_in_any_order(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    place = {"Bucket": "b", "Key": "large.bin"}
    made = await run(s3.create_multipart_upload, **place, ContentType="x/y", Metadata={"m": "1"})
    upload = {**place, "UploadId": made["UploadId"]}
    bodies = {1: b"a" * (5 * MB), 2: b"b" * (5 * MB), 3: b"c" * 100}
    tags = {}
    for number in (3, 1, 2):
        part = await run(s3.upload_part, **upload, PartNumber=number, Body=bodies[number])
        tags[number] = part["ETag"]
    again = await run(s3.upload_part, **upload, PartNumber=3, Body=b"d" * 100)
    assert again["ETag"] != tags[3]
    listed = await run(s3.list_parts, **upload)
    assert [(each["PartNumber"], each["Size"]) for each in listed["Parts"]] == [
        (1, 5 * MB),
        (2, 5 * MB),
        (3, 100),
    ]
    uploads = await run(s3.list_multipart_uploads, Bucket="b")
    assert [each["UploadId"] for each in uploads["Uploads"]] == [made["UploadId"]]

    async def complete(*parts: tuple[int, str]) -> Any:
        numbered = [{"PartNumber": number, "ETag": tag} for number, tag in parts]
        return await run(
            s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": numbered}
        )

    with pytest.raises(ClientError, match="InvalidPartOrder"):
        await complete((2, tags[2]), (1, tags[1]))
    with pytest.raises(ClientError, match="InvalidPart"):
        await complete((1, tags[1]), (2, tags[2]), (3, tags[3]))
    last = await run(s3.upload_part, **upload, PartNumber=4, Body=b"e")
    with pytest.raises(ClientError, match="EntityTooSmall"):
        await complete((3, again["ETag"]), (4, last["ETag"]))
    done = await complete((1, tags[1]), (2, tags[2]), (3, again["ETag"]))

    content = bodies[1] + bodies[2] + b"d" * 100
    digests = [hashlib.md5(part).digest() for part in (bodies[1], bodies[2], b"d" * 100)]
    assert done["ETag"] == f'"{hashlib.md5(b"".join(digests)).hexdigest()}-3"'
    got = await run(s3.get_object, **place)
    assert (got["Body"] == content, got["Metadata"]) == (True, {"m": "1"})
    assert (got["ETag"], got["ContentType"]) == (done["ETag"], "x/y")
    assert len(api.blobs()) == 1
    assert await rejected(s3.list_parts, **upload) == (404, "NoSuchUpload")


async def test_an_aborted_upload_leaves_nothing(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    made = await run(s3.create_multipart_upload, Bucket="b", Key="k")
    upload = {"Bucket": "b", "Key": "k", "UploadId": made["UploadId"]}
    await run(s3.upload_part, **upload, PartNumber=1, Body=TEN)
    await run(s3.abort_multipart_upload, **upload)
    assert (api.blobs(), await api.names()) == ([], [])
    assert await rejected(s3.upload_part, **upload, PartNumber=1, Body=TEN) == (404, "NoSuchUpload")


async def test_a_bucket_is_deleted_with_its_unfinished_uploads(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    made = await run(s3.create_multipart_upload, Bucket="b", Key="k")
    upload = {"Bucket": "b", "Key": "k", "UploadId": made["UploadId"]}
    await run(s3.upload_part, **upload, PartNumber=1, Body=TEN)
    assert (await api.delete("/bucket/b")).status_code == 200
    assert api.blobs() == []


async def test_a_part_may_be_copied_from_an_object(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    await api.uploaded()
    made = await run(s3.create_multipart_upload, Bucket="b", Key="k")
    upload = {"Bucket": "b", "Key": "k", "UploadId": made["UploadId"]}
    copied = await run(
        s3.upload_part_copy,
        **upload,
        PartNumber=1,
        CopySource={"Bucket": "b", "Key": "a.txt"},
        CopySourceRange="bytes=2-5",
    )
    for wrong in ("bytes=2-10", "bytes=5-2", "bytes=0-" + "9" * 5000):
        code = await rejected(
            s3.upload_part_copy,
            **upload,
            PartNumber=1,
            CopySource={"Bucket": "b", "Key": "a.txt"},
            CopySourceRange=wrong,
        )
        assert code == (400, "InvalidArgument")
    parts = [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]
    await run(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts})
    assert (await run(s3.get_object, Bucket="b", Key="k"))["Body"] == b"2345"


async def test_a_user_s_token_does_what_policies_let_the_user_do(api: Api) -> None:
    await api.bucket("mine")
    api.rows(OWN_FOLDER)
    api.rows("CREATE POLICY buckets ON storage.buckets FOR SELECT TO authenticated USING (true)")
    ann, bob = client(api, token=api.token(ANN)), client(api, token=api.token(BOB))
    await run(ann.put_object, Bucket="mine", Key=f"{ANN}/a.txt", Body=TEN)
    assert (await run(ann.get_object, Bucket="mine", Key=f"{ANN}/a.txt"))["Body"] == TEN
    assert "Contents" not in await run(bob.list_objects_v2, Bucket="mine")
    assert await rejected(bob.get_object, Bucket="mine", Key=f"{ANN}/a.txt") == (404, "NoSuchKey")
    denied = (403, "AccessDenied")
    assert await rejected(bob.put_object, Bucket="mine", Key=f"{ANN}/b.txt", Body=TEN) == denied
    begin = bob.create_multipart_upload
    assert await rejected(begin, Bucket="mine", Key=f"{ANN}/b.txt") == denied
    made = await run(ann.create_multipart_upload, Bucket="mine", Key=f"{ANN}/c.txt")
    upload = {"Bucket": "mine", "Key": f"{ANN}/c.txt", "UploadId": made["UploadId"]}
    wrong = await rejected(bob.upload_part, **upload, PartNumber=1, Body=TEN)
    assert wrong == (404, "NoSuchUpload")
    assert "Uploads" not in await run(bob.list_multipart_uploads, Bucket="mine")
    assert await rejected(ann.create_bucket, Bucket="new") == denied
    owner = api.rows("SELECT owner_id FROM storage.objects WHERE name LIKE '%%/a.txt'")
    assert owner == [(str(ANN),)]


async def test_a_forged_or_expired_token_is_rejected(api: Api) -> None:
    for token in (api.token(ANN)[:-4] + "AAAA", api.token(ANN, exp=1)):
        assert await rejected(client(api, token=token).list_buckets) == (403, "AccessDenied")


@pytest.mark.parametrize("method", ["get_object", "put_object"])
async def test_a_presigned_url_is_good_for_what_was_signed(api: Api, method: str) -> None:
    await api.bucket()
    await api.uploaded()
    url = client(api).generate_presigned_url(
        method, Params={"Bucket": "b", "Key": "a.txt"}, ExpiresIn=60
    )
    verb = "PUT" if method == "put_object" else "GET"
    content = b"new" if verb == "PUT" else None
    async with httpx.AsyncClient() as http:
        response = await http.request(verb, url, content=content)
        assert response.status_code == 200, response.text
        for changed in (
            url.replace("a.txt", "b.txt"),
            url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
        ):
            assert "SignatureDoesNotMatch" in (await http.request(verb, changed)).text
        other = "GET" if verb == "PUT" else "PUT"
        assert (await http.request(other, url)).status_code == 403
        expired = client(api).generate_presigned_url(
            method, Params={"Bucket": "b", "Key": "a.txt"}, ExpiresIn=1
        )
        await asyncio.sleep(2.1)
        assert "Request has expired" in (await http.request(verb, expired, content=content)).text
    if verb == "PUT":
        assert (await api.get("/object/authenticated/b/a.txt")).content == b"new"


async def test_a_form_stores_what_its_policy_allows(api: Api) -> None:
    await api.bucket()
    form = client(api).generate_presigned_post(
        "b",
        "up/${filename}",
        Fields={"Content-Type": "text/plain"},
        Conditions=[
            ["starts-with", "$key", "up/"],
            {"Content-Type": "text/plain"},
            ["content-length-range", 1, 10],
        ],
    )
    async with httpx.AsyncClient() as http:

        async def send(content: bytes, **fields: str) -> httpx.Response:
            files = {"file": ("a.txt", content)}
            return await http.post(form["url"], data={**form["fields"], **fields}, files=files)

        response = await send(TEN)
        assert (response.status_code, response.headers["etag"]) == (
            204,
            f'"{hashlib.md5(TEN).hexdigest()}"',
        )
        assert "EntityTooLarge" in (await send(TEN + b"x")).text
        assert "condition on key failed" in (await send(TEN, key="down/a.txt")).text
        assert "extra input field x-amz-meta-a" in (await send(TEN, **{"x-amz-meta-a": "1"})).text
        forged = await send(TEN, **{"x-amz-signature": "0" * 64})
        assert "SignatureDoesNotMatch" in forged.text
    assert await api.names(prefix="up") == ["a.txt"]


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256", "SHA1"])
async def test_a_checksum_is_compared_and_repeated(api: Api, algorithm: str) -> None:
    await api.bucket()
    put = await run(
        client(api).put_object, Bucket="b", Key="k", Body=TEN, ChecksumAlgorithm=algorithm
    )
    assert put[f"Checksum{algorithm}"]
    assert (await api.get("/object/authenticated/b/k")).content == TEN


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


async def test_who_has_not_the_secret_is_rejected(api: Api) -> None:
    await api.bucket()
    key = credentials()

    def other(id: str, secret: str) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"{api.url}/storage/v1/s3",
            region_name="local",
            aws_access_key_id=id,
            aws_secret_access_key=secret,
        )

    wrong = await rejected(other(key.access_key_id, "wrong").list_buckets)
    assert wrong == (403, "SignatureDoesNotMatch")
    assert await rejected(other("wrong", key.secret).list_buckets) == (403, "InvalidAccessKeyId")
    async with httpx.AsyncClient() as http:
        response = await http.get(f"{api.url}/storage/v1/s3/b")
    assert (response.status_code, "<Code>AccessDenied</Code>" in response.text) == (403, True)


async def test_an_old_signature_is_rejected(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = client(api)
    signed: dict[str, Any] = {}
    s3.meta.events.register("before-send.s3", lambda request, **_: signed.update(vars(request)))
    await run(s3.list_buckets)
    headers = dict(signed["headers"].items())
    monkeypatch.setattr("amphibase.gateway.storage.s3.signature.MAX_SKEW", -MAX_AGE)
    async with httpx.AsyncClient() as http:
        response = await http.get(signed["url"], headers=headers)
    assert "RequestTimeTooSkewed" in response.text


async def test_limits_of_a_bucket_hold(api: Api) -> None:
    await api.bucket("small", file_size_limit=10, allowed_mime_types=["text/plain"])
    s3 = client(api)
    put = {"Bucket": "small", "Key": "k", "ContentType": "text/plain"}
    await run(s3.put_object, **put, Body=TEN)
    wrong = await rejected(s3.put_object, **put, Body=TEN + b"x")
    assert wrong == (400, "EntityTooLarge")
    wrong = await rejected(s3.put_object, **{**put, "ContentType": "image/png"}, Body=TEN)
    assert wrong == (415, "InvalidRequest")
    made = await run(s3.create_multipart_upload, **put)
    upload = {"Bucket": "small", "Key": "k", "UploadId": made["UploadId"]}
    await run(s3.upload_part, **upload, PartNumber=1, Body=b"123456")
    wrong = await rejected(s3.upload_part, **upload, PartNumber=2, Body=b"123456")
    assert wrong == (400, "EntityTooLarge")


async def test_unfinished_uploads_are_limited_and_expire(serve: Any) -> None:
    api = await serve(max_unfinished_uploads=1)
    await api.bucket()
    s3 = client(api)
    made = await run(s3.create_multipart_upload, Bucket="b", Key="k")
    upload = {"Bucket": "b", "Key": "k", "UploadId": made["UploadId"]}
    await run(s3.upload_part, **upload, PartNumber=1, Body=TEN)
    assert await rejected(s3.create_multipart_upload, Bucket="b", Key="k") == (503, "SlowDown")
    for table in ("s3_multipart_uploads", "s3_multipart_uploads_parts"):
        api.rows(f"UPDATE storage.{table} SET created_at = now() - interval '2 days'")
    await run(s3.create_multipart_upload, Bucket="b", Key="k")
    assert api.blobs() == []


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


def test_the_access_key_is_the_cli_s_where_the_secret_is() -> None:
    cli, own = GatewaySettings().s3, GatewaySettings(jwt_secret=SecretStr(SECRET)).s3
    assert cli is not None
    assert own is not None
    assert cli.access_key_id == "625729a08b95bf1b7ff351a663f3a23c"
    assert (own.access_key_id, own.secret) == (credentials().access_key_id, credentials().secret)
    assert SECRET not in own.secret
    assert GatewaySettings(s3_protocol_enabled=False).s3 is None


def test_half_an_access_key_and_a_published_one_stop_the_start() -> None:
    with pytest.raises(ValidationError, match="belong together"):
        GatewaySettings(s3_access_key_id="mine")
    everybody_s = SecretStr(CLI_S3_SECRET_ACCESS_KEY)
    with pytest.raises(ValidationError, match="set S3_PROTOCOL_ACCESS_KEY_SECRET to your own"):
        GatewaySettings(
            host="0.0.0.0",
            jwt_secret=SecretStr(SECRET),
            s3_access_key_id="mine",
            s3_secret_access_key=everybody_s,
        )
