"""From a request to its response, with the catalog as it is at the moment."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple, cast

import orjson

from amphibase.database.pool import Cells
from amphibase.gateway.rest.errors.base import (
    MaxAffected,
    MaxAffectedNeedsSet,
    NotSingular,
    PutDiffers,
)
from amphibase.gateway.rest.errors.database import (
    GROUPING_ERROR,
    INSUFFICIENT_PRIVILEGE,
    DatabaseError,
)
from amphibase.gateway.rest.plan.negotiation import NegotiatedMediaType
from amphibase.gateway.rest.plan.types import Content
from amphibase.gateway.rest.preparation import PreparedRequest, RequestPreparer
from amphibase.gateway.rest.request.lru import MAX_CACHED_CHARACTERS
from amphibase.gateway.rest.request.media_type import CSV, read_media_type
from amphibase.gateway.rest.request.payload import FORM, Payload, read_form, read_payload
from amphibase.gateway.rest.request.preferences import Preferences
from amphibase.gateway.rest.request.query import QueryParams
from amphibase.gateway.rest.request.query_string import read_query
from amphibase.gateway.rest.request.request import ApiRequest, with_arguments, with_range
from amphibase.gateway.rest.response.builders import (
    call_response,
    mutate_response,
    plan_response,
    read_response,
)
from amphibase.gateway.rest.response.response import RestResponse, ResultSet, override, read_result
from amphibase.gateway.rest.response.timings import Timings
from amphibase.gateway.rest.schema.catalog import Catalog
from amphibase.gateway.rest.settings import RestSettings
from amphibase.gateway.rest.sql.cache import CompiledPlan
from amphibase.gateway.rest.sql.statement import compile_cursor, has_cursor, separator_of
from amphibase.gateway.rest.transaction.privileges import permission_hint
from amphibase.gateway.rest.transaction.role import RequestRole
from amphibase.gateway.rest.transaction.run import RoleExecutor, RoleQuery
from amphibase.gateway.rest.transaction.settings import TransactionSettings
from amphibase.gateway.rest.transaction.spool import spool
from amphibase.records.filters.tree import Value

_CONTENTS: Mapping[str, Content] = {
    CSV: "csv", "text/plain": "text", "text/xml": "xml", "application/octet-stream": "binary",
}  # fmt: skip
_VARY = (b"vary", b"Accept, Prefer, Range")
"""On what a response depends beside its URL, for caches, since PostgREST 16."""

_MAX_PREPARED = 1000
_WITH_BODY = ("POST", "PATCH", "PUT")

Check = Callable[[Cells], None]


class RequestHandler:
    """Responds to requests by one state of the database.

    Args:
        catalog: what the database offers.
        executor: runs the statements.
    """

    def __init__(
        self,
        catalog: Catalog,
        settings: RestSettings,
        transaction_settings: TransactionSettings,
        executor: RoleExecutor,
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._executor = executor
        self._prepare = RequestPreparer(catalog, settings, transaction_settings).prepare
        self._prepared = lru_cache(_MAX_PREPARED)(self._prepare)

    async def run(
        self,
        request: ApiRequest,
        role: RequestRole,
        query_string: str,
        body: bytes,
        timings: Timings | None = None,
    ) -> RestResponse:
        """Respond to a request of a table, a view or a function.

        Args:
            timings: counts how long it takes, if that is to be known.

        Raises:
            RestError: the request is invalid, or the database rejects it.
        """
        context = self._read(request, role, query_string, body, timings)
        prepared = context.prepared
        if prepared.negotiated.is_plan:
            result = await self._run(context, None)
            response = plan_response(prepared.negotiated, result)
        elif request.kind == "function":
            response, result = await self._call(context)
        elif request.is_read:
            result = await self._run(context, None)
            response = read_response(
                request,
                query_string,
                prepared.preferences,
                prepared.negotiated,
                result,
                context.offset,
            )
        else:
            response, result = await self._mutate(context)
        if request.names_schema and any(name == b"content-type" for name, _ in response.headers):
            response.add(b"content-profile", request.schema)
        response.headers.append(_VARY)
        override(response, result)
        if response.error is not None:
            response.body = response.error.body(minimal=self._settings.are_errors_minimal)
        if request.method != "HEAD":
            response.headers.append((b"content-length", b"%d" % response.size))
        return response

    def _read(
        self,
        request: ApiRequest,
        role: RequestRole,
        query_string: str,
        body: bytes,
        timings: Timings | None,
    ) -> "RequestContext":
        is_call = request.kind == "function"
        query, values = read_query(query_string, is_call=is_call and request.is_read)
        if request.method == "GET" and "range" in request.headers:
            query, values = with_range(query, values, request.headers["range"])
        payload = content = None
        columns: tuple[str, ...] = ()
        if request.method in _WITH_BODY:
            media_type = read_media_type(request.headers.get("content-type", ""))
            if is_call and media_type.name == FORM:
                query, values = with_arguments(query, values, read_form(body))
            else:
                names = query.columns is not None and request.method != "PUT"
                payload = read_payload(body, media_type, has_columns=names, is_call=is_call)
                content = _CONTENTS.get(media_type.name, "json")
                columns = tuple(sorted(payload.columns or ()))
        is_short = len(query_string) <= MAX_CACHED_CHARACTERS and not columns
        prepare = self._prepared if request.is_cached and is_short else self._prepare
        if timings is not None:
            timings.mark("parse")
        prepared = prepare(request, role, query, columns, content)
        if timings is not None:
            timings.mark("plan")
        return RequestContext(request, role, prepared, query, values, payload, timings)

    async def _mutate(self, context: "RequestContext") -> tuple[RestResponse, ResultSet]:
        preferences, negotiated = context.prepared.preferences, context.prepared.negotiated
        plan = context.prepared.compiled.plan
        is_put = plan.key.action == "put"
        most = None if plan.key.action == "insert" else _most_affected(preferences)
        result = await self._run(context, _has_put if is_put else _check(negotiated, most))
        response = mutate_response(
            plan.key.action,
            preferences,
            negotiated,
            result,
            self._catalog.tables[plan.key.target],
            context.query.on_conflict,
        )
        return response, result

    async def _call(self, context: "RequestContext") -> tuple[RestResponse, ResultSet]:
        preferences, negotiated = context.prepared.preferences, context.prepared.negotiated
        call = context.prepared.compiled.plan.call
        assert call is not None
        most = _most_affected(preferences)
        if most is not None and not call.function.returns.is_set:
            raise MaxAffectedNeedsSet
        result = await self._run(context, _check(negotiated, most))
        return call_response(preferences, negotiated, result, call.function, context.offset), result

    async def _run(self, context: "RequestContext", check: Check | None) -> ResultSet:
        """Run the statement.

        Args:
            check: what has to hold of its row, else nothing is changed.
        """
        preferences, _, compiled, first, isolation, is_read = context.prepared
        estimate = compiled.estimate
        query = RoleQuery(
            compiled.main.bind(context.values, context.body),
            context.role,
            first,
            is_read,
            None if is_read else check,
            not is_read
            and (
                self._settings.rolls_back
                if preferences.end is None
                else preferences.end == "rollback"
            ),
            isolation,
            None if estimate is None else estimate.bind(context.values),
        )
        try:
            row, explained = await self._executor.run(query)
        except DatabaseError as error:
            if error.code == INSUFFICIENT_PRIVILEGE and error.hint is None:
                error.hint = await permission_hint(
                    self._executor.pool, compiled.plan, context.role.name, error.message
                )
            elif error.code == GROUPING_ERROR:
                error.message = compiled.plan.read.labelled(error.message)
            raise
        if context.timings is not None:
            context.timings.mark("transaction")
        if compiled.plan.key.media.explain is not None:
            return ResultSet(None, 1, row[0] or b"")
        if is_read and check is not None:
            check(row)
        result = read_result(row)
        if result.is_too_large and has_cursor(compiled.plan):
            cursor = compile_cursor(compiled.plan).bind(context.values, context.body)
            query = query._replace(call=cursor, estimate=None, isolation="repeatable read")
            spooled = await spool(self._executor.pool, query, separator_of(compiled.plan))
            result = result._replace(spooled=spooled, rows=spooled.rows)
        if explained is None:
            return result
        total = self._total(compiled, result.total, explained[0] or b"[]")
        return result._replace(total=total)

    def _total(self, compiled: CompiledPlan, counted: int | None, explained: bytes) -> int | None:
        expected = int(orjson.loads(explained)[0]["Plan"]["Plan Rows"])
        if compiled.plan.key.count == "planned" or counted is None:
            return expected
        most = self._settings.db_max_rows
        return counted if most is not None and counted <= most else max(expected, counted)


class RequestContext(NamedTuple):
    """One request, read."""

    request: ApiRequest
    role: RequestRole
    prepared: PreparedRequest
    query: QueryParams
    values: list[Value]
    payload: Payload | None
    timings: Timings | None

    @property
    def body(self) -> str | bytes | None:
        return None if self.payload is None else self.payload.text

    @property
    def offset(self) -> int:
        """The position of the first row, from 0."""
        for path, bounds in self.query.ranges:
            if not path and bounds.offset is not None:
                return cast(int, self.values[bounds.offset])
        return 0


def _has_put(row: Cells) -> None:
    """Raises PutDiffers where the body was not the row that the URL names."""
    if read_result(row).rows != 1:
        raise PutDiffers


def _most_affected(preferences: Preferences) -> int | None:
    return preferences.max_affected if preferences.is_strict else None


def _check(negotiated: NegotiatedMediaType, most: int | None) -> Check | None:
    """What has to hold of how many rows were changed or returned.

    Args:
        most: how many rows may be; None for any number.
    """
    if most is None and not negotiated.is_singular:
        return None

    def check(row: Cells) -> None:
        count = read_result(row).rows
        if negotiated.is_singular and count != 1:
            raise NotSingular(count)
        if most is not None and count > most:
            raise MaxAffected(count)

    return check
