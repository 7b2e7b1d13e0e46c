"""Who may what by the S3 protocol: access keys, tokens, presigned URLs and forms."""

import base64
import hashlib
import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import httpx
import pytest
from pydantic import SecretStr, ValidationError
from tests.gateway.storage.api import ANN, ANON, BOB, OWN_FOLDER, SECRET, TEN, Api
from tests.gateway.storage.s3_client import client, credentials, rejected, run

from amphibase.gateway.settings import GatewaySettings
from amphibase.gateway.storage.s3.errors import InvalidS3Signature, RequestDenied
from amphibase.gateway.storage.s3.post import PostPolicy
from amphibase.settings.published_secrets import CLI_S3_SECRET_ACCESS_KEY

MAX_AGE = timedelta(seconds=1)


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


def error_of(response: httpx.Response) -> tuple[str, str]:
    """Code and message of an error in XML."""
    match = re.search("<Code>(.*)</Code><Message>(.*)</Message>", response.text)
    assert match is not None, response.text
    return match[1], html.unescape(match[2])


async def test_a_forged_or_expired_token_is_rejected(api: Api) -> None:
    for token in (api.token(ANN)[:-4] + "AAAA", api.token(ANN, exp=1)):
        assert await rejected(client(api, token=token).list_buckets) == (403, "AccessDenied")


@pytest.mark.parametrize("method", ["get_object", "put_object"])
async def test_a_presigned_url_is_good_for_what_was_signed(
    api: Api, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
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
        with monkeypatch.context() as patched:
            earlier = datetime.now(UTC) - timedelta(seconds=61)
            patched.setattr("botocore.auth.get_current_datetime", lambda **_: earlier)
            expired = client(api).generate_presigned_url(
                method, Params={"Bucket": "b", "Key": "a.txt"}, ExpiresIn=60
            )
        late = await http.request(verb, expired, content=content)
        assert (late.status_code, error_of(late)) == (
            400,
            ("ExpiredToken", "The provided token has expired."),
        )
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
    again = client(api).generate_presigned_post(
        "b", "up/a.txt", Conditions=[["starts-with", "$success_action_status", "20"]]
    )
    async with httpx.AsyncClient() as http:

        async def send(content: bytes, **fields: str) -> httpx.Response:
            files = {"file": ("a.txt", content)}
            return await http.post(form["url"], data={**form["fields"], **fields}, files=files)

        response = await send(TEN)
        assert (response.status_code, response.headers["etag"]) == (
            200,
            f'"{hashlib.md5(TEN).hexdigest()}"',
        )
        for status in (201, 204):
            asked = {"success_action_status": str(status)}
            response = await http.post(
                again["url"], data={**again["fields"], **asked}, files={"file": ("a.txt", TEN)}
            )
            assert response.status_code == status
        assert "EntityTooLarge" in (await send(TEN + b"x")).text
        for name, value, said in (
            ("key", "down/a.txt", '"key" does not start with "up/"'),
            ("Content-Type", "text/html", '"content-type" does not match'),
            ("x-amz-meta-a", "1", 'field "x-amz-meta-a" is not covered by the policy'),
        ):
            assert error_of(await send(TEN, **{name: value})) == (
                "AccessDenied",
                f"Policy condition failed: {said}",
            )
        forged = await send(TEN, **{"x-amz-signature": "0" * 64})
        assert "SignatureDoesNotMatch" in forged.text
    assert await api.names(prefix="up") == ["a.txt"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ([], "Invalid policy"),
        ({"conditions": []}, "Missing policy expiration"),
        ({"expiration": "soon", "conditions": []}, "Invalid policy expiration"),
        ({"expiration": "2999-01-01T00:00:00Z"}, "Invalid policy conditions"),
        ([{}], "Invalid policy condition"),
        ([["ends-with", "$key", "a"]], "Unsupported policy condition"),
        ([["content-length-range", "1", 2]], "Invalid content-length-range condition"),
    ],
)
def test_a_policy_that_is_none_is_named(policy: Any, said: str) -> None:
    if isinstance(policy, list) and policy:
        policy = {"expiration": "2999-01-01T00:00:00Z", "conditions": policy}
    text = base64.b64encode(json.dumps(policy).encode()).decode()
    with pytest.raises(InvalidS3Signature, match=f"^{said}$"):
        PostPolicy.parse(text).check({})


def test_a_policy_covers_the_bucket_too() -> None:
    fields = {"bucket": "b", "key": "a", "policy": "", "x-amz-date": ""}
    covered = [{"key": "a"}, {"bucket": "b"}]
    expires = datetime.now(UTC) + timedelta(minutes=1)
    assert PostPolicy(expires, covered).check(fields) == (0, None)
    with pytest.raises(RequestDenied, match='field "bucket" is not covered by the policy'):
        PostPolicy(expires, covered[:1]).check(fields)
    with pytest.raises(RequestDenied, match='"bucket" does not match'):
        PostPolicy(expires, covered).check({**fields, "bucket": "c"})


async def test_another_header_leaves_the_signature_of_a_url(api: Api) -> None:
    await api.bucket()
    await api.uploaded()
    url = client(api).generate_presigned_url(
        "get_object", Params={"Bucket": "b", "Key": "a.txt"}, ExpiresIn=60 * 60 * 24 * 30
    )
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {ANON}"}) as http:
        assert (await http.get(url)).status_code == 200
        missing = await http.get(url.partition("?")[0])
        assert error_of(missing) == ("AccessDenied", "Missing signature")


@pytest.mark.parametrize(
    ("changed", "to", "status", "error"),
    [
        ("%2Fs3%2F", "%2Fs3vectors%2F", 403, ("AccessDenied", "Invalid Service")),
        ("%2Fs3%2F", "%2F", 400, ("InvalidSignature", "Invalid credentials")),
        ("X-Amz-Date", "X-Date", 400, ("InvalidSignature", "Invalid signature format")),
        ("Expires=60", "Expires=soon", 400, ("InvalidSignature", "Invalid expiration")),
    ],
)
async def test_a_signature_that_is_none_is_named(
    api: Api, changed: str, to: str, status: int, error: tuple[str, str]
) -> None:
    url = client(api).generate_presigned_url("list_buckets", ExpiresIn=60)
    async with httpx.AsyncClient() as http:
        response = await http.get(url.replace(changed, to))
    assert (response.status_code, error_of(response)) == (status, error)


async def test_a_wrong_signature_with_a_token_names_the_token(api: Api) -> None:
    url = client(api, token=api.token(ANN)).generate_presigned_url("list_buckets", ExpiresIn=60)
    async with httpx.AsyncClient() as http:
        response = await http.get(url.replace("Expires=60", "Expires=61"))
    code, message = error_of(response)
    assert code == "SignatureDoesNotMatch"
    assert message.endswith("The session token should be a valid JWT token")


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
    assert await rejected(other("wrong", key.secret).list_buckets) == (403, "AccessDenied")
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


async def test_an_error_names_what_it_is_about(api: Api) -> None:
    response = await api.get("/s3/b/a%20b/c?list-type=2", token=None)
    assert response.headers["content-type"] == "application/xml; charset=utf-8"
    assert (response.status_code, response.text) == (
        403,
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        "<Error><Resource>b/a b/c</Resource><Code>AccessDenied</Code>"
        "<Message>Missing signature</Message></Error>",
    )


PART = {"Bucket": "b", "Key": "large", "PartNumber": 1}


@pytest.mark.parametrize(
    ("action", "arguments", "operation"),
    [
        ("put_object", {"Key": "new", "Body": TEN}, "storage.s3.upload"),
        ("get_object", {"Key": "a.txt"}, "storage.s3.object.get"),
        ("head_object", {"Key": "a.txt"}, "storage.s3.object.info"),
        ("copy_object", {"Key": "new", "CopySource": "b/a.txt"}, "storage.s3.object.copy"),
        ("delete_object", {"Key": "a.txt"}, "storage.s3.object.delete"),
        ("create_multipart_upload", {"Key": "new"}, "storage.s3.upload.create_multipart"),
        ("upload_part", {**PART, "Body": TEN}, "storage.s3.upload.part"),
        ("upload_part_copy", {**PART, "CopySource": "b/a.txt"}, "storage.s3.upload.part_copy"),
        ("complete_multipart_upload", {"Key": "large"}, "storage.s3.upload.complete_multipart"),
    ],
)
async def test_policies_see_upstream_s_name_of_an_operation(
    api: Api, action: str, arguments: dict[str, Any], operation: str
) -> None:
    await api.bucket()
    await api.uploaded()
    ann = client(api, token=api.token(ANN))
    api.rows("CREATE POLICY all_of_them ON storage.objects FOR ALL TO authenticated USING (true)")
    if "upload" in operation and action not in ("put_object", "create_multipart_upload"):
        made = await run(ann.create_multipart_upload, Bucket="b", Key="large")
        arguments = {**arguments, "UploadId": made["UploadId"]}
        await run(ann.upload_part, **PART, UploadId=made["UploadId"], Body=TEN)
    alter = "ALTER POLICY all_of_them ON storage.objects USING (storage.operation() {} '{}')"
    api.rows(alter.format("<>", operation))
    status, _ = await rejected(getattr(ann, action), **{"Bucket": "b", **arguments})
    assert status in (403, 404)
    api.rows(alter.format("=", operation))
    await run(getattr(ann, action), **{"Bucket": "b", **arguments})
