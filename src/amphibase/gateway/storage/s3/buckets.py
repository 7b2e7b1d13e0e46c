"""Buckets by the S3 protocol."""

from starlette.responses import Response

from amphibase.gateway.storage import bucket_rows
from amphibase.gateway.storage.limits import check_new_bucket
from amphibase.gateway.storage.responses import timestamp
from amphibase.gateway.storage.s3.request import S3Request
from amphibase.gateway.storage.s3.xml import xml_response

REGION_HEADER = "x-amz-bucket-region"


async def list_all(s3: S3Request) -> Response:
    """ListBuckets."""
    async with s3.context.transactions.as_caller(s3.caller, "storage.s3.bucket.list") as connection:
        rows = await bucket_rows.list_all(
            connection, limit=None, offset=0, column="id", order="asc", search=None
        )
    buckets = [
        ("Bucket", [("Name", row["id"]), ("CreationDate", timestamp(row["created_at"]))])
        for row in rows
    ]
    return xml_response("ListAllMyBucketsResult", [("Buckets", buckets)])


async def create(s3: S3Request) -> Response:
    """CreateBucket; it is private."""
    check_new_bucket(s3.bucket)
    values = {
        "id": s3.bucket,
        "name": s3.bucket,
        "public": s3.headers.get("x-amz-acl") == "public-read",
    }
    await s3.context.buckets.create(s3.caller, values, "storage.s3.bucket.create")
    return Response(headers={"Location": f"/{s3.bucket}"})


async def head(s3: S3Request) -> Response:
    """HeadBucket."""
    await s3.context.buckets.find(s3.caller, s3.bucket, "storage.s3.bucket.head")
    return Response(headers={REGION_HEADER: _region(s3)})


async def location(s3: S3Request) -> Response:
    """GetBucketLocation: the region that the client signs for."""
    await s3.context.buckets.find(s3.caller, s3.bucket, "storage.s3.bucket.get_location")
    return xml_response("LocationConstraint", _region(s3))


async def versioning(s3: S3Request) -> Response:
    """GetBucketVersioning: there is none."""
    await s3.context.buckets.find(s3.caller, s3.bucket, "storage.s3.bucket.get_versioning")
    return xml_response(
        "VersioningConfiguration", [("Status", "Suspended"), ("MfaDelete", "Disabled")]
    )


async def delete(s3: S3Request) -> Response:
    """DeleteBucket."""
    await s3.context.buckets.delete(s3.caller, s3.bucket, "storage.s3.bucket.delete")
    return Response(status_code=204)


def _region(s3: S3Request) -> str:
    return s3.signature.scope.split("/")[1]
