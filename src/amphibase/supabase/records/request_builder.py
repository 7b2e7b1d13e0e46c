"""Builds and sends the requests for rows of one model and one caller."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import Column, ColumnElement, Table
from sqlalchemy.sql.elements import ClauseElement

from amphibase.access.conditions import Always
from amphibase.backend import Caller, Order, Where
from amphibase.errors import (
    AmphibaseError,
    Forbidden,
    InvalidRequest,
    NotSupported,
    Unauthenticated,
)
from amphibase.models import SoftDelete
from amphibase.records.access_policy import AccessPolicy
from amphibase.records.arguments import check_filters
from amphibase.records.column_access import check_readable, hidden_columns_in
from amphibase.records.cursors import Cursors
from amphibase.records.filters.names import format_field, format_name
from amphibase.records.filters.operators import OPERATORS
from amphibase.records.filters.tree import FieldPath, Filter
from amphibase.records.model_info import ModelInfo
from amphibase.records.model_infos import ModelInfos
from amphibase.records.ordering import Ordering, RowOrder, ordering
from amphibase.records.predicates import Predicates
from amphibase.records.values import Row
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.records.dialect import from_json
from amphibase.supabase.records.expressions import FilterBuilder, Filters
from amphibase.supabase.records.fields import field_path, unsupported
from amphibase.supabase.records.max_rows import MaxRows
from amphibase.supabase.records.operands import operand
from amphibase.supabase.records.parameters import (
    Parameters,
    check_length,
    conditions_of,
    embedded,
    table_path,
    total_of,
)
from amphibase.supabase.records.rows import codec_of

MAX_LISTED = 30_000
"""How many values a filter may list, as on every backend."""

ROWS_A_REQUEST = 1000


@dataclass(frozen=True, slots=True)
class Records:
    """What all repositories of a backend share."""

    client: SupabaseClient
    infos: ModelInfos
    cursors: Cursors
    max_rows: MaxRows
    max_page_bytes: int


class RequestBuilder:
    """Builds and sends requests for the rows of one model that one caller may see.

    Policies of the database decide which rows these are.

    Args:
        with_deleted: whether softly deleted rows of the model are visible.
    """

    def __init__(
        self,
        info: ModelInfo[Any],
        caller: Caller,
        records: Records,
        *,
        with_deleted: bool = False,
    ) -> None:
        self.info = info
        self.caller = caller
        self.shared = records
        self.codec = codec_of(info)
        self.policy = AccessPolicy(info, caller, by_database=True, with_deleted=with_deleted)

    def of(self, info: ModelInfo[Any], *, with_deleted: bool = False) -> "RequestBuilder":
        """Return the same caller's builder for another model."""
        return RequestBuilder(info, self.caller, self.shared, with_deleted=with_deleted)

    # Requests

    def filters(self, *where: Where) -> Filters:
        """Build the filters of the rows that match and that the caller may see.

        Raises:
            InvalidRequest: a filter is not an expression, or lists too many values.
            NotSupported: PostgREST has no filter for an expression.
        """
        check_filters(where)
        filters = Filters()
        builder = FilterBuilder(self.info.table, filters, self.visible)
        self.check_readable(where)
        builder.add(*self._conditions(self.policy), *where)
        if sum(len(value) for value in filters.values if isinstance(value, list)) > MAX_LISTED:
            raise InvalidRequest(f"At most {MAX_LISTED} values can be looked for at once")
        return filters

    def visible(self, table: Table) -> Sequence[ClauseElement] | None:
        """Return the conditions of the related rows that are visible, None where none are."""
        models = self.shared.infos.models_of(table.fullname)
        if self.caller.role == "service_role":
            models = [model for model in models if issubclass(model, SoftDelete)]
        elif not models:
            raise NotSupported(
                f"{table.fullname} has no model that declares its access, so only the service may "
                "filter by it; map a class to it, with an __access__"
            )
        policies = [self.of(self.shared.infos.of(model, self.caller)).policy for model in models]
        if not all(policy.may_select for policy in policies):
            return None
        return [each for policy in policies for each in self._conditions(policy)]

    def _conditions(self, policy: AccessPolicy) -> Sequence[ColumnElement[bool]]:
        """Return what filters have to say beside policies: that rows are not softly deleted."""
        readable = policy.readable
        return () if isinstance(readable, Always) else (Predicates(self.caller).write(readable),)

    def check_readable(self, expressions: Iterable[ClauseElement]) -> None:
        """Raise NotSupported for expressions that read columns which the caller may not read."""
        if self.caller.role != "service_role":
            check_readable(hidden_columns_in(expressions))

    def ordering(self, order_by: Order) -> Ordering:
        """Build the order of a list. Raises InvalidRequest, NotSupported."""
        order = ordering(order_by, self.info.newest_first, self.info.keys, "postgresql")
        if order_by:
            self.check_readable(term.by for term in order.terms)
        return order

    def is_(self, id: Any) -> Sequence[ColumnElement[bool]]:
        """Build the conditions that a row has that primary key. Raises InvalidValue."""
        values = self.info.key_values(id)
        return [key == value for key, value in zip(self.info.keys, values, strict=True)]

    def key_filters(self, id: Any) -> Filters:
        """Build the filters of the row that has that primary key. Raises InvalidValue.

        The same as of the expressions `is_(id)`, for a third of what these cost.
        """
        values = self.info.key_values(id)
        if None in values:
            return self.filters(*self.is_(id))
        filters = self.filters()
        for key, value in zip(self.info.keys, values, strict=True):
            text = operand(key.name, key.type, value)
            condition = Filter(FieldPath(key.name), OPERATORS["eq"], len(filters.values))
            filters.values.append(text)
            filters.conditions.append(((), condition))
        return filters

    async def send(
        self,
        method: str,
        parameters: Parameters,
        *,
        prefer: Sequence[str] = (),
        body: bytes | None = None,
        caller: Caller | None = None,
        idempotent: bool = False,
    ) -> httpx.Response:
        """Send a request for the model's table.

        Raises:
            NotSupported: it is too long to be sent.
            AmphibaseError: as `SupabaseClient.request`.
        """
        check_length(parameters)
        headers: dict[str, str] = {}
        if prefer:
            headers["Prefer"] = ",".join(prefer)
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.info.table.schema is not None:
            name = "Accept-Profile" if method in ("GET", "HEAD") else "Content-Profile"
            headers[name] = self.info.table.schema
        return await self.shared.client.request(
            "rest",
            method,
            table_path(self.info.table),
            caller or self.caller,
            params=parameters,
            headers=headers,
            content=body,
            idempotent=idempotent,
        )

    def is_denied(self, error: AmphibaseError) -> bool:
        """Return whether an error says that the caller may not use the table, as its model
        declares.

        To the service, such an error says that the database is not set up; and a token that is
        not valid says nothing of the table.
        """
        return type(error) in (Forbidden, Unauthenticated) and self.caller.role != "service_role"

    # Reading

    def continued(self, filters: Filters, order: Ordering, record: Mapping[str, Any]) -> Filters:
        """Return the filters of the rows that come after one."""
        after = order.after(order.read(self.position(order, record)), compares_rows=False)
        return self.with_condition(filters, after)

    def with_condition(self, filters: Filters, condition: Where) -> Filters:
        """Return filters and one more."""
        further = filters.copy()
        FilterBuilder(self.info.table, further, self.visible).add(condition)
        return further

    async def fetch(
        self, filters: Filters, order: Ordering, limit: int, offset: int = 0
    ) -> tuple[list[dict[str, Any]], bool]:
        """Fetch JSON objects by one request, and whether there are none after them."""
        max_rows = self.shared.max_rows
        parameters = [*self.read_parameters(filters, order), ("limit", str(limit))]
        if offset:
            parameters.append(("offset", str(offset)))
        # With a count, an offset beyond the last row is an error (416).
        counts = max_rows.must_count(limit) and not offset
        try:
            response = await self.send("GET", parameters, prefer=["count=exact"] if counts else ())
        except (Forbidden, Unauthenticated) as error:
            if not self.is_denied(error):
                raise
            return [], True
        records = self.codec.parse(response)
        matching = total_of(response) if counts else None
        return records, max_rows.is_end(len(records), limit, matching)

    async def record(self, filters: Filters) -> list[dict[str, Any]]:
        """Fetch the JSON object of the one row that matches, if there is one."""
        try:
            response = await self.send("GET", self.read_parameters(filters))
        except (Forbidden, Unauthenticated) as error:
            if not self.is_denied(error):
                raise
            return []
        return self.codec.parse(response)

    def read_parameters(self, filters: Filters, order: Ordering | None = None) -> Parameters:
        """Return the parameters of a request for the model's columns, without its limit."""
        select = [self.codec.select]
        for place, term in enumerate(order.terms if order is not None else ()):
            if term.by not in self.info.name_of:
                select.append(f"{_beside(place)}:{format_field(self._field(term))}")
        select += map(embedded, filters.embeds)
        parameters = [("select", ",".join(select)), *conditions_of(filters), *filters.orders]
        if order is not None:
            parameters.append(("order", self.format_order(order)))
        return parameters

    def format_order(self, order: Ordering) -> str:
        """Return an order as `order=` takes it. Raises NotSupported."""
        nulls = {None: "", True: ".nullsfirst", False: ".nullslast"}
        return ",".join(
            f"{format_field(self._field(term))}.{'desc' if term.descending else 'asc'}"
            f"{nulls[term.nulls_first]}"
            for term in order.terms
        )

    def _field(self, term: RowOrder) -> FieldPath:
        field = field_path(term.by, self.info.table)
        if field is None:
            raise unsupported(term.by)
        return field

    def position(self, order: Ordering, record: Mapping[str, Any]) -> list[Any]:
        """Return the place of a row in an order, for a cursor."""
        values = []
        for place, term in enumerate(order.terms):
            is_column = isinstance(term.by, Column) and term.by in self.info.name_of
            name = term.by.name if is_column else _beside(place)
            read = from_json(term.by.type)
            values.append(record[name] if read is None else read(record[name]))
        return order.position(values)

    async def grouped(
        self, filters: Filters, select: Sequence[str], by: Sequence[str], limit: int
    ) -> list[dict[str, Any]]:
        """Fetch the JSON objects of groups of rows by one request.

        Args:
            select: what each object has, as `select=` takes it.
            by: the columns that rows are grouped and groups are ordered by.
        """
        parameters = [("select", ",".join([*select, *map(embedded, filters.embeds)]))]
        parameters += [*conditions_of(filters), ("limit", str(limit))]
        if by:
            parameters.append(("order", ",".join(f"{name}.asc.nullslast" for name in by)))
        try:
            response = await self.send("GET", parameters)
        except (Forbidden, Unauthenticated) as error:
            if not self.is_denied(error):
                raise
            return []
        return self.codec.parse(response)

    async def count(self, filters: Filters) -> int:
        """Count rows by one request."""
        # Not by HEAD, where an error has no body that says what it is.
        response = await self._read_key(filters, "count=exact")
        return 0 if response is None else total_of(response)

    async def any(self, filters: Filters) -> bool:
        """Return whether there is a row."""
        response = await self._read_key(filters)
        return response is not None and bool(self.codec.parse(response))

    async def _read_key(self, filters: Filters, *prefer: str) -> httpx.Response | None:
        """Read the key of a row that matches; None where the caller may not read the table."""
        keys = ",".join(format_name(key.name) for key in self.info.keys)
        parameters = [("select", ",".join([keys, *map(embedded, filters.embeds)]))]
        parameters += [*conditions_of(filters), ("limit", "1")]
        try:
            return await self.send("GET", parameters, prefer=prefer)
        except (Forbidden, Unauthenticated) as error:
            if not self.is_denied(error):
                raise
            return None

    # Changing

    async def update(self, filters: Filters, record: Mapping[str, Any]) -> int:
        """Change rows; return how many there were."""
        body = self.codec.encode(record)
        prefer = ["return=minimal", "count=exact"]
        return total_of(await self.send("PATCH", self._chosen(filters), prefer=prefer, body=body))

    async def update_returning(
        self, filters: Filters, record: Mapping[str, Any], *, idempotent: bool
    ) -> Sequence[Row]:
        """Change rows; return them as stored.

        Args:
            idempotent: whether the request may be repeated.
        """
        response = await self.send(
            "PATCH",
            [("select", self.codec.select), *self._chosen(filters)],
            prefer=["return=representation"],
            body=self.codec.encode(record),
            idempotent=idempotent,
        )
        return self.codec.rows(self.codec.parse(response))

    async def delete(self, filters: Filters) -> int:
        """Delete rows; return how many there were."""
        prefer = ["return=minimal", "count=exact"]
        return total_of(await self.send("DELETE", self._chosen(filters), prefer=prefer))

    def _chosen(self, filters: Filters) -> Parameters:
        """Return the parameters that choose rows to change. Raises NotSupported."""
        if filters.embeds:
            raise NotSupported(
                "The Data API of Supabase does not choose rows to change by rows that are related "
                "to them, as has() and any() do; read their keys first"
            )
        # Projects reject changes without a filter (the extension safeupdate).
        everything = (format_name(self.info.keys[0].name), "not.is.null")
        return conditions_of(filters) or [everything]


def _beside(place: int) -> str:
    """The name of a value that only the order needs."""
    return f"_order_{place}"
