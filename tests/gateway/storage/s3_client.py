"""How the tests speak the S3 protocol."""

import asyncio
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.gateway.storage.api import ANON, SECRET, SERVICE, Api

from amphibase.gateway.keys import ApiKeys, S3Credentials, s3_credentials

MB = 1024 * 1024


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
