"""Adding rows by one request, which the database runs in one transaction: all or none."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import is_
from typing import Any

import httpx

from amphibase.errors import Conflict, PayloadTooLarge, Unavailable
from amphibase.records.filters.names import format_name
from amphibase.records.model_info import ABSENT, ModelInfo
from amphibase.records.values import Row
from amphibase.supabase.records.defaults import Columns, fill
from amphibase.supabase.records.loading import chunks, one_of
from amphibase.supabase.records.paged_read import read_rows
from amphibase.supabase.records.parameters import Parameters
from amphibase.supabase.records.request_builder import RequestBuilder

MAX_BODY_BYTES = 50 * 1024 * 1024
"""How large the body of a request may be; projects behind Cloudflare take 100 MB at most."""


async def insert(
    builder: RequestBuilder, columns: Columns, *, seen: bool, returning: bool = False
) -> Sequence[Row]:
    """Add rows, all or none.

    After a response that was lost, the rows are read by their keys before anything is sent again,
    if the keys are known: so no row is lost, and none is added twice.

    Args:
        columns: what the rows hold; the defaults are filled in.
        seen: whether the caller may see the rows afterwards. If not, policies let nothing come
            back.
        returning: whether the rows come back also where nothing was left to the database.

    Returns:
        The rows as stored, in their order; ABSENT for what is not known of rows that are not seen.

    Raises:
        PayloadTooLarge: they are too many for one request; nothing was sent.
        Unavailable: the project cannot be reached; says where it is not known what it stored.
    """
    info, codec = builder.info, builder.codec
    fill(info, columns)
    absent = {name for name, values in columns.items() if any(map(is_, values, repeat(ABSENT)))}
    body = codec.encode(codec.write_all(columns))
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLarge(
            f"The rows make a request of {len(body)} bytes, and {MAX_BODY_BYTES} are sent at most: "
            "add them in parts, or say atomic=False"
        )
    sent = [name for name in columns if not all(map(is_, columns[name], repeat(ABSENT)))]
    names = ",".join(format_name(info.column_of[name].name) for name in sent)
    parameters = [("columns", names)] if sent else []
    comes_back = seen and (absent or returning)
    if comes_back:
        parameters.append(("select", codec.select))
    prefer = [f"return={'representation' if comes_back else 'minimal'}"]
    if absent.intersection(sent):  # some rows have what others leave to the database
        prefer.append("missing=default")
    held: list[Row] = [*zip(*(columns[name] for name in info.names), strict=True)]
    keys = None if absent.intersection(info.key_names) else [info.key_of(row) for row in held]
    response = await _post(builder, parameters, prefer, body, held, keys if seen else None)
    if response is None or not comes_back:
        return await _read(builder, keys or ()) if absent and seen else held
    return codec.rows(codec.parse(response))


async def _post(
    builder: RequestBuilder,
    parameters: Parameters,
    prefer: Sequence[str],
    body: bytes,
    held: Sequence[Row],
    keys: Sequence[Row] | None,
) -> httpx.Response | None:
    """Send new rows.

    Args:
        held: what was sent.
        keys: of the rows; None where they cannot be read by them.

    Returns:
        None where the response was lost, and the rows are there.
    """
    try:
        return await builder.send("POST", parameters, prefer=prefer, body=body)
    except Unavailable as error:
        if not _may_have_arrived(error):
            raise
        if keys is None:
            raise Unavailable(
                "The connection to the Supabase project broke: it is not known whether the rows "
                "were stored"
            ) from error
    if await _are_stored(builder, held, keys):
        return None
    try:
        return await builder.send("POST", parameters, prefer=prefer, body=body)
    except Conflict:
        # The first request was only slow.
        if await _are_stored(builder, held, keys):
            return None
        raise


def _may_have_arrived(error: Unavailable) -> bool:
    return not isinstance(
        error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
    )


async def _are_stored(builder: RequestBuilder, held: Sequence[Row], keys: Sequence[Row]) -> bool:
    stored = await _read(builder, keys)
    return len(stored) == len(held) and all(
        all(value is ABSENT or value == there for value, there in zip(row, found, strict=True))
        for row, found in zip(held, stored, strict=True)
    )


async def _read(builder: RequestBuilder, keys: Sequence[Row]) -> Sequence[Row]:
    """Return the rows that have these keys, in their order."""
    info = builder.info
    found: dict[Row, Row] = {}
    for some in chunks(keys):
        rows = await read_rows(builder, [one_of(info.keys, some)], builder.ordering(()))
        found |= {info.key_of(row): row for row in rows}
    return [found[key] for key in keys if key in found]


def as_columns(info: ModelInfo[Any], values: Mapping[str, Any]) -> Columns:
    """Return what one row holds as columns."""
    return {name: [values.get(name, ABSENT)] for name in info.column_of}
