"""Error responses in the OpenAPI document: `application/problem+json`, with their codes."""

from collections import defaultdict
from typing import Any, NamedTuple

from amphibase.errors import (
    AmphibaseError,
    Conflict,
    Forbidden,
    ForeignKeyViolation,
    InvalidCursor,
    InvalidRequest,
    InvalidToken,
    InvalidValue,
    MissingValue,
    NotFound,
    PayloadTooLarge,
    SessionEnded,
    StaleVersion,
    Unauthenticated,
    Unavailable,
    UserBanned,
)
from amphibase.http.schemas import Problem

Responses = dict[int | str, dict[str, Any]]


class ProblemCode(NamedTuple):
    """An error of a request that no exception of `errors.py` stands for."""

    status: int
    code: str


ValidationError = ProblemCode(422, "validation_error")
UnsupportedBody = ProblemCode(415, "unsupported_media_type")

ANY_ROUTE = (InvalidToken, SessionEnded, UserBanned, ValidationError, Unavailable)
READ = (InvalidRequest, InvalidCursor)
WRITE = (
    Unauthenticated,
    Forbidden,
    Conflict,
    ForeignKeyViolation,
    InvalidValue,
    MissingValue,
    PayloadTooLarge,
    UnsupportedBody,
)
CHANGE = (NotFound, StaleVersion)
DELETE = (Unauthenticated, Forbidden, NotFound, ForeignKeyViolation, StaleVersion)

CONTENT = {"application/problem+json": {"schema": Problem.model_json_schema()}}
OTHER_PROBLEMS: Responses = {"default": {"description": "Any other error", "content": CONTENT}}


def problem_responses(*errors: type[AmphibaseError] | ProblemCode) -> Responses:
    """Describe error responses for the `responses=` of a route.

    Args:
        errors: what the route may raise.

    Returns:
        One response for each status, whose description lists the codes.
    """
    codes: dict[int, set[str]] = defaultdict(set)
    for error in errors:
        codes[error.status].add(error.code)
    return {
        status: {
            "description": ", ".join(f"`{code}`" for code in sorted(names)),
            "content": CONTENT,
        }
        for status, names in sorted(codes.items())
    }
