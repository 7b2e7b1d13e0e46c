#!/usr/bin/env bash
# Which version of the signature boto3 puts into presigned URLs and forms for a service with the S3
# protocol, depending on the name of the region.
#
# Seen with boto3 and botocore 1.44.8, endpoint_url of another service, no signature_version:
#     region       a request   a presigned URL   a presigned form
#     local        4           4                 4
#     eu-central-1 4           4                 4
#     eu-west-1    4           2                 2
#     us-east-1    4           2                 2
# One would guess that a client signs everything alike, or that the endpoint decides. The name decides:
# in the older regions of Amazon URLs and forms get version 2, which services that came
# later do not take, Supabase Storage among them, whose regions have Amazon's names. So presigned URLs
# that work on a local project, whose region is called local, are rejected by the hosted one.
# Config(signature_version="s3v4") gives version 4 everywhere.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check boto3==1.44.8 botocore==1.44.8

"$folder/venv/bin/python" - <<'PYTHON'
import boto3
import botocore
from botocore.config import Config


def versions(region, **config):
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:9/storage/v1/s3",
        region_name=region,
        aws_access_key_id="id",
        aws_secret_access_key="a secret of twenty letters",
        config=Config(retries={"max_attempts": 0}, **config),
    )
    headers = {}
    client.meta.events.register(
        "before-send.s3", lambda request, **_: headers.update(request.headers)
    )
    try:
        client.list_buckets()
    except botocore.exceptions.EndpointConnectionError:
        pass  # nothing listens there: it was signed
    url = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    form = client.generate_presigned_post("b", "k")["fields"]
    request = headers["Authorization"]
    request = request.decode() if isinstance(request, bytes) else request
    return (
        4 if request.startswith("AWS4-") else 2,
        4 if "X-Amz-Algorithm=" in url else 2,
        4 if "x-amz-algorithm" in form else 2,
    )


REGIONS = ("local", "eu-central-1", "eu-west-1", "us-east-1")
print("boto3", boto3.__version__, "botocore", botocore.__version__)
seen = {region: versions(region) for region in REGIONS}
seen["eu-west-1, s3v4"] = versions("eu-west-1", signature_version="s3v4")
for region, kinds in seen.items():
    print(f"{region}: request {kinds[0]}, URL {kinds[1]}, form {kinds[2]}")
assert seen == {
    "local": (4, 4, 4),
    "eu-central-1": (4, 4, 4),
    "eu-west-1": (4, 2, 2),
    "us-east-1": (4, 2, 2),
    "eu-west-1, s3v4": (4, 4, 4),
}, "boto3 signs otherwise now"
PYTHON
echo "as described"
