"""From a request to its response, with the catalog as it is at the moment."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import orjson

from amphibase.backend import Isolation
from amphibase.database.pool import Cells
from amphibase.gateway.rest.errors.base import (
    InvalidPreferences,
    MaxAffected,
    MaxAffectedNeedsSet,
    NotSingular,
    PutDiffers,
)
from amphibase.gateway.rest.errors.database import INSUFFICIENT_PRIVILEGE, DatabaseError
from amphibase.gateway.rest.plan.negotiation import AS_JSON, NegotiatedMediaType, negotiate
from amphibase.gateway.rest.plan.planner import Planner
from amphibase.gateway.rest.plan.types import Action, BodyFormat, Content, PlanKey, Resolution
from amphibase.gateway.rest.request.lru import cached
from amphibase.gateway.rest.request.media_type import ANY, read_accept, read_media_type
from amphibase.gateway.rest.request.payload import FORM, Payload, read_form, read_payload
from amphibase.gateway.rest.request.preferences import NONE, Preferences, read_preferences
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
from amphibase.gateway.rest.schema.catalog import Catalog, Name
from amphibase.gateway.rest.settings import RestSettings
from amphibase.gateway.rest.sql.cache import CompiledPlan, StatementCache
from amphibase.gateway.rest.sql.statement import compile_cursor, has_cursor, separator_of
from amphibase.gateway.rest.transaction.privileges import permission_hint
from amphibase.gateway.rest.transaction.role import RequestRole
from amphibase.gateway.rest.transaction.run import RoleExecutor, RoleQuery
from amphibase.gateway.rest.transaction.settings import ISOLATION, TransactionSettings
from amphibase.gateway.rest.transaction.spool import spool
from amphibase.records.filters.tree import Value

_ACTIONS: Mapping[str, Action] = {
    "GET": "read", "HEAD": "read", "POST": "insert", "PATCH": "update", "PUT": "put",
    "DELETE": "delete",
}  # fmt: skip
_CONTENTS: Mapping[str, Content] = {
    "text/plain": "text", "text/xml": "xml", "application/octet-stream": "binary",
}  # fmt: skip
_RESOLUTIONS: Mapping[str, Resolution] = {
    "merge-duplicates": "merge",
    "ignore-duplicates": "ignore",
}
VARY = "Accept, Prefer, Range"
"""On what a response depends beside its URL, for caches, since PostgREST 16."""

_NOTHING = BodyFormat("none")
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
        self._transaction_settings = transaction_settings
        self._executor = executor
        self._statements = StatementCache(
            Planner(
                catalog, max_rows=settings.db_max_rows, aggregates=settings.db_aggregates_enabled
            )
        )
        self._negotiated = cached(1000)(self._negotiate_uncached)

    async def run(self, request: ApiRequest, role: RequestRole, body: bytes) -> RestResponse:
        """Respond to a request of a table, a view or a function.

        Raises:
            RestError: the request is invalid, or the database rejects it.
        """
        context = self._read(request, role, body)
        if request.kind == "function":
            response, result = await self._call(context)
        else:
            response, result = await self._table(context)
        if len(self._settings.db_schemas) > 1:
            response.add(b"content-profile", request.schema)
        response.add(b"vary", VARY)
        override(response, result)
        if request.method != "HEAD":
            response.add(b"content-length", str(response.size))
        return response

    def _read(self, request: ApiRequest, role: RequestRole, body: bytes) -> "RequestContext":
        preferences = self._preferences(request)
        is_call = request.kind == "function"
        query, values = read_query(request.query_string, is_call=is_call and request.is_read)
        if request.method == "GET":
            query, values = with_range(query, values, request.headers.get("range"))
        payload = content = None
        if request.method in _WITH_BODY:
            media_type = read_media_type(request.headers.get("content-type", "")).name
            if is_call and media_type == FORM:
                query, values = with_arguments(query, values, read_form(body))
            else:
                payload = read_payload(
                    body, media_type, has_columns=query.columns is not None, is_call=is_call
                )
                content = _CONTENTS.get(media_type, "json")
        return RequestContext(request, role, preferences, query, values, payload, content)

    def _preferences(self, request: ApiRequest) -> Preferences:
        header = request.headers.get("prefer")
        if header is None:
            return NONE
        preferences = read_preferences(
            [header],
            self._catalog.timezones,
            may_override_end=self._settings.may_override_end,
        )
        if preferences.invalid and preferences.is_strict:
            raise InvalidPreferences(preferences.invalid)
        return preferences

    def _negotiate(self, context: "RequestContext", target: Name) -> NegotiatedMediaType:
        accept = context.request.headers.get("accept", ANY)
        if accept == ANY and not self._catalog.media_handlers:
            return AS_JSON
        return self._negotiated(accept, target, context.query.is_whole)

    def _negotiate_uncached(self, accept: str, target: Name, is_whole: bool) -> NegotiatedMediaType:
        return negotiate(
            read_accept([accept]),
            self._catalog,
            target,
            is_whole=is_whole,
            may_explain=self._settings.db_plan_enabled,
        )

    async def _table(self, context: "RequestContext") -> tuple[RestResponse, ResultSet]:
        request, preferences = context.request, context.preferences
        target, action = Name(request.schema, request.name), _ACTIONS[request.method]
        negotiated = self._negotiate(context, target)
        compiled = self._statements.get(context.key(target, action, negotiated))
        if negotiated.is_plan:
            return await self._plan(context, compiled, negotiated, is_read=action == "read")
        if action == "read":
            result = await self._run(context, compiled, None, is_read=True, settings={})
            offset = context.offset
            return read_response(request, preferences, negotiated, result, offset), result
        check = _has_put if action == "put" else _check(negotiated, preferences)
        result = await self._run(context, compiled, check, is_read=False, settings={})
        response = mutate_response(
            action,
            preferences,
            negotiated,
            result,
            self._catalog.tables[target],
            context.query.on_conflict,
        )
        return response, result

    async def _call(self, context: "RequestContext") -> tuple[RestResponse, ResultSet]:
        request, preferences = context.request, context.preferences
        target = Name(request.schema, request.name)
        overloads = self._catalog.functions.get(target, ())
        rows_of = overloads[0].returns.table if overloads else None
        negotiated = self._negotiate(context, rows_of or target)
        compiled = self._statements.get(context.key(target, "call", negotiated))
        assert compiled.plan.call is not None
        function = compiled.plan.call.function
        limits_rows = preferences.is_strict and preferences.max_affected is not None
        if limits_rows and not function.returns.is_set:
            raise MaxAffectedNeedsSet
        is_read = request.is_read or function.volatility != "volatile"
        if negotiated.is_plan:
            return await self._plan(context, compiled, negotiated, is_read=is_read)
        result = await self._run(
            context,
            compiled,
            _check(negotiated, preferences),
            is_read=is_read,
            settings=function.settings,
        )
        return call_response(preferences, negotiated, result, function, context.offset), result

    async def _plan(
        self,
        context: "RequestContext",
        compiled: CompiledPlan,
        negotiated: NegotiatedMediaType,
        *,
        is_read: bool,
    ) -> tuple[RestResponse, ResultSet]:
        result = await self._run(context, compiled, None, is_read=is_read, settings={})
        return plan_response(negotiated, result), result

    async def _run(
        self,
        context: "RequestContext",
        compiled: CompiledPlan,
        check: Check | None,
        *,
        is_read: bool,
        settings: Mapping[str, str],
    ) -> ResultSet:
        """Run the statement.

        Args:
            check: what has to hold of its row, else nothing is changed.
            settings: the function's own.
        """
        transaction_settings = self._transaction_settings
        of_transaction = transaction_settings.settings(
            context.request, context.role, context.preferences.timezone
        )
        of_transaction.update(settings)
        isolation = cast("Isolation | None", of_transaction.pop(ISOLATION, None))
        ends_by = context.preferences.end
        estimate = compiled.estimate
        query = RoleQuery(
            call=compiled.main.bind(context.values, context.body),
            role=context.role,
            settings=of_transaction,
            before=transaction_settings.before,
            is_read=is_read,
            check=None if is_read else check,
            rolls_back=not is_read
            and (self._settings.rolls_back if ends_by is None else ends_by == "rollback"),
            isolation=isolation,
            estimate=None if estimate is None else estimate.bind(context.values),
        )
        try:
            row, explained = await self._executor.run(query)
        except DatabaseError as error:
            if error.code == INSUFFICIENT_PRIVILEGE and error.hint is None:
                error.hint = await permission_hint(
                    self._executor.pool, compiled.plan, context.role.name, error.message
                )
            raise
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
        return max(expected, counted) if most is not None and counted > most else counted


class RequestContext(NamedTuple):
    """One request, read."""

    request: ApiRequest
    role: RequestRole
    preferences: Preferences
    query: QueryParams
    values: list[Value]
    payload: Payload | None
    content: Content | None

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

    def key(self, target: Name, action: Action, negotiated: NegotiatedMediaType) -> PlanKey:
        """Return all that its SQL depends on."""
        preferences = self.preferences
        columns: tuple[str, ...] = ()
        if self.payload is not None and self.payload.columns is not None:
            columns = tuple(sorted(self.payload.columns))
        return PlanKey(
            target=target,
            action=action,
            query=self.query,
            media=_NOTHING if self.request.method == "HEAD" else negotiated.media,
            keys=columns,
            content=self.content,
            count=preferences.count,
            returning=preferences.representation or "minimal",
            resolution=_RESOLUTIONS.get(preferences.resolution or ""),
            missing_default=preferences.missing == "default",
        )


def _has_put(row: Cells) -> None:
    """Raises PutDiffers where the body was not the row that the URL names."""
    if read_result(row).rows != 1:
        raise PutDiffers


def _check(negotiated: NegotiatedMediaType, preferences: Preferences) -> Check | None:
    """What has to hold of how many rows were changed or returned."""
    most = preferences.max_affected if preferences.is_strict else None
    if most is None and not negotiated.is_singular:
        return None

    def check(row: Cells) -> None:
        count = read_result(row).rows
        if negotiated.is_singular and count != 1:
            raise NotSingular(count)
        if most is not None and count > most:
            raise MaxAffected(count)

    return check
