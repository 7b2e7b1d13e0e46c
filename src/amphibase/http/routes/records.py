"""Generated routes for the rows of a model: list with filters, read, add, change, delete."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response, WebSocket
from fastapi.params import Depends
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from sqlalchemy import inspect as inspect_model

from amphibase.access.conditions import Never
from amphibase.errors import (
    ConfigurationError,
    InvalidRequest,
    NotFound,
    StaleVersion,
    TooManyRequests,
)
from amphibase.http.dependencies import amphibase_of, caller_of, public_path
from amphibase.http.etags import parse_etags
from amphibase.http.event_stream import EventStreamResponse
from amphibase.http.problem_responses import (
    ANY_ROUTE,
    CHANGE,
    DELETE,
    READ,
    WRITE,
    problem_responses,
)
from amphibase.http.routes.fast_path import FastPathRouter, NotOnFastPath
from amphibase.http.routes.record_parameters import (
    AGGREGATE_DESCRIPTION,
    CHANGES_DESCRIPTION,
    IF_MATCH,
    LIST_DESCRIPTION,
    aggregate_parameters,
    change_parameters,
    list_parameters,
)
from amphibase.http.routes.route import RecordRoute, built_in_router
from amphibase.http.row_serializer import JSON, RowSerializer, key_of
from amphibase.http.schemas import Groups, ListOf
from amphibase.models import Versioned, keeps_changes
from amphibase.records.aggregate_query import read_aggregate_query
from amphibase.records.derived import changes, create_schema, read_model, update_schema
from amphibase.records.fields import Field
from amphibase.records.filters.expressions import invalid_parameter
from amphibase.records.listing import read_listing
from amphibase.records.model_access import access_of
from amphibase.records.validators import construct

MAX_VERSION = 2**31 - 1
MAX_ETAGS = 10
"""Of one `If-Match`: each is another try to write."""


@dataclass(frozen=True)
class _Records:
    """What the routes of a model have in common.

    Attributes:
        key: of its rows.
        name: of the rows, in the documentation.
        repository: the dependency that gives a request its `Repository`.
    """

    model: type[Any]
    key: Field
    name: str
    router: FastPathRouter
    repository: Any

    @cached_property
    def rows(self) -> Any:
        """The type of an argument that is the repository."""
        return Annotated[Any, self.repository]

    @cached_property
    def id(self) -> Any:
        """The type of an argument that is a row's key."""
        return Annotated[self.key.input, Path(description=f"The {self.key.key} of the row")]

    @cached_property
    def read(self) -> Any:
        """The model of a row in a response."""
        return read_model(self.model)

    @cached_property
    def serializer(self) -> RowSerializer:
        return RowSerializer(self.model)

    @property
    def is_versioned(self) -> bool:
        """Whether the rows have a version, which becomes a header."""
        return issubclass(self.model, Versioned)

    @property
    def if_match(self) -> dict[str, Any] | None:
        return {"parameters": [IF_MATCH]} if self.is_versioned else None

    async def rows_of(self, request: Request) -> Any:
        """Return the repository of a request that no dependency gave one."""
        return await self.repository.dependency(request, await caller_of(request))


def routes(
    model: type[Any],
    repository: Any,
    change_feed: Any,
    *,
    prefix: str | None = None,
    tags: Sequence[str] | None = None,
    dependencies: Sequence[Depends] = (),
    aggregates: bool = False,
) -> APIRouter:
    """Return the routes of a model.

    Args:
        repository: the dependency that gives a request its `Repository`.
        change_feed: the dependency that gives a request its `ChangeFeed`; None for a model that
            keeps no changes.
        prefix: where the routes are; `/` and the name of the table by default.
        tags: of the documentation; the name of the table by default.
        dependencies: dependencies of every route, such as a rate limit.
        aggregates: whether there is a route for counts and sums, whose cost grows with the rows.

    Raises:
        NotSupported: the key has several columns.
        ConfigurationError: only the service may use the model.
    """
    access = access_of(model)
    reads, writes = not isinstance(access.read, Never), access.is_writable
    if not (reads or writes):
        raise ConfigurationError(
            f"{model.__name__} is for the service alone, so it can have no route; declare its "
            "access, for example __access__ = Access(read=authenticated)"
        )
    table = inspect_model(model).local_table
    name = getattr(table, "name", model.__name__.lower())
    own = built_in_router(f"/{name}" if prefix is None else prefix, name, RecordRoute)
    if tags is not None:
        own.tags = list(tags)
    own.dependencies = list(dependencies)
    records = _Records(model, key_of(model), name, own, repository)
    if reads:
        _add_list(records)
        if aggregates:  # before the rows, whose keys this path might be
            _add_aggregates(records)
        if keeps_changes(model):  # before the rows, too
            _add_changes(records, change_feed)
        _add_get(records)
    if writes:
        _add_post(records)
    if reads and writes:
        _add_patch(records)
        _add_delete(records)
    return own


def _add_list(records: _Records) -> None:
    model, serializer = records.model, records.serializer
    read: Any = records.read

    @records.router.get(
        "",
        response_model=ListOf[read],
        summary=f"List of {records.name}",
        description=LIST_DESCRIPTION,
        responses=problem_responses(*ANY_ROUTE, *READ),
        openapi_extra={"parameters": list_parameters(model)},
    )
    @_typed(rows=records.rows)
    async def list_rows(request: Request, rows: Any) -> Any:
        parameters, most = request.query_params.multi_items(), _max_relations(request)
        listing = read_listing(model, parameters, max_relations=most)
        source = rows.json_rows(serializer.names) or rows
        page = await source.page(
            *listing.where,
            order_by=listing.order_by,
            cursor=listing.cursor,
            limit=listing.limit,
        )
        return Response(serializer.page(page), media_type=JSON)

    @records.router.fast_path(list_rows)
    async def list_on_fast_path(request: Request) -> Response:
        response: Response = await list_rows(request, await records.rows_of(request))
        return response


def _add_aggregates(records: _Records) -> None:
    model = records.model

    @records.router.get(
        "/aggregate",
        response_model=Groups,
        summary=f"Aggregates of {records.name}",
        description=AGGREGATE_DESCRIPTION,
        responses=problem_responses(*ANY_ROUTE, InvalidRequest),
        openapi_extra={"parameters": aggregate_parameters(model)},
    )
    @_typed(rows=records.rows)
    async def aggregate_rows(request: Request, rows: Any) -> Any:
        parameters, most = request.query_params.multi_items(), _max_relations(request)
        query = read_aggregate_query(model, parameters, max_relations=most)
        groups = await rows.aggregate(
            *query.functions, by=query.by, where=query.where, limit=query.limit
        )
        return Response(to_json({"items": query.items(groups)}), media_type=JSON)

    @records.router.fast_path(aggregate_rows)
    async def aggregate_on_fast_path(request: Request) -> Response:
        response: Response = await aggregate_rows(request, await records.rows_of(request))
        return response


def _add_changes(records: _Records, change_feed: Any) -> None:
    @records.router.get(
        "/changes",
        response_class=EventStreamResponse,
        summary=f"Changes of {records.name}",
        description=CHANGES_DESCRIPTION,
        responses=problem_responses(*ANY_ROUTE, *READ, TooManyRequests),
        openapi_extra={"parameters": change_parameters(records.model)},
    )
    @_typed(feed=Annotated[Any, change_feed])
    async def stream_changes(feed: Any) -> Any:
        return feed.response()

    @records.router.fast_path(stream_changes)
    async def stream_changes_on_fast_path(request: Request) -> Response:
        feed = await change_feed.dependency(request, await caller_of(request))
        response: Response = feed.response()
        return response

    @records.router.websocket("/changes")
    @_typed(feed=Annotated[Any, change_feed])
    async def send_changes(websocket: WebSocket, feed: Any) -> None:
        await feed.serve(websocket)


def _add_get(records: _Records) -> None:
    serializer, is_versioned = records.serializer, records.is_versioned
    ids: TypeAdapter[Any] = TypeAdapter(records.key.input)

    @records.router.get(
        "/{id}",
        response_model=records.read,
        responses=problem_responses(*ANY_ROUTE, NotFound),
        summary=f"One of {records.name}",
    )
    @_typed(id=records.id, rows=records.rows)
    async def get_row(id: Any, rows: Any) -> Any:
        json_rows = None if is_versioned else rows.json_rows(serializer.names)
        row = await (json_rows or rows).get(id)
        if row is None:
            raise NotFound
        return serializer.response(row)

    @records.router.fast_path(get_row)
    async def get_on_fast_path(request: Request) -> Response:
        try:
            id = ids.validate_python(request.path_params["id"])
        except ValidationError:
            raise NotOnFastPath from None
        response: Response = await get_row(id, await records.rows_of(request))
        return response


def _add_post(records: _Records) -> None:
    model, serializer = records.model, records.serializer

    @records.router.post(
        "",
        status_code=201,
        response_model=records.read,
        responses=problem_responses(*ANY_ROUTE, *WRITE),
        summary=f"Add to {records.name}",
    )
    @_typed(body=create_schema(model), rows=records.rows)
    async def add_row(body: Any, request: Request, rows: Any) -> Any:
        row = await rows.add(construct(model, changes(body)))
        if not serializer.can_write(row):
            return Response(status_code=201)
        response = serializer.response(row, 201)
        response.headers["Location"] = f"{public_path(request)}/{serializer.path_key(row)}"
        return response


def _add_patch(records: _Records) -> None:
    serializer, is_versioned = records.serializer, records.is_versioned

    @records.router.patch(
        "/{id}",
        response_model=records.read,
        responses=problem_responses(*ANY_ROUTE, *WRITE, *CHANGE),
        summary=f"Change one of {records.name}",
        openapi_extra=records.if_match,
    )
    @_typed(id=records.id, body=update_schema(records.model), rows=records.rows)
    async def change_row(id: Any, body: Any, request: Request, rows: Any) -> Any:
        async def write(**version: int) -> Any:
            return await rows.update(id, **version, **changes(body))

        row = await _at_one_version(_versions(request, is_versioned), write)
        if row is None:
            raise NotFound
        return serializer.response(row)


def _add_delete(records: _Records) -> None:
    is_versioned = records.is_versioned

    @records.router.delete(
        "/{id}",
        status_code=204,
        responses=problem_responses(*ANY_ROUTE, *DELETE),
        summary=f"Delete one of {records.name}",
        openapi_extra=records.if_match,
    )
    @_typed(id=records.id, rows=records.rows)
    async def delete_row(id: Any, request: Request, rows: Any) -> None:
        async def write(**version: int) -> bool:
            deleted: bool = await rows.delete(id, **version)
            return deleted

        if not await _at_one_version(_versions(request, is_versioned), write):
            raise NotFound


def _max_relations(request: Request) -> int:
    return amphibase_of(request).settings.max_related_filters


def _typed(**types: Any) -> Callable[[Any], Any]:
    """Give arguments types that are known only now, for FastAPI to read."""

    def give(handler: Any) -> Any:
        handler.__annotations__.update(types)
        return handler

    return give


def _versions(request: Request, is_versioned: bool) -> list[dict[str, int]]:
    """Return the versions of `If-Match`, each as the arguments of a write; any version without."""
    if not is_versioned:
        return [{}]
    headers = request.headers.getlist("if-match")
    header = ",".join(headers).strip()
    if not headers or header == "*":
        return [{}]
    try:
        tags = parse_etags(header)
    except ValueError:
        tags = []
    if not tags or len(tags) > MAX_ETAGS or not all(map(_is_version, tags)):
        raise invalid_parameter(
            "If-Match", 'must be the ETag of the row, such as "3", or *', "invalid_version"
        )
    if any(int(tag) > MAX_VERSION for tag in tags):
        raise invalid_parameter("If-Match", "no row has such a version", "invalid_version")
    return [{"if_version": int(tag)} for tag in tags]


def _is_version(tag: str) -> bool:
    return tag.isascii() and tag.isdigit() and len(tag) <= 10


async def _at_one_version(
    versions: list[dict[str, int]], write: Callable[..., Awaitable[Any]]
) -> Any:
    """Write to a row that has one of the versions. Raises StaleVersion where it has another."""
    *others, last = versions
    for version in others:
        with suppress(StaleVersion):
            return await write(**version)
    return await write(**last)
