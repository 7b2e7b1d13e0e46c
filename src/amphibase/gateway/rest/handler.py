"""From a request to its answer, with the catalog as it is at the moment."""

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
from amphibase.gateway.rest.plan.negotiation import AS_JSON, Chosen, choose
from amphibase.gateway.rest.plan.planner import Planner
from amphibase.gateway.rest.plan.types import Action, Content, Demand, Media, Resolution
from amphibase.gateway.rest.request.lru import kept
from amphibase.gateway.rest.request.media_type import ANY, read_accept, read_media_type
from amphibase.gateway.rest.request.payload import FORM, Payload, read_form, read_payload
from amphibase.gateway.rest.request.preferences import NONE, Preferences, read_preferences
from amphibase.gateway.rest.request.query import Query, Value
from amphibase.gateway.rest.request.query_string import read_query
from amphibase.gateway.rest.request.request import Asked, with_arguments, with_range
from amphibase.gateway.rest.response.builders import (
    answer_call,
    answer_plan,
    answer_read,
    answer_write,
)
from amphibase.gateway.rest.response.response import Answer, Result, override, result_of
from amphibase.gateway.rest.schema.catalog import Catalog, Name
from amphibase.gateway.rest.settings import RestSettings
from amphibase.gateway.rest.sql.cache import CompiledPlan, StatementCache
from amphibase.gateway.rest.transaction.role import Identity
from amphibase.gateway.rest.transaction.run import Execution, Job
from amphibase.gateway.rest.transaction.settings import ISOLATION, Context

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
_NOTHING = Media("none")
_WITH_BODY = ("POST", "PATCH", "PUT")

Check = Callable[[Cells], None]


class Requests:
    """Answers requests about one state of the database.

    Args:
        catalog: what the database offers.
        execution: runs the statements.
    """

    def __init__(
        self, catalog: Catalog, settings: RestSettings, context: Context, execution: Execution
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._context = context
        self._execution = execution
        self._statements = StatementCache(
            Planner(
                catalog, max_rows=settings.db_max_rows, aggregates=settings.db_aggregates_enabled
            )
        )
        self._chosen = kept(1000)(self._choose_of)

    async def run(self, asked: Asked, identity: Identity, body: bytes) -> Answer:
        """The answer of a table, a view or a function.

        Raises:
            RestError: the request or the database said no.
        """
        exchange = self._read(asked, identity, body)
        if asked.kind == "function":
            answer, result = await self._call(exchange)
        else:
            answer, result = await self._table(exchange)
        if len(self._settings.db_schemas) > 1:
            answer.add(b"content-profile", asked.schema)
        override(answer, result)
        if answer.status in (204, 304):  # which have no body, whoever said so
            answer.body = b""
        elif asked.method != "HEAD":
            answer.add(b"content-length", str(len(answer.body)))
        return answer

    def _read(self, asked: Asked, identity: Identity, body: bytes) -> "Exchange":
        preferences = self._preferences(asked)
        is_call = asked.kind == "function"
        query, values = read_query(asked.query_string, is_call=is_call and asked.is_read)
        if asked.method == "GET":
            query, values = with_range(query, values, asked.headers.get("range"))
        payload = content = None
        if asked.method in _WITH_BODY:
            media_type = read_media_type(asked.headers.get("content-type", "")).name
            if is_call and media_type == FORM:
                query, values = with_arguments(query, values, read_form(body))
            else:
                payload = read_payload(
                    body, media_type, has_columns=query.columns is not None, is_call=is_call
                )
                content = _CONTENTS.get(media_type, "json")
        return Exchange(asked, identity, preferences, query, values, payload, content)

    def _preferences(self, asked: Asked) -> Preferences:
        header = asked.headers.get("prefer")
        if header is None:
            return NONE
        found = read_preferences(
            [header],
            self._catalog.timezones,
            may_override_end=self._settings.may_override_end,
        )
        if found.refused and found.is_strict:
            raise InvalidPreferences(found.refused)
        return found

    def _choose(self, exchange: "Exchange", target: Name) -> Chosen:
        accept = exchange.asked.headers.get("accept", ANY)
        if accept == ANY and not self._catalog.media_handlers:
            return AS_JSON
        return self._chosen(accept, target, exchange.query.is_whole)

    def _choose_of(self, accept: str, target: Name, is_whole: bool) -> Chosen:
        return choose(
            read_accept([accept]),
            self._catalog,
            target,
            is_whole=is_whole,
            may_explain=self._settings.db_plan_enabled,
        )

    async def _table(self, exchange: "Exchange") -> tuple[Answer, Result]:
        asked, preferences = exchange.asked, exchange.preferences
        target, action = Name(asked.schema, asked.name), _ACTIONS[asked.method]
        chosen = self._choose(exchange, target)
        compiled = self._statements.get(exchange.demand(target, action, chosen))
        if chosen.is_plan:
            return await self._plan(exchange, compiled, chosen, is_read=action == "read")
        if action == "read":
            result = await self._run(exchange, compiled, None, is_read=True, settings={})
            offset = exchange.offset
            return answer_read(asked, preferences, chosen, result, offset), result
        check = _has_put if action == "put" else _check(chosen, preferences)
        result = await self._run(exchange, compiled, check, is_read=False, settings={})
        answer = answer_write(
            action,
            preferences,
            chosen,
            result,
            self._catalog.tables[target],
            exchange.query.on_conflict,
        )
        return answer, result

    async def _call(self, exchange: "Exchange") -> tuple[Answer, Result]:
        asked, preferences = exchange.asked, exchange.preferences
        target = Name(asked.schema, asked.name)
        overloads = self._catalog.functions.get(target, ())
        rows_of = overloads[0].returns.table if overloads else None
        chosen = self._choose(exchange, rows_of or target)
        compiled = self._statements.get(exchange.demand(target, "call", chosen))
        assert compiled.plan.invocation is not None
        function = compiled.plan.invocation.function
        limits_rows = preferences.is_strict and preferences.max_affected is not None
        if limits_rows and not function.returns.is_set:
            raise MaxAffectedNeedsSet
        is_read = asked.is_read or function.volatility != "volatile"
        if chosen.is_plan:
            return await self._plan(exchange, compiled, chosen, is_read=is_read)
        result = await self._run(
            exchange,
            compiled,
            _check(chosen, preferences),
            is_read=is_read,
            settings=function.settings,
        )
        return answer_call(preferences, chosen, result, function, exchange.offset), result

    async def _plan(
        self, exchange: "Exchange", compiled: CompiledPlan, chosen: Chosen, *, is_read: bool
    ) -> tuple[Answer, Result]:
        result = await self._run(exchange, compiled, None, is_read=is_read, settings={})
        return answer_plan(chosen, result), result

    async def _run(
        self,
        exchange: "Exchange",
        compiled: CompiledPlan,
        check: Check | None,
        *,
        is_read: bool,
        settings: Mapping[str, str],
    ) -> Result:
        """Run the statement.

        Args:
            check: what has to hold of its row, else nothing is changed.
            settings: the function's own.
        """
        context = self._context
        of_transaction = {
            **context.settings(exchange.asked, exchange.identity, exchange.preferences.timezone),
            **settings,
        }
        isolation = cast("Isolation | None", of_transaction.pop(ISOLATION, None))
        ends_by = exchange.preferences.end
        estimate = compiled.estimate
        job = Job(
            call=compiled.main.bind(exchange.values, exchange.body),
            identity=exchange.identity,
            settings=of_transaction,
            before=context.before,
            is_read=is_read,
            check=None if is_read else check,
            rolls_back=not is_read
            and (self._settings.rolls_back if ends_by is None else ends_by == "rollback"),
            isolation=isolation,
            estimate=None if estimate is None else estimate.bind(exchange.values),
        )
        row, explained = await self._execution.run(job)
        if compiled.plan.demand.media.explain is not None:
            return Result(None, 1, row[0] or b"")
        if is_read and check is not None:
            check(row)
        result = result_of(row)
        if explained is None:
            return result
        total = self._total(compiled, result.total, explained[0] or b"[]")
        return result._replace(total=total)

    def _total(self, compiled: CompiledPlan, counted: int | None, explained: bytes) -> int | None:
        expected = int(orjson.loads(explained)[0]["Plan"]["Plan Rows"])
        if compiled.plan.demand.count == "planned" or counted is None:
            return expected
        most = self._settings.db_max_rows
        return max(expected, counted) if most is not None and counted > most else counted


class Exchange(NamedTuple):
    """One request, read."""

    asked: Asked
    identity: Identity
    preferences: Preferences
    query: Query
    values: list[Value]
    payload: Payload | None
    content: Content | None

    @property
    def body(self) -> str | bytes | None:
        return None if self.payload is None else self.payload.text

    @property
    def offset(self) -> int:
        """The first of the rows that are asked for."""
        for path, bounds in self.query.ranges:
            if not path and bounds.offset is not None:
                return cast(int, self.values[bounds.offset])
        return 0

    def demand(self, target: Name, action: Action, chosen: Chosen) -> Demand:
        """What its SQL depends on."""
        preferences = self.preferences
        columns: tuple[str, ...] = ()
        if self.payload is not None and self.payload.columns is not None:
            columns = tuple(sorted(self.payload.columns))
        return Demand(
            target=target,
            action=action,
            query=self.query,
            media=_NOTHING if self.asked.method == "HEAD" else chosen.media,
            keys=columns,
            content=self.content,
            count=preferences.count,
            returning=preferences.representation or "minimal",
            resolution=_RESOLUTIONS.get(preferences.resolution or ""),
            missing_default=preferences.missing == "default",
        )


def _has_put(row: Cells) -> None:
    """Raises PutDiffers where the body was not the row that the URL names."""
    if result_of(row).rows != 1:
        raise PutDiffers


def _check(chosen: Chosen, preferences: Preferences) -> Check | None:
    """What has to hold of how many rows were changed or returned."""
    most = preferences.max_affected if preferences.is_strict else None
    if most is None and not chosen.is_singular:
        return None

    def check(row: Cells) -> None:
        count = result_of(row).rows
        if chosen.is_singular and count != 1:
            raise NotSingular(count)
        if most is not None and count > most:
            raise MaxAffected(count)

    return check
