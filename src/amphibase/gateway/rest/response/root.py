"""Responses that describe: the document at the root, and the methods of a table."""

import orjson

from amphibase.database.statement import Call, Statement
from amphibase.gateway.rest.errors.base import NotAcceptable, RootDisabled
from amphibase.gateway.rest.plan.call import choose_function
from amphibase.gateway.rest.plan.types import PlanKey
from amphibase.gateway.rest.request.media_type import ANY, JSON, OPENAPI, read_accept
from amphibase.gateway.rest.request.query_string import read_query
from amphibase.gateway.rest.request.request import ApiRequest
from amphibase.gateway.rest.response.openapi import describe
from amphibase.gateway.rest.response.response import RestResponse, allowed
from amphibase.gateway.rest.schema.catalog import Catalog, Name, Routine, Table
from amphibase.gateway.rest.schema.suggestions import no_table
from amphibase.gateway.rest.settings import RestSettings
from amphibase.gateway.rest.transaction.role import RequestRole
from amphibase.gateway.rest.transaction.run import RoleExecutor, RoleQuery, first_calls
from amphibase.gateway.rest.transaction.settings import TransactionSettings

_USABLE = Statement(
    """
    SELECT
        (SELECT json_agg(c.relname) FROM pg_catalog.pg_class c
            WHERE c.relnamespace = $1::regnamespace AND (
                pg_has_role(c.relowner, 'USAGE')
                OR has_table_privilege(
                    c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                OR has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))),
        (SELECT json_agg(p.proname) FROM pg_catalog.pg_proc p
            WHERE p.pronamespace = $1::regnamespace AND has_function_privilege(p.oid, 'EXECUTE'))
    """
)


class RootHandler:
    """Describes one state of the database.

    Args:
        executor: queries the privileges of a role.
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

    async def root(
        self, request: ApiRequest, role: RequestRole, query_string: str, url: str
    ) -> RestResponse:
        """Respond with the OpenAPI document of the schema, or of what the role may use of it.

        Args:
            query_string: has no effect, but must be one that can be read.
            url: of the Data API.

        Raises:
            RestError: the document is switched off, or requested in another media type.
        """
        read_query(query_string)
        if self._settings.openapi_mode == "disabled":
            raise RootDisabled
        accepted = read_accept([request.headers.get("accept", ANY)])
        if not {each.name for each in accepted} & {ANY, JSON, OPENAPI, "application/*"}:
            raise NotAcceptable([str(each) for each in accepted])
        tables, functions = {*self._catalog.tables}, {*self._catalog.functions}
        if self._settings.openapi_mode == "follow-privileges":
            usable_tables, usable_functions = await self._usable(request, role)
            tables = {name for name in tables if name.name in usable_tables}
            functions = {name for name in functions if name.name in usable_functions}
        document = describe(
            self._catalog,
            request.schema,
            self._settings.openapi_server_proxy_uri or url,
            tables=tables,
            functions=functions,
            is_secured=self._settings.openapi_security_active,
        )
        response = RestResponse(200, body=orjson.dumps(document))
        response.add(b"content-type", f"{OPENAPI}; charset=utf-8")
        response.add(b"content-length", str(len(response.body)))
        if request.names_schema:
            response.add(b"content-profile", request.schema)
        return response

    async def _usable(self, request: ApiRequest, role: RequestRole) -> tuple[set[str], set[str]]:
        quoted = request.schema.replace('"', '""')
        call = Call(_USABLE, [f'"{quoted}"'])
        settings = self._transaction_settings.settings(request, role.name).values
        first = first_calls(role, settings, self._transaction_settings.before, read_only=True)
        query = RoleQuery(call, role, first, is_read=True)
        row, _ = await self._executor.run(query)
        tables, functions = (set(orjson.loads(cell)) if cell else set() for cell in row)
        return tables, functions

    def options(self, request: ApiRequest, query_string: str) -> RestResponse:
        """Respond with the methods that a table, a function or the root has.

        Args:
            query_string: has the arguments by which one of several functions is chosen; any must
                be one that can be read.

        Raises:
            RestError: there is no such thing.
        """
        name = Name(request.schema, request.name)
        query, _ = read_query(query_string, is_call=request.kind == "function")
        if request.kind == "root":
            return allowed(["OPTIONS", "GET", "HEAD"])
        if request.kind == "function":
            function = choose_function(self._catalog, PlanKey(name, "call", query))
            return allowed(_of_function(function))
        table = self._catalog.tables.get(name)
        if table is None:
            raise no_table(self._catalog, name)
        return allowed(_of_table(table))


def _of_function(function: Routine) -> list[str]:
    reads = [] if function.volatility == "volatile" else ["GET", "HEAD"]
    return ["OPTIONS", *reads, "POST"]


def _of_table(table: Table) -> list[str]:
    methods = ["OPTIONS", "GET", "HEAD"]
    if table.insertable:
        methods.append("POST")
    if table.insertable and table.updatable and table.primary_key:
        methods.append("PUT")
    if table.updatable:
        methods.append("PATCH")
    if table.deletable:
        methods.append("DELETE")
    return methods
