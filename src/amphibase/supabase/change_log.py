"""The log of changes in a Supabase project, read over its Data API as the service."""

import json
from collections.abc import Hashable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Generic
from urllib.parse import quote

import httpx
from sqlalchemy import and_, or_

from amphibase.backend import ANONYMOUS, SERVICE, Model, Where
from amphibase.errors import ConfigurationError, NotFound
from amphibase.records.change_log import MAX_ENTRIES, TRIM_ENTRIES
from amphibase.records.filters.names import format_name
from amphibase.records.model_info import ModelInfo
from amphibase.records.snapshot_log import SnapshotLog
from amphibase.schema.change_log_functions import earlier_rows_name
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json
from amphibase.supabase.records.dialect import from_json
from amphibase.supabase.records.parameters import conditions_of, embedded, total_of
from amphibase.supabase.records.repository import SupabaseRepository
from amphibase.supabase.records.request_builder import RequestBuilder

POLL_SECONDS = 0.5
"""Each look is a request to the project."""
KEYS_A_REQUEST = 50


class ProjectLog(SnapshotLog):
    """The log of a project.

    Args:
        max_bytes: the most bytes that the earlier rows of a read have together, if it has more than
            one entry.
    """

    def __init__(self, client: SupabaseClient, max_bytes: int) -> None:
        super().__init__(self._call, POLL_SECONDS, max_bytes)
        self._client = client

    async def identity(self) -> str:
        return ""

    async def trim(self, hours: float) -> int:
        limits = {"hours": hours, "entries": MAX_ENTRIES, "size": TRIM_ENTRIES}
        deleted: int = await self._post("amphibase_trim_changes", limits)
        return deleted

    async def _call(self, **arguments: Any) -> Sequence[Mapping[str, Any]]:
        # One JSON value: rows, the project would cut at the most that it returns.
        rows: Sequence[Mapping[str, Any]] = await self._post("amphibase_read_changes", arguments)
        return rows

    async def _post(self, function: str, arguments: dict[str, Any]) -> Any:
        try:
            path = f"/rpc/{function}"
            response = await self._client.request("rest", "POST", path, SERVICE, json=arguments)
        except NotFound:
            raise ConfigurationError(
                "The Supabase project has no log of changes: apply what `amphibase supabase sql` "
                "writes"
            ) from None
        return response.json()


class ProjectLoggedRows(Generic[Model]):
    """Decides what a caller sees of rows that the log of a project names.

    Args:
        where: filters of the model's columns.
    """

    def __init__(
        self, info: ModelInfo[Model], builder: RequestBuilder, where: Sequence[Where]
    ) -> None:
        is_anonymous = builder.caller is ANONYMOUS and not where
        self.identity: Hashable = (info, "anon") if is_anonymous else None
        self._info = info
        self._builder = builder
        self._where = where
        self._filters = builder.filters(*where)
        self._repository = SupabaseRepository(info, builder)
        self._readers = [from_json(key.type) for key in info.keys]
        self.table = info.table.name
        self.columns: Sequence[str] = [each.name for each in info.table.columns]

    def key(self, raw: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            value if read is None else read(value)
            for read, value in zip(self._readers, raw, strict=True)
        )

    async def count_of_page(self, keys: Sequence[tuple[Any, ...]]) -> int:
        return min(len(keys), KEYS_A_REQUEST)

    async def current(self, keys: Sequence[tuple[Any, ...]]) -> Mapping[tuple[Any, ...], Model]:
        rows: dict[tuple[Any, ...], Model] = {}
        for start in range(0, len(keys), KEYS_A_REQUEST):
            chunk = keys[start : start + KEYS_A_REQUEST]
            for row in await self._repository.list(*self._where, self._is_one_of(chunk)):
                rows[tuple(getattr(row, name) for name in self._info.key_names)] = row
        return rows

    def _is_one_of(self, keys: Sequence[tuple[Any, ...]]) -> Where:
        if len(self._info.keys) == 1:
            return self._info.keys[0].in_([key[0] for key in keys])
        return or_(
            *(
                and_(*(column == value for column, value in zip(self._info.keys, key, strict=True)))
                for key in keys
            )
        )

    async def were_visible(self, rows: Sequence[str]) -> Sequence[bool]:
        names = [key.name for key in self._info.keys]
        keys = [tuple(_parsed(row)[name] for name in names) for row in rows]
        visible: set[tuple[Any, ...]] = set()
        for start in range(0, len(rows), KEYS_A_REQUEST):
            visible |= await self._visible(rows[start : start + KEYS_A_REQUEST], names)
        return [key in visible for key in keys]

    async def _visible(self, rows: Sequence[str], names: Sequence[str]) -> set[tuple[Any, ...]]:
        """Return the keys of those of a few earlier rows that the caller may see."""
        builder = self._builder
        selected = ",".join([*map(format_name, names), *map(embedded, self._filters.embeds)])
        response = await builder.shared.client.request(
            "rest",
            "POST",
            f"/rpc/{quote(earlier_rows_name(self.table), safe='')}",
            builder.caller,
            params=[("select", selected), *conditions_of(self._filters)],
            headers={"Prefer": "count=exact", "Content-Type": "application/json"},
            content=f'{{"rows":[{",".join(rows)}]}}'.encode(),
        )
        found = _parsed_response(response)
        if len(found) < total_of(response):
            raise ConfigurationError(
                f"The Supabase project returns fewer than {KEYS_A_REQUEST} rows at once: raise its "
                '"Max rows"'
            )
        return {tuple(row[name] for name in names) for row in found}


def _parsed(text: str | bytes) -> Any:
    """Parse JSON with all digits of its numbers."""
    return json.loads(text, parse_float=Decimal)


def _parsed_response(response: httpx.Response) -> list[dict[str, Any]]:
    read_json(response)  # raises Unavailable for what is not JSON
    rows: list[dict[str, Any]] = _parsed(response.content)
    return rows
