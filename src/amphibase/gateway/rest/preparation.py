"""Decides what a request does, but for its values: its plan, its form and its transaction."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from amphibase.backend import Isolation
from amphibase.database.statement import Call
from amphibase.gateway.rest.errors.base import InvalidPreferences, NotAcceptable, RestError
from amphibase.gateway.rest.errors.database import DatabaseError
from amphibase.gateway.rest.plan.call import choose_function
from amphibase.gateway.rest.plan.negotiation import AS_JSON, NegotiatedMediaType, negotiate
from amphibase.gateway.rest.plan.planner import Planner
from amphibase.gateway.rest.plan.types import Action, BodyFormat, Content, PlanKey, Resolution
from amphibase.gateway.rest.request.lru import cached
from amphibase.gateway.rest.request.media_type import ANY, read_accept
from amphibase.gateway.rest.request.preferences import NONE, Preferences, read_preferences
from amphibase.gateway.rest.request.query import QueryParams
from amphibase.gateway.rest.request.request import ApiRequest
from amphibase.gateway.rest.schema.catalog import Catalog, Name
from amphibase.gateway.rest.settings import RestSettings
from amphibase.gateway.rest.sql.cache import CompiledPlan, StatementCache
from amphibase.gateway.rest.transaction.role import RequestRole
from amphibase.gateway.rest.transaction.run import first_calls
from amphibase.gateway.rest.transaction.settings import TransactionSettings

_ACTIONS: Mapping[str, Action] = {
    "GET": "read", "HEAD": "read", "POST": "insert", "PATCH": "update", "PUT": "put",
    "DELETE": "delete",
}  # fmt: skip
_RESOLUTIONS: Mapping[str, Resolution] = {
    "merge-duplicates": "merge",
    "ignore-duplicates": "ignore",
}
_NOTHING = BodyFormat("none")


class PreparedRequest(NamedTuple):
    """What is decided of a request whatever its values are.

    Attributes:
        first: what begins its transaction.
        isolation: of its transaction, where it is not the database's own.
        is_read: whether it runs in a read-only transaction.
    """

    preferences: Preferences
    negotiated: NegotiatedMediaType
    compiled: CompiledPlan
    first: tuple[Call, ...]
    isolation: Isolation | None
    is_read: bool


class RequestPreparer:
    """Prepares requests by one state of the database.

    It is in no cycle of references, so that a large catalog is freed as soon as the next one takes
    its place.
    """

    def __init__(
        self, catalog: Catalog, settings: RestSettings, transaction_settings: TransactionSettings
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._transaction_settings = transaction_settings
        self._statements = StatementCache(
            Planner(
                catalog,
                max_rows=settings.db_max_rows,
                aggregates=settings.db_aggregates_enabled,
                extra_search_path=settings.db_extra_search_path,
            )
        )
        self._negotiated = cached(1000)(partial(_negotiate, catalog, settings))

    def prepare(
        self,
        request: ApiRequest,
        role: RequestRole,
        query: QueryParams,
        columns: tuple[str, ...],
        content: Content | None,
    ) -> PreparedRequest:
        """Decide all that does not depend on values.

        Args:
            columns: that the body names.
        """
        preferences = self._preferences(request)
        is_call = request.kind == "function"
        key = PlanKey(
            target=Name(request.schema, request.name),
            action="call" if is_call else _ACTIONS[request.method],
            query=query,
            keys=columns,
            content=content,
            count=preferences.count,
            returning=preferences.representation or "minimal",
            resolution=_RESOLUTIONS.get(preferences.resolution or ""),
            missing_default=preferences.missing == "default",
        )
        of_rows = key.target
        if is_call:
            of_rows = choose_function(self._catalog, key).returns.table or of_rows
        negotiated, rejections = AS_JSON, list[RestError]()
        try:
            negotiated = self._negotiate(request, query, of_rows)
        except NotAcceptable as error:
            rejections.append(error)
        if preferences.invalid and preferences.is_strict:
            # As upstream, they are looked at before the form of a write, and after that of a read.
            place = len(rejections) if is_call or request.is_read else 0
            rejections.insert(place, InvalidPreferences(preferences.invalid))
        media = _NOTHING if request.method == "HEAD" else negotiated.media
        try:
            compiled = self._statements.get(key._replace(media=media))
        except DatabaseError as error:  # which Postgres would say, were it asked
            raise next(iter(rejections), error) from None
        if rejections:
            raise rejections[0]
        transactions = self._transaction_settings
        settings = transactions.settings(request, role.name, preferences.timezone)
        is_read = request.is_read
        if call := compiled.plan.call:
            is_read = is_read or call.function.volatility != "volatile"
            settings = settings.overridden(call.function.settings)
        first = first_calls(role, settings.values, transactions.before, read_only=is_read)
        return PreparedRequest(
            preferences, negotiated, compiled, first, settings.isolation, is_read
        )

    def _preferences(self, request: ApiRequest) -> Preferences:
        header = request.headers.get("prefer")
        if header is None:
            return NONE
        return read_preferences(
            [header],
            self._catalog.timezones,
            may_override_end=self._settings.may_override_end,
        )

    def _negotiate(
        self, request: ApiRequest, query: QueryParams, target: Name
    ) -> NegotiatedMediaType:
        accept = request.headers.get("accept", ANY)
        if accept == ANY and not self._catalog.media_handlers:
            return AS_JSON
        return self._negotiated(accept, target, query.is_whole)


def _negotiate(
    catalog: Catalog, settings: RestSettings, accept: str, target: Name, is_whole: bool
) -> NegotiatedMediaType:
    return negotiate(
        read_accept([accept]),
        catalog,
        target,
        is_whole=is_whole,
        may_explain=settings.db_plan_enabled,
    )
