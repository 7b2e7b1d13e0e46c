"""Calls a hook: a function in the caller's transaction, or a URL with a signed request.

Requests are signed as standard webhooks are
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
"""

import asyncio
import base64
import hmac
from collections.abc import Mapping
from time import time
from typing import Any
from uuid import uuid4

import httpx
import orjson
import psycopg
from sqlalchemy import bindparam, text
from sqlalchemy.types import NULLTYPE

from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.hooks.settings import HookTarget
from amphibase.gateway.database_errors import log_missing_right
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.auth.hooks")

FUNCTION_MILLISECONDS = 2000
HTTP_SECONDS = 5
ATTEMPTS = 3
BACKOFF_SECONDS = 2
MAX_RESPONSE_BYTES = 200 * 1024

_SET_TIMEOUT = text(
    "SELECT current_setting('statement_timeout'),"
    f" set_config('statement_timeout', '{FUNCTION_MILLISECONDS}', true)"
)
_RESTORE_TIMEOUT = text("SELECT set_config('statement_timeout', :timeout, true)")

Payload = Mapping[str, Any]


class HookRejection(AuthError):
    """Raised with the message of a hook that rejects what is under way.

    Args:
        message: of the hook.
        status: that the hook chose.
    """

    def __init__(self, message: str, status: int) -> None:
        error = codes.UNEXPECTED_FAILURE if status == 500 else codes.REJECTED_BY_HOOK
        super().__init__(error, message, status=status)


async def call_hook(
    target: HookTarget, payload: Payload, connection: SqlConnection, client: httpx.AsyncClient
) -> dict[str, Any]:
    """Call a hook and return what it responds; empty where it says nothing.

    Args:
        payload: JSON.
        connection: of the transaction that a function runs in.
        client: sends requests to a URL.

    Raises:
        HookRejection: the hook responds with an error.
        AuthError: the hook fails, or does not respond in time.
    """
    content = orjson.dumps(payload)
    response = (
        await _post(target, content, client)
        if target.function is None
        else await _call_function(target, content.decode(), connection)
    )
    _check_error(response)
    return response


async def _call_function(
    target: HookTarget, payload: str, connection: SqlConnection
) -> dict[str, Any]:
    # Names are letters, digits and underscores; see `HookTarget`.
    schema, name = target.function or ("", "")
    call = text(f'SELECT "{schema}"."{name}"(:payload)').bindparams(
        # Without a type the function's own decides: json or jsonb.
        bindparam("payload", type_=NULLTYPE)
    )
    # With what is queued, whose error is none of the hook's.
    timeout = (await connection.execute(_SET_TIMEOUT)).one()[0]
    try:
        value = (await connection.execute(call, {"payload": payload})).scalar_one()
        await connection.execute(_RESTORE_TIMEOUT, {"timeout": timeout})
    except psycopg.Error as error:
        logger.error("The hook %s failed: %s", target.name, error)
        log_missing_right(error, "supabase_auth_admin", "auth")
        raise _failed(target) from error
    return _object(target, orjson.loads(value) if isinstance(value, str) else value)


async def _post(target: HookTarget, content: bytes, client: httpx.AsyncClient) -> dict[str, Any]:
    try:
        async with asyncio.timeout(HTTP_SECONDS):
            for attempt in range(ATTEMPTS):
                response = await _attempt(client, target, content, is_last=attempt == ATTEMPTS - 1)
                if response is not None:
                    return response
    except TimeoutError:
        raise AuthError(
            codes.HOOK_TIMEOUT,
            f"Failed to reach hook within maximum time of {HTTP_SECONDS:f} seconds",
        ) from None
    raise AuthError(codes.UNEXPECTED_FAILURE, "Service currently unavailable due to hook")


async def _attempt(
    client: httpx.AsyncClient, target: HookTarget, content: bytes, *, is_last: bool
) -> dict[str, Any] | None:
    request = client.build_request(
        "POST", target.uri, content=content, headers=signed_headers(target.secrets, content)
    )
    try:
        response = await client.send(request, stream=True)
        try:
            return await _read(target, response)
        finally:
            await response.aclose()
    except httpx.HTTPError as error:
        logger.warning("The hook %s cannot be reached: %s", target.name, error)
        if is_last:
            raise AuthError(codes.HOOK_TIMEOUT_AFTER_RETRY) from None
        await asyncio.sleep(BACKOFF_SECONDS)
        return None


async def _read(target: HookTarget, response: httpx.Response) -> dict[str, Any] | None:
    match response.status_code:
        case 200 | 202 | 204:
            pass
        case 429 | 503 if response.headers.get("retry-after"):
            return None
        case 429 | 503:
            raise AuthError(codes.UNEXPECTED_FAILURE, "Service currently unavailable due to hook")
        case 400:
            raise AuthError(codes.UNEXPECTED_FAILURE, "Invalid payload sent to hook")
        case 401:
            raise AuthError(codes.UNEXPECTED_FAILURE, "Hook requires authorization token")
        case status:
            raise AuthError(
                codes.UNEXPECTED_FAILURE, f"Unexpected status code returned from hook: {status}"
            )
    media_type = response.headers.get("content-type", "")
    if not media_type and response.status_code == 204:
        return {}
    if media_type.partition(";")[0].strip().lower() != "application/json":
        raise AuthError(
            codes.HOOK_CONTENT_TYPE, f"Invalid JSON response. Received content-type: {media_type}"
        )
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_RESPONSE_BYTES:
            raise AuthError(
                codes.HOOK_PAYLOAD_TOO_LARGE,
                f"Payload size exceeded size limit of {MAX_RESPONSE_BYTES} bytes",
            )
    try:
        return _object(target, orjson.loads(content))
    except orjson.JSONDecodeError:
        raise AuthError(codes.UNEXPECTED_FAILURE, "Error unmarshaling JSON output.") from None


def signed_headers(secrets: tuple[bytes, ...], content: bytes) -> dict[str, str]:
    """Return the headers of a request, with a signature by each secret."""
    message_id, timestamp = str(uuid4()), str(int(time()))
    signed = f"{message_id}.{timestamp}.".encode() + content
    signatures = [base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": ", ".join(f"v1,{signature}" for signature in signatures),
        "accept-encoding": "identity",
    }


def _object(target: HookTarget, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        logger.error("The hook %s returned no JSON object", target.name)
        raise AuthError(codes.UNEXPECTED_FAILURE, "Error unmarshaling JSON output.")
    return value


def _check_error(response: Mapping[str, Any]) -> None:
    error = response.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    if isinstance(error, dict) and message:
        status = error.get("http_code")
        if not isinstance(status, int) or not 400 <= status <= 599:
            status = 500
        raise HookRejection(str(message), status)


def _failed(target: HookTarget) -> AuthError:
    return AuthError(codes.UNEXPECTED_FAILURE, f"Error running hook URI: {target.name}")
