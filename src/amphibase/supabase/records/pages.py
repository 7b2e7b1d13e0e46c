"""Pages of a list, which a cursor continues."""

import json
from collections.abc import Mapping, Sequence
from operator import add
from typing import Any
from urllib.parse import urlencode

from amphibase.backend import Model, Order, Page, Where
from amphibase.records.model_info import ModelInfo
from amphibase.records.page_size import count_within, may_be_large
from amphibase.records.values import Row
from amphibase.supabase.records.loading import Loader
from amphibase.supabase.records.paged_read import read_records
from amphibase.supabase.records.request_builder import RequestBuilder


async def read_page(
    info: ModelInfo[Model],
    builder: RequestBuilder,
    where: Sequence[Where],
    order_by: Order,
    cursor: str | None,
    limit: int,
    loaders: Sequence[Loader],
) -> Page[Model]:
    """Fetch the rows of a page, with what is loaded with them.

    The page ends at its limit, or before the row that would make it too large.

    Raises:
        InvalidCursor: not a cursor of this list.
        InvalidRequest: a value that the list is ordered by is too long for a cursor.
    """
    order, filters = builder.ordering(order_by), builder.filters(*where)
    parameters = urlencode(builder.read_parameters(filters, order))
    list_ = f"{builder.info.table.fullname}?{parameters}"
    cursors, most = builder.shared.cursors, builder.shared.max_page_bytes
    if cursor is not None:
        after = order.after(order.read(cursors.read(list_, cursor)), compares_rows=False)
        filters = builder.with_condition(filters, after)
    for loader in loaders:
        loader.embed(filters)
    records = await read_records(builder, filters, order, limit + 1)
    page: Sequence[Mapping[str, Any]] = records[:limit]
    own_sizes = sizes = [_size_of(info, record) for record in page]
    for loader in loaders:
        sizes = [*map(add, sizes, _embedded_sizes(loader, page))]
    page = page[: count_within(sizes, most)]
    objects = info.objects(builder.codec.rows(page))
    for loader in loaders:
        await loader.fill(objects, page)
    if loaders:  # what was not embedded has come only now
        sizes = [*map(add, own_sizes, _loaded_sizes(loaders, objects))]
        page = page[: count_within(sizes, most)]
    if len(page) == len(records):
        return Page(objects, None)
    return Page(objects[: len(page)], cursors.write(list_, builder.position(order, page[-1])))


def _embedded_sizes(loader: Loader, records: Sequence[Mapping[str, Any]]) -> Sequence[int]:
    """Return the bytes of what is embedded in each row; of each related row once."""
    info, sizes = loader.info, []
    seen: set[Row] = set()
    for record in records:
        embedded = record[loader.alias] if loader.alias is not None else None
        related = embedded if isinstance(embedded, list) else [embedded] if embedded else []
        keyed = {tuple(each[key.name] for key in info.keys): each for each in related}
        sizes.append(sum(_size_of(info, each) for key, each in keyed.items() if key not in seen))
        seen.update(keyed)
    return sizes


def _loaded_sizes(loaders: Sequence[Loader], objects: Sequence[Any]) -> Sequence[int]:
    """Return the bytes of the related rows of each object, at every level; of each row once."""
    seen: set[int] = set()

    def size_of(loaders: Sequence[Loader], instance: Any) -> int:
        total = 0
        for loader in loaders:
            related = [each for each in loader.related_to(instance) if id(each) not in seen]
            seen.update(map(id, related))
            total += sum(_size_of_object(loader.info, each) for each in related)
            total += sum(size_of(loader.further, each) for each in related)
        return total

    return [size_of(loaders, each) for each in objects]


def _size_of(info: ModelInfo[Any], record: Mapping[str, Any]) -> int:
    """Return the bytes of a row, by those values that have no small limit."""
    return sum(_size(record[each.name]) for each in info.columns if may_be_large(each.type))


def _size_of_object(info: ModelInfo[Any], instance: Any) -> int:
    held = vars(instance)
    return sum(
        _size(held[name])
        for name, column in zip(info.names, info.columns, strict=True)
        if may_be_large(column.type)
    )


def _size(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bytes):
        return len(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return len(text) if text.isascii() else len(text.encode())
