"""Generated routes for the rows of a model: list with filters, read, add, change, delete."""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response
from fastapi.params import Depends
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import inspect as inspect_model
from typing_extensions import TypedDict

from amphibase.access.conditions import Condition, Never
from amphibase.backend import MAX_LIMIT, Page
from amphibase.errors import (
    ConfigurationError,
    NotFound,
    NotSupported,
    StaleVersion,
    UnreadableValue,
)
from amphibase.http.dependencies import caller_of, public_path
from amphibase.http.etags import parse_etags
from amphibase.http.problem_responses import (
    ANY_ROUTE,
    CHANGE,
    DELETE,
    READ,
    WRITE,
    problem_responses,
)
from amphibase.http.routes.fast_path import NotOnFastPath
from amphibase.http.routes.route import RecordRoute, router
from amphibase.http.schemas import ListOf
from amphibase.models import Versioned
from amphibase.records.cursors import MAX_CURSOR_CHARACTERS
from amphibase.records.derived import changes, create_schema, read_model, update_schema
from amphibase.records.fields import Field, fields_of
from amphibase.records.filters.expressions import filterable_columns, invalid_parameter
from amphibase.records.listing import DEFAULT_LIMIT, read_listing
from amphibase.records.model_access import access_of
from amphibase.records.validators import construct

MAX_VERSION = 2**31 - 1
MAX_ETAGS = 10
"""Of one `If-Match`: each is another try to write."""

JSON = "application/json"


def routes(
    model: type[Any],
    repository: Any,
    *,
    prefix: str | None = None,
    tags: Sequence[str] | None = None,
    dependencies: Sequence[Depends] = (),
) -> APIRouter:
    """Return the routes of a model.

    Args:
        repository: the dependency that gives a request its `Repository`.
        prefix: where the routes are; `/` and the name of the table by default.
        tags: of the documentation; the name of the table by default.
        dependencies: dependencies of every route, such as a rate limit.

    Raises:
        NotSupported: the key has several columns.
        ConfigurationError: only the service may use the model.
    """
    key = _key(model)
    access = access_of(model)
    reads, writes = _is_open(access.read), access.is_writable
    if not (reads or writes):
        raise ConfigurationError(
            f"{model.__name__} is for the service alone, so it can have no route; declare its "
            "access, for example __access__ = Access(read=authenticated)"
        )
    table = inspect_model(model).local_table
    name = getattr(table, "name", model.__name__.lower())
    records = router(f"/{name}" if prefix is None else prefix, name, RecordRoute)
    if tags is not None:
        records.tags = list(tags)
    records.dependencies = list(dependencies)
    rows = Annotated[Any, repository]
    id: Any = Annotated[key.input, Path(description=f"The {key.key} of the row")]
    serializer = RowSerializer(model)
    versioned = issubclass(model, Versioned)  # whose version becomes a header
    read: Any = read_model(model)

    ids: TypeAdapter[Any] = TypeAdapter(key.input)

    async def rows_of(request: Request) -> Any:
        return await repository.dependency(request, await caller_of(request))

    if reads:

        @records.get(
            "",
            response_model=ListOf[read],
            summary=f"List of {name}",
            description=LIST_DESCRIPTION,
            responses=problem_responses(*ANY_ROUTE, *READ),
            openapi_extra={"parameters": _list_parameters(model)},
        )
        @_typed(rows=rows)
        async def list_rows(request: Request, rows: Any) -> Any:
            listing = read_listing(model, request.query_params.multi_items())
            source = rows.json_rows(serializer.names) or rows
            page = await source.page(
                *listing.where,
                order_by=listing.order_by,
                cursor=listing.cursor,
                limit=listing.limit,
            )
            return Response(serializer.page(page), media_type=JSON)

        @records.fast_path(list_rows)
        async def list_leanly(request: Request) -> Response:
            response: Response = await list_rows(request, await rows_of(request))
            return response

        @records.get(
            "/{id}",
            response_model=read,
            responses=problem_responses(*ANY_ROUTE, NotFound),
            summary=f"One of {name}",
        )
        @_typed(id=id, rows=rows)
        async def get_row(id: Any, rows: Any) -> Any:
            json_rows = None if versioned else rows.json_rows(serializer.names)
            row = await (json_rows or rows).get(id)
            if row is None:
                raise NotFound
            return serializer.response(row)

        @records.fast_path(get_row)
        async def get_leanly(request: Request) -> Response:
            try:
                id = ids.validate_python(request.path_params["id"])
            except ValidationError:
                raise NotOnFastPath from None
            response: Response = await get_row(id, await rows_of(request))
            return response

    if writes:

        @records.post(
            "",
            status_code=201,
            response_model=read,
            responses=problem_responses(*ANY_ROUTE, *WRITE),
            summary=f"Add to {name}",
        )
        @_typed(body=create_schema(model), rows=rows)
        async def add_row(body: Any, request: Request, rows: Any) -> Any:
            row = await rows.add(construct(model, changes(body)))
            response = serializer.response(row, 201)
            response.headers["Location"] = f"{public_path(request)}/{serializer.key_of(row)}"
            return response

    if reads and writes:
        if_match = {"parameters": [IF_MATCH]} if versioned else None

        def versions(request: Request) -> list[dict[str, int]]:
            return _if_versions(request) if versioned else [{}]

        @records.patch(
            "/{id}",
            response_model=read,
            responses=problem_responses(*ANY_ROUTE, *WRITE, *CHANGE),
            summary=f"Change one of {name}",
            openapi_extra=if_match,
        )
        @_typed(id=id, body=update_schema(model), rows=rows)
        async def change_row(id: Any, body: Any, request: Request, rows: Any) -> Any:
            async def write(**version: int) -> Any:
                return await rows.update(id, **version, **changes(body))

            row = await _at_one_version(versions(request), write)
            if row is None:
                raise NotFound
            return serializer.response(row)

        @records.delete(
            "/{id}",
            status_code=204,
            responses=problem_responses(*ANY_ROUTE, *DELETE),
            summary=f"Delete one of {name}",
            openapi_extra=if_match,
        )
        @_typed(id=id, rows=rows)
        async def delete_row(id: Any, request: Request, rows: Any) -> None:
            async def write(**version: int) -> bool:
                deleted: bool = await rows.delete(id, **version)
                return deleted

            if not await _at_one_version(versions(request), write):
                raise NotFound

    return records


class RowSerializer:
    """Writes rows as JSON: the one place where rows become bytes."""

    def __init__(self, model: type[Any]) -> None:
        shown = [field for field in fields_of(model).values() if not field.hidden]
        self.names = tuple(field.key for field in shown)
        self._key = _key(model).key
        self._floats = [field.key for field in shown if issubclass(field.python_type, float)]
        self._key_type: TypeAdapter[Any] = TypeAdapter(_key(model).output)
        self._versioned = issubclass(model, Versioned)
        # A typed dict is written from what an object holds without making a model of it first.
        row: Any = TypedDict(  # type: ignore[misc]
            "row",
            {field.key: field.output | None if field.nullable else field.output for field in shown},
        )
        page: Any = TypedDict("page", {"items": list[row], "next_cursor": str | None})
        self._row: TypeAdapter[Any] = TypeAdapter(row)
        self._page: TypeAdapter[Any] = TypeAdapter(page)

    def row(self, row: Any) -> bytes:
        """Return one row as JSON, if it is not that already."""
        if isinstance(row, str):
            return row.encode()
        return self._row.dump_json(self._values(row), warnings=False)

    def page(self, page: Page[Any]) -> bytes:
        """Return a part of a list as JSON."""
        if page.items and isinstance(page.items[0], str):
            cursor = "null" if page.next_cursor is None else f'"{page.next_cursor}"'
            # Joined as bytes: as text, a large page would be in memory once more.
            start, end = b'{"items":[', f'],"next_cursor":{cursor}}}'.encode()
            return start + b",".join([item.encode() for item in page.items]) + end
        items = [self._values(row) for row in page.items]
        content = {"items": items, "next_cursor": page.next_cursor}
        return self._page.dump_json(content, warnings=False)

    def response(self, row: Any, status: int = 200) -> Response:
        """Return one row as a response, with its version."""
        response = Response(self.row(row), status, media_type=JSON)
        if self._versioned:
            response.headers["ETag"] = f'"{row.version}"'
        return response

    def key_of(self, row: Any) -> str:
        """Return the row's key, as it stands in a path."""
        key = self._key_type.dump_python(getattr(row, self._key), mode="json")
        return quote(str(key), safe="")

    def _values(self, row: Any) -> dict[str, Any]:
        held = row.__dict__
        for name in self._floats:
            value = held[name]
            if value is not None and not math.isfinite(value):
                raise UnreadableValue(
                    f"{name} of {type(row).__name__} {held[self._key]} holds {value}, which JSON "
                    "cannot"
                )
        return {key: held[key] for key in self.names}


def _is_open(condition: Condition) -> bool:
    return not isinstance(condition, Never)


def _key(model: type[Any]) -> Field:
    columns = inspect_model(model).primary_key
    if len(columns) > 1:
        names = ", ".join(column.name for column in columns)
        raise NotSupported(
            f"{model.__name__} has a key of several columns ({names}); a router needs a key of "
            "one. Write its routes with db.repository(), whose methods take the key as a tuple"
        )
    return next(field for field in fields_of(model).values() if field.column is columns[0])


def _typed(**types: Any) -> Callable[[Any], Any]:
    """Give arguments types that are known only now, for FastAPI to read."""

    def give(handler: Any) -> Any:
        handler.__annotations__.update(types)
        return handler

    return give


def _if_versions(request: Request) -> list[dict[str, int]]:
    """Return the versions of `If-Match`, each as the arguments of a write; any version without."""
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


LIST_DESCRIPTION = """Newest first unless `order` says otherwise.

Filters are columns with an operator and a value: `stars=gt.3`; `not.` before the operator turns it
round; a column may appear several times. Operators: `eq`, `neq`, `gt`, `gte`, `lt`, `lte`, `like`
and `ilike` (`*` stands for any text), `in.(a,b,"c,d")`, `is.null`, `is.not_null`, `is.true`,
`is.false`."""

IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": 'The version that the change is based on, as in the ETag: `"3"`. If the row has '
    "another by now, the response is 409.",
    "schema": {"type": "string", "pattern": r'^(\*|(W/)?"[0-9]{1,10}")$'},
}


def _list_parameters(model: type[Any]) -> list[dict[str, Any]]:
    """The documentation of the query string, which is read without FastAPI."""
    columns: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "query",
            "description": f"Operators: {', '.join(column.operators)}",
            "schema": {"type": "array", "items": {"type": "string"}},
            "explode": True,
        }
        for name, column in filterable_columns(model).items()
        if name not in ("order", "limit", "cursor", "and", "or")
    ]
    ordered = next((name for name, column in filterable_columns(model).items()), "id")
    logic = [
        {
            "name": name,
            "in": "query",
            "description": f"{meaning} hold: `(stars.gt.3,title.eq.tea,and(…))`",
            "schema": {"type": "array", "items": {"type": "string", "pattern": r"^\(.*\)$"}},
            "explode": True,
        }
        for name, meaning in (("and", "All"), ("or", "Some"))
    ]
    return [
        *columns,
        *logic,
        {
            "name": "order",
            "in": "query",
            "description": "Columns, each with `.desc`, `.nullsfirst` or `.nullslast` as wanted",
            "schema": {"type": "string"},
            "example": f"{ordered}.desc",
        },
        {
            "name": "limit",
            "in": "query",
            "schema": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LIMIT,
                "default": DEFAULT_LIMIT,
            },
        },
        {
            "name": "cursor",
            "in": "query",
            "description": "`next_cursor` of the part before, with the same filters and order",
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_CURSOR_CHARACTERS},
        },
    ]
