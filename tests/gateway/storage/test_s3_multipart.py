"""Uploads in parts by the S3 protocol."""

import hashlib
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.gateway.storage.api import ANN, ANON, TEN, Api
from tests.gateway.storage.s3_client import MB, client, rejected, run


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
        assert code == (400, "InvalidRange")
    parts = [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]
    await run(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts})
    assert (await run(s3.get_object, Bucket="b", Key="k"))["Body"] == b"2345"


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
