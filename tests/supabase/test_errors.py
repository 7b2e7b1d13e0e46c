"""What the errors of each service mean, by their codes, in the shapes of all versions."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from amphibase import ANONYMOUS, SERVICE, Caller, ConfigurationError
from amphibase import errors as ours
from amphibase.supabase.errors import EmailsTooFrequent, raise_for_response

USER = Caller("authenticated", uuid4(), token="t")
DUPLICATE = {"code": "23505", "details": "Key (a, b)=(1, 2) exists", "message": 'constraint "u"'}


def error_of(
    service: str, status: int, body: Any, caller: Caller = USER, retry_after: str = ""
) -> ours.AmphibaseError:
    content = {"json": body} if isinstance(body, dict) else {"text": body}
    with pytest.raises(ours.AmphibaseError) as caught:
        raise_for_response(
            service, httpx.Response(status, headers={"Retry-After": retry_after}, **content), caller
        )
    return caught.value


@pytest.mark.parametrize(
    ("service", "status", "body", "kind"),
    [
        ("auth", 400, {"code": "invalid_credentials", "message": "x"}, ours.InvalidCredentials),
        ("auth", 400, {"code": 400, "error_code": "user_banned", "msg": "x"}, ours.UserBanned),
        ("auth", 422, {"code": 422, "error_code": "weak_password"}, ours.WeakPassword),
        ("auth", 403, {"code": "session_not_found"}, ours.SessionEnded),
        ("auth", 400, {"error": "invalid_request", "error_description": "x"}, ours.InvalidRequest),
        ("auth", 429, {"code": "over_email_send_rate_limit"}, EmailsTooFrequent),
        ("auth", 429, "<html>", ours.TooManyRequests),
        ("auth", 500, {"code": "unexpected_failure"}, ours.Unavailable),
        ("auth", 402, "the project is not paid for", ours.Unavailable),
        ("auth", 302, "", ours.Unavailable),
        ("rest", 403, "<html>a firewall's page</html>", ours.Unavailable),
        ("rest", 409, DUPLICATE, ours.Conflict),
        ("rest", 409, {"code": "23503"}, ours.ForeignKeyViolation),
        ("rest", 400, {"code": "22P02"}, ours.InvalidValue),
        ("rest", 403, {"code": "42501"}, ours.Forbidden),
        ("rest", 401, {"code": "PGRST303", "message": "JWT expired"}, ours.InvalidToken),
        ("rest", 404, {"code": "PGRST205", "message": "x"}, ConfigurationError),
        ("rest", 400, {"code": "PGRST102", "message": "x"}, ours.InvalidValue),
        ("rest", 504, {"code": "PGRST003"}, ours.Unavailable),
        ("rest", 500, {"code": "57014"}, ours.Unavailable),
        ("storage", 400, {"statusCode": "404", "error": "not_found"}, ours.NotFound),
        ("storage", 400, {"statusCode": "409", "error": "Duplicate"}, ours.Conflict),
        ("storage", 400, {"statusCode": "413", "code": "EntityTooLarge"}, ours.PayloadTooLarge),
        ("storage", 400, {"statusCode": "403", "code": "AccessDenied"}, ours.Forbidden),
        ("storage", 400, {"statusCode": "503", "code": "SlowDown"}, ours.Unavailable),
        ("storage", 502, "<html>Bad gateway</html>", ours.Unavailable),
        ("rest", 401, {"message": "Invalid API key"}, ConfigurationError),
    ],
    ids=str,
)
def test_an_error_is_told_apart_by_its_code(
    service: str, status: int, body: Any, kind: type[ours.AmphibaseError]
) -> None:
    assert type(error_of(service, status, body)) is kind


@pytest.mark.parametrize("service", ["auth", "rest", "storage"])
def test_a_message_alone_decides_nothing(service: str) -> None:
    body = {"message": "Invalid login credentials: duplicate key, Object not found, JWT expired"}
    assert type(error_of(service, 400, body)) is ours.InvalidRequest


def test_a_conflict_names_the_columns() -> None:
    error = error_of("rest", 409, DUPLICATE)
    assert isinstance(error, ours.Conflict)
    assert (error.columns, error.constraint) == (("a", "b"), "u")


def test_who_has_no_right_is_told_to_sign_in_where_they_have_not() -> None:
    denied = {"code": "42501", "message": "permission denied for table notes"}
    assert type(error_of("rest", 401, denied, ANONYMOUS)) is ours.Unauthenticated
    assert type(error_of("rest", 403, denied, SERVICE)) is ours.Forbidden


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("Wed, 01 Jan 2020 00:00:00 GMT", 0), ("soon", 1), ("", 1)]
)
def test_a_wait_is_in_seconds_or_a_date(value: str, seconds: int) -> None:
    error = error_of("rest", 429, {}, retry_after=value)
    assert isinstance(error, ours.TooManyRequests)
    assert error.retry_after == seconds
