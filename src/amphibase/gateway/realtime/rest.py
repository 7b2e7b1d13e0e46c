"""Realtime over HTTP: broadcasts without a WebSocket."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from amphibase.errors import Unavailable
from amphibase.gateway.realtime.authorization import BROADCAST
from amphibase.gateway.realtime.context import RealtimeContext
from amphibase.gateway.realtime.errors import (
    DatabaseUnreachable,
    InvalidRealtimeToken,
    MissingApiKey,
    TooManyMessages,
)
from amphibase.gateway.realtime.frames import (
    MAX_NAME_BYTES,
    Push,
    UserBroadcast,
    UserBroadcastPush,
    is_too_long,
)
from amphibase.gateway.realtime.join import TOPIC_PREFIX
from amphibase.gateway.realtime.nesting import TooDeep, read_json
from amphibase.gateway.realtime.tokens import ChannelCaller, authenticate

BROADCAST_PATH = "/api/broadcast/"
JSON, BYTES = "application/json", "application/octet-stream"
BLANK, INVALID = "can't be blank", "is invalid"
TOO_LONG = f"should be at most {MAX_NAME_BYTES} byte(s)"
TOO_LARGE = "Payload size exceeds tenant limit"
UNSUPPORTED = f"Unsupported Media Type. Use {JSON} or {BYTES}"
RATE_EXCEEDED = "You have exceeded your rate limit"

MAX_MESSAGES = 1000
"""In one request, whose body is limited too."""


def json_response(content: Any, status: int) -> Response:
    """Return a response of JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json; charset=utf-8")


def token_of(headers: Mapping[str, str]) -> str | None:
    """Return the token of a request or handshake; None where there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return headers.get("x-api-key") or headers.get("apikey")


async def broadcast(context: RealtimeContext, request: Request) -> Response:
    """Send several messages, as supabase-js does from a channel that is not joined."""
    caller = _caller(context, request)
    if isinstance(caller, Response):
        return caller
    body = await request.body()
    try:
        content = read_json(body) if body else None
    except TooDeep as error:
        return json_response({"errors": {"messages": [str(error)]}}, 422)
    except ValueError:
        return json_response({"message": "bad request"}, 400)
    messages = content.get("messages") if isinstance(content, dict) else None
    if messages is None or messages == []:
        return json_response({"errors": {"messages": [BLANK]}}, 422)
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        return json_response({"errors": {"messages": [INVALID]}}, 422)
    if len(messages) > MAX_MESSAGES:
        message = "Too many messages to broadcast, please reduce the batch size"
        return json_response({"message": message}, 429)
    errors = [_errors(context, each) for each in messages]
    if any(errors):
        return json_response({"errors": {"messages": errors}}, 422)
    try:
        for message in messages:
            await _send(context, caller, message)
    except TooManyMessages:
        return json_response({"message": RATE_EXCEEDED}, 429)
    return Response(status_code=202)


async def broadcast_one(context: RealtimeContext, request: Request) -> Response:
    """Send one message, whose payload is the body."""
    caller = _caller(context, request)
    if isinstance(caller, Response):
        return caller
    names = _names(request)
    if names is None:
        return json_response({"message": "Not Found"}, 404)
    topic, event = names
    if is_too_long(TOPIC_PREFIX + topic) or is_too_long(event):
        return json_response({"message": f"A topic and an event {TOO_LONG}"}, 422)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (JSON, BYTES):
        return json_response({"error": UNSUPPORTED}, 415)
    body = await request.body()
    if context.is_too_large(len(body)):
        return json_response({"errors": {"payload": [TOO_LARGE]}}, 422)
    is_json = media_type == JSON
    if is_json:
        try:
            body = _object(body)
        except TooDeep as error:
            return json_response({"message": str(error)}, 422)
        except ValueError:
            return json_response({"message": "bad request"}, 400)
    content = UserBroadcast(event, b"", is_json=is_json, content=body)
    push = UserBroadcastPush(TOPIC_PREFIX + topic, content)
    is_private = request.query_params.get("private") == "true"
    try:
        if not await _deliver(context, caller, topic, push, is_private=is_private):
            return json_response({"message": "Unauthorized"}, 403)
    except TooManyMessages:
        return json_response({"message": RATE_EXCEEDED}, 429)
    return Response(status_code=202)


def _names(request: Request) -> tuple[str, str] | None:
    """Return the topic and the event of a path; None where it is another.

    Each is decoded once, after the path is divided: a slash in a name comes as `%2F`.
    """
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    _, _, path = raw.decode("latin-1").partition(BROADCAST_PATH)
    match path.split("/"):
        case [topic, "events", event] if topic and event:
            return unquote(topic), unquote(event)
    return None


def _object(body: bytes) -> bytes:
    """Return the object that a body is, or that it stands in as upstream (Plug) has it.

    Raises:
        TooDeep, ValueError: it is nested too deep, or no JSON.
    """
    if not body:
        return b"{}"
    return body if isinstance(read_json(body), dict) else b'{"_json":' + body + b"}"


def _caller(context: RealtimeContext, request: Request) -> ChannelCaller | Response:
    try:
        return authenticate(context.tokens, token_of(request.headers))
    except (InvalidRealtimeToken, MissingApiKey):
        return json_response({"message": "Unauthorized"}, 401)


def _errors(context: RealtimeContext, message: dict[str, Any]) -> dict[str, list[str]]:
    """Return what is wrong with a message, by field."""
    errors: dict[str, list[str]] = {}
    for name, kind in (("topic", str), ("event", str), ("payload", dict)):
        value = message.get(name)
        if value is None or (kind is str and isinstance(value, str) and not value.strip()):
            errors[name] = [BLANK]
        elif not isinstance(value, kind):
            errors[name] = [INVALID]
        elif isinstance(value, str) and is_too_long(
            TOPIC_PREFIX + value if name == "topic" else value
        ):
            errors[name] = [TOO_LONG]
    if not isinstance(message.get("id"), str | None):
        errors["id"] = [INVALID]
    if _is_private(message) is None:
        errors["private"] = [INVALID]
    if not errors and context.is_too_large(len(orjson.dumps(message["payload"]))):
        errors["payload"] = [TOO_LARGE]
    return errors


async def _send(context: RealtimeContext, caller: ChannelCaller, message: dict[str, Any]) -> None:
    topic = message["topic"]
    push = _push(topic, message["event"], message["payload"], message.get("id"))
    await _deliver(context, caller, topic, push, is_private=bool(_is_private(message)))


def _is_private(message: dict[str, Any]) -> bool | None:
    """Return whether a message is for a private channel; None where it does not say so rightly."""
    match message.get("private"):
        case bool(flag):
            return flag
        case None | "false" | "0":
            return False
        case "true" | "1":
            return True
    return None


def _push(topic: str, event: str, payload: Any, id: Any = None) -> Push:
    content = {"type": "broadcast", "event": event, "payload": payload}
    if id is not None:
        content["meta"] = {"id": id}
    return Push(TOPIC_PREFIX + topic, "broadcast", content)


async def _deliver(
    context: RealtimeContext, caller: ChannelCaller, topic: str, push: Push, *, is_private: bool
) -> bool:
    """Send a message to a topic; return whether the caller may."""
    if is_private:
        try:
            if not await context.authorization.may_write(caller, topic, BROADCAST):
                return False
        except Unavailable:
            raise DatabaseUnreachable from None
    joined = context.topics.find(topic, is_private=is_private)
    context.broadcast(push, joined.receivers() if joined else ())
    return True
