"""Answers that describe: the document at the root, and what may be done with a table."""

from collections.abc import Sequence

import orjson

from amphibase.database.connection import Call, Statement
from amphibase.gateway.rest.errors.base import NotAcceptable, RootDisabled
from amphibase.gateway.rest.errors.schema_cache import NoFunction, NoTable
from amphibase.gateway.rest.request.media_type import ANY, JSON, OPENAPI, read_accept
from amphibase.gateway.rest.request.request import Asked
from amphibase.gateway.rest.response.openapi import describe
from amphibase.gateway.rest.response.response import Answer, allowed
from amphibase.gateway.rest.schema.catalog import Catalog, Function, Name, Table
from amphibase.gateway.rest.settings import RestSettings
from amphibase.gateway.rest.transaction.role import Identity
from amphibase.gateway.rest.transaction.run import Execution, Job
from amphibase.gateway.rest.transaction.settings import ISOLATION, Context

_USABLE = Statement(
    """
    SELECT
        (SELECT json_agg(c.relname) FROM pg_catalog.pg_class c
            WHERE c.relnamespace = $1::regnamespace AND (
                has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')
                OR has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE'))),
        (SELECT json_agg(p.proname) FROM pg_catalog.pg_proc p
            WHERE p.pronamespace = $1::regnamespace AND has_function_privilege(p.oid, 'EXECUTE'))
    """
)


class Description:
    """Describes one state of the database.

    Args:
        execution: asks what a role may use.
    """

    def __init__(
        self, catalog: Catalog, settings: RestSettings, context: Context, execution: Execution
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._context = context
        self._execution = execution

    async def root(self, asked: Asked, identity: Identity, url: str) -> Answer:
        """The OpenAPI document of the schema, or of what the role may use of it.

        Raises:
            RestError: the document is switched off, or asked for in another form.
        """
        if self._settings.openapi_mode == "disabled":
            raise RootDisabled
        accepted = read_accept([asked.headers.get("accept", ANY)])
        if not {each.name for each in accepted} & {ANY, JSON, OPENAPI, "application/*"}:
            raise NotAcceptable([each.written for each in accepted])
        tables, functions = {*self._catalog.tables}, {*self._catalog.functions}
        if self._settings.openapi_mode == "follow-privileges":
            usable_tables, usable_functions = await self._usable(asked, identity)
            tables = {name for name in tables if name.name in usable_tables}
            functions = {name for name in functions if name.name in usable_functions}
        document = describe(self._catalog, asked.schema, url, tables=tables, functions=functions)
        answer = Answer(200, body=orjson.dumps(document))
        answer.add(b"content-type", f"{OPENAPI}; charset=utf-8")
        answer.add(b"content-length", str(len(answer.body)))
        return answer

    async def _usable(self, asked: Asked, identity: Identity) -> tuple[set[str], set[str]]:
        quoted = asked.schema.replace('"', '""')
        call = Call(_USABLE, [f'"{quoted}"'])
        settings = dict(self._context.settings(asked, identity))
        settings.pop(ISOLATION, None)
        job = Job(call, identity, settings, self._context.before, is_read=True)
        row, _ = await self._execution.run(job)
        tables, functions = (set(orjson.loads(cell)) if cell else set() for cell in row)
        return tables, functions

    def options(self, asked: Asked) -> Answer:
        """The methods that a table, a function or the root knows.

        Raises:
            RestError: there is no such thing.
        """
        name = Name(asked.schema, asked.name)
        if asked.kind == "root":
            return allowed(["OPTIONS", "GET", "HEAD"])
        if asked.kind == "function":
            functions = self._catalog.functions.get(name)
            if not functions:
                raise NoFunction(f"Could not find the function {name} in the schema cache")
            return allowed(_of_functions(functions))
        table = self._catalog.tables.get(name)
        if table is None:
            raise NoTable(str(name), None)
        return allowed(_of_table(table))


def _of_functions(functions: Sequence[Function]) -> list[str]:
    only_post = all(each.volatility == "volatile" for each in functions)
    return ["OPTIONS", "POST"] if only_post else ["OPTIONS", "GET", "HEAD", "POST"]


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
