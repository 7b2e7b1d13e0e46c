"""What the responses of the S3 protocol say, beside what they are about."""

import asyncio
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.gateway.storage.api import ANN, TEN, Api
from tests.gateway.storage.s3_client import client, rejected, run


async def test_lists_name_no_owner_and_what_was_not_asked_for_is_empty(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    await api.uploaded("b/a folder/a+b.txt")
    assert "Owner" not in await run(s3.list_buckets)
    listed = await run(s3.list_objects_v2, Bucket="b", FetchOwner=True)
    assert listed["Contents"][0]["Key"] == "a folder/a+b.txt"
    assert "Owner" not in listed["Contents"][0]
    empty = ("Prefix", "Delimiter", "ContinuationToken", "StartAfter")
    assert [listed[name] for name in empty] == ["", "", "", ""]
    listed = await run(s3.list_objects, Bucket="b")
    assert "Owner" not in listed["Contents"][0]
    assert (listed["Marker"], "NextMarker" in listed) == ("", False)
    versioning = await run(s3.get_bucket_versioning, Bucket="b")
    assert (versioning["Status"], versioning["MFADelete"]) == ("Suspended", "Disabled")


async def test_unfinished_uploads_are_listed_by_folder_and_page(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    for key in ("a/1", "a/2", "b b", "b b", "c/3"):
        await run(s3.create_multipart_upload, Bucket="b", Key=key)
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket="b", Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    entries: list[str] = []
    for page in await asyncio.to_thread(list, pages):
        entries += [each["Prefix"] for each in page.get("CommonPrefixes", [])]
        entries += [each["Key"] for each in page.get("Uploads", [])]
    assert entries == ["a/", "b b", "b b", "c/"]
    listed = await run(s3.list_multipart_uploads, Bucket="b", Prefix="b ", EncodingType="url")
    assert (listed["Prefix"], listed["EncodingType"]) == ("b%20", "url")
    assert [each["Key"] for each in listed["Uploads"]] == ["b%20b"] * 2
    assert [listed[name] for name in ("KeyMarker", "NextKeyMarker", "Delimiter")] == [""] * 3


async def test_a_user_lists_a_bucket_whose_row_is_hidden(api: Api) -> None:
    await api.bucket()
    await api.uploaded()
    api.rows("CREATE POLICY objects ON storage.objects FOR SELECT TO authenticated USING (true)")
    ann = client(api, token=api.token(ANN))
    assert [each["Key"] for each in (await run(ann.list_objects_v2, Bucket="b"))["Contents"]] == [
        "a.txt"
    ]
    assert "Uploads" not in await run(ann.list_multipart_uploads, Bucket="b")


@pytest.mark.parametrize(
    ("action", "arguments", "message"),
    [
        ("list_objects_v2", {"MaxKeys": -1}, "Querystring, max-keys must be >= 0"),
        (
            "list_objects",
            {"EncodingType": "x"},
            "Querystring, encoding-type must be equal to one of the allowed values",
        ),
        ("list_multipart_uploads", {"MaxUploads": 0}, "Querystring, max-uploads must be >= 1"),
        (
            "list_multipart_uploads",
            {"MaxUploads": 1001},
            "Querystring, max-uploads must be <= 1000",
        ),
        (
            "upload_part",
            {"Key": "a", "PartNumber": 0, "Body": TEN},
            "Querystring, partNumber must be >= 1",
        ),
        (
            "upload_part",
            {"Key": "a", "PartNumber": 10_001, "Body": TEN},
            "Querystring, partNumber must be <= 10000",
        ),
        ("list_parts", {"Key": "a", "MaxParts": 0}, "Querystring, max-parts must be >= 1"),
    ],
)
async def test_a_parameter_that_cannot_be_is_named(
    api: Api, action: str, arguments: dict[str, Any], message: str
) -> None:
    s3 = client(api)
    await api.bucket()
    if "Key" in arguments:
        made = await run(s3.create_multipart_upload, Bucket="b", Key="a")
        arguments["UploadId"] = made["UploadId"]
    with pytest.raises(ClientError) as raised:
        await run(getattr(s3, action), Bucket="b", **arguments)
    error = raised.value.response["Error"]
    assert (error["Code"], error["Message"]) == ("InvalidRequest", message)


async def test_a_continuation_token_that_is_none_is_rejected(api: Api) -> None:
    await api.bucket()
    wrong = await rejected(client(api).list_objects_v2, Bucket="b", ContinuationToken="ä")
    assert wrong == (400, "InvalidParameter")


async def test_metadata_that_no_header_can_hold_is_counted(api: Api) -> None:
    await api.bucket()
    metadata = {"plain": "1", "nested": {"a": 1}, "number": 2, "two words": "x"}
    await api.uploaded()
    api.rows("UPDATE storage.objects SET user_metadata = %s", json.dumps(metadata))
    s3 = client(api)
    for call in (s3.head_object, s3.get_object):
        got = await run(call, Bucket="b", Key="a.txt")
        assert (got["Metadata"], got["MissingMeta"]) == ({"plain": "1"}, 3)


async def test_an_object_is_copied_onto_itself(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    await run(s3.put_object, Bucket="b", Key="a", Body=TEN, Metadata={"baker": "Ann"})
    await run(s3.copy_object, Bucket="b", Key="a", CopySource="b/a")
    got = await run(s3.get_object, Bucket="b", Key="a")
    assert (got["Body"], got["Metadata"]) == (TEN, {"baker": "Ann"})


async def test_an_upload_that_names_no_parts_takes_all(api: Api) -> None:
    s3 = client(api)
    await api.bucket()
    made = await run(s3.create_multipart_upload, Bucket="b", Key="f/a b")
    upload = {"Bucket": "b", "Key": "f/a b", "UploadId": made["UploadId"]}
    part = await run(s3.upload_part, **upload, PartNumber=7, Body=TEN)
    headers = part["ResponseMetadata"]["HTTPHeaders"]
    assert headers["access-control-expose-headers"] == "etag"
    listed = await run(s3.list_parts, **upload)
    assert (listed["IsTruncated"], "NextPartNumberMarker" in listed) == (False, False)
    done = await run(s3.complete_multipart_upload, **upload)
    assert (done["Location"], done["Key"]) == ("b/f/a b", "f/a b")
    assert (await run(s3.get_object, Bucket="b", Key="f/a b"))["Body"] == TEN
    assert (await rejected(s3.list_parts, **upload))[0] == 404
