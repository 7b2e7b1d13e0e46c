"""The contract of Repository, on every backend: a value comes back as it went in.

Whatever its type, whichever method wrote and read it; and a filter finds it."""

import enum
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from tests.backends import ANN, PREDICATES_ON_POSTGRES, Records
from tests.column_models import EveryKind, KeyedKinds, Kinds, Sample
from tests.models import Category, Level

from amphibase import SERVICE, Caller

examples = settings(
    max_examples=15,
    deadline=None,
    database=None,
    suppress_health_check=[*HealthCheck],
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
int16, int32, int64 = (st.integers(-(2**bits), 2**bits - 1) for bits in (15, 31, 63))
reals = st.floats(allow_nan=False, allow_infinity=False)
json = st.recursive(
    st.none() | st.booleans() | int32 | texts | st.floats(-1e6, 1e6, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(-0.4))])
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "short": st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5),
    "number": int32,
    "small": int16,
    "big": int64,
    "real": reals.map(lambda real: real + 0.0),  # SQLite keeps no sign of a zero
    "yes": st.booleans(),
    "exact": st.decimals(
        allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40
    )
    | st.decimals(-1, 1, places=30),
    "money": st.decimals(-99999999, 99999999, places=2),
    "moment": st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones),
    "day": st.dates(),
    "clock": st.times(),
    "duration": st.timedeltas(timedelta(days=-700_000), timedelta(days=2_000_000)),
    "uid": st.uuids(),
    "data": st.binary(max_size=50),
    "category": st.sampled_from(Category),
    "level": st.sampled_from(Level),
    "mapping": st.dictionaries(texts, json, max_size=4),
    "things": st.lists(json, max_size=4),
    "mappings": st.lists(st.dictionaries(texts, json, max_size=3), max_size=3),
    "words": st.lists(texts, max_size=4),
    "numbers": st.lists(int64, max_size=4),
    "reals": st.lists(reals, max_size=4),
    "answers": st.lists(st.booleans(), max_size=4),
}
rows = st.fixed_dictionaries({name: st.none() | values for name, values in COLUMNS.items()})


def check(given: dict[str, Any], *found: EveryKind | None) -> None:
    for row in found:
        assert row is not None
        for name, value in given.items():
            stored = getattr(row, name)
            assert stored == value, name
            assert type(stored) is type(value), name
            if isinstance(value, datetime):
                assert stored.utcoffset() == timedelta(0), name
            if isinstance(value, float):
                assert math.copysign(1, stored) == math.copysign(1, value), name


async def read_all(records: Records, key: int) -> list[Kinds | None]:
    kinds, by = records.of(Kinds, ANN), Kinds.id == key
    return [
        await kinds.get(key),
        await kinds.one(by),
        *await kinds.list(by),
        *(await kinds.page(by)).items,
        *[row async for row in kinds.stream(by)],
    ]


@PREDICATES_ON_POSTGRES
@given(first=rows, second=rows)
@examples
async def test_what_add_and_update_wrote_is_read_as_it_was(
    records: Records, first: dict[str, Any], second: dict[str, Any]
) -> None:
    kinds = records.of(Kinds, ANN)
    stored = await kinds.add(Kinds(**first))
    check(first, stored, *await read_all(records, stored.id))
    changed = await kinds.update(stored.id, **second)
    check(second, changed, *await read_all(records, stored.id))
    assert await kinds.update_where(Kinds.id == stored.id, **first) == 1
    check(first, *await read_all(records, stored.id))
    replaced = await kinds.upsert(Kinds(id=stored.id, **second))
    check(second, replaced, await kinds.get(stored.id))


@PREDICATES_ON_POSTGRES
@given(given=st.lists(rows, min_size=1, max_size=4), keyed=st.booleans())
@examples
async def test_what_add_many_wrote_is_read_as_it_was(
    records: Records, given: list[dict[str, Any]], keyed: bool
) -> None:
    kinds = records.of(Kinds, ANN)
    await kinds.delete_where(everything=True)
    keys = [{"id": 10**8 + n} if keyed else {} for n in range(len(given))]
    stored = await kinds.add_many(
        [Kinds(**key, **values) for key, values in zip(keys, given, strict=True)]
    )
    for values, row in zip(given, stored, strict=True):
        check(values, row, *await read_all(records, row.id))


@PREDICATES_ON_POSTGRES
@given(given=st.lists(rows, min_size=1, max_size=4))
@pytest.mark.parametrize("caller", [ANN, SERVICE], ids=["ann", "service"])
@examples
async def test_what_add_many_wrote_with_keys_of_python_is_read_as_it_was(
    records: Records, caller: Caller, given: list[dict[str, Any]]
) -> None:
    kinds = records.of(KeyedKinds, caller)
    stored = await kinds.add_many([KeyedKinds(**values) for values in given])
    for values, row in zip(given, stored, strict=True):
        check(values, row, await kinds.get(row.id))


DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
UTC_DAY = datetime(2026, 1, 1, tzinfo=UTC)
THREE: dict[str, tuple[Any, Any, Any]] = {
    "text": ("", "a", "é"),
    "number": (-1, 0, 2**31 - 1),
    "small": (-(2**15), 0, 7),
    "big": (-(2**63), 0, 2**63 - 1),
    "real": (-1.5, 0.0, 1e300),
    "yes": (False, True, None),
    "exact": (Decimal("-100"), Decimal("0.0000000000000000000000001"), Decimal("9")),
    "money": (Decimal("-100.10"), Decimal("0.00"), Decimal("9.99")),
    "moment": (UTC_DAY, UTC_DAY + timedelta(microseconds=1), UTC_DAY.replace(year=2027)),
    "day": (date(1, 1, 1), date(2026, 1, 1), date(9999, 12, 31)),
    "clock": (time(0), time(1, 2, 3, 4), time(23, 59)),
    "duration": (timedelta(days=-5), timedelta(0), timedelta(microseconds=1)),
    "uid": (UUID(int=0), UUID(int=1), UUID(int=2**127)),
    "data": (b"", b"\x00", b"\xff"),
    "category": (Category.NEWS, Category.OPINION, None),
    "level": (Level.LOW, Level.HIGH, None),
}
MANY_TYPES: dict[str, dict[str, str]] = {
    "the model's own": {},
    "wider": {"small": "int8", "number": "int8"},
    "numeric": {"big": "numeric"},
    "narrower": {"real": "real"},
    "timestamp": {"moment": "timestamp"},
    "char": {"short": "char(5)"},
}


@PREDICATES_ON_POSTGRES
@pytest.mark.parametrize("types", MANY_TYPES.values(), ids=MANY_TYPES)
async def test_a_thousand_rows_are_read_as_they_were(
    records: Records, types: dict[str, str]
) -> None:
    """Whatever types the table has, as long as they can hold the values."""
    if types and records.is_sqlite:
        pytest.skip("SQLite's columns take every type")
    values: dict[str, Sequence[Any]] = {
        **{name: items for name, items in THREE.items() if hasattr(Sample, name)},
        "short": ("abcde", "vwxyz", None),
        "real": (-1.5, 0.0, 1024.25),
        "mapping": ({}, {"a": [1, None, "é"]}, None),
        "small": (-(2**15), None, 7),
    }
    items = [{name: three[n % 3] for name, three in values.items()} for n in range(1200)]
    samples = records.of(Sample)
    async with other_types(records, types):
        stored = await samples.add_many([Sample(**each) for each in items])
        read = {row.id: row async for row in samples.stream()}
        for row, each in zip(stored, items, strict=True):
            for name, value in each.items():
                assert getattr(row, name) == value, name
                assert type(getattr(row, name)) is type(value), name
                assert getattr(read[row.id], name) == value, name
        await samples.delete_where(everything=True)


@asynccontextmanager
async def other_types(records: Records, types: dict[str, str]) -> AsyncIterator[None]:
    """Other types for columns of the samples' table."""
    own = {name: Sample.__table__.c[name].type.compile(DIALECT) for name in types}

    async def become(names: dict[str, str]) -> None:
        changes = [
            f'ALTER TABLE t_samples ALTER "{name}" TYPE {type_}' for name, type_ in names.items()
        ]
        await records.execute(*map(text, changes))

    await become(types)
    try:
        yield
    finally:
        await become(own)


UNORDERED = ("yes", "category", "level")


@PREDICATES_ON_POSTGRES
@pytest.mark.parametrize("name", THREE)
async def test_filters_find_what_they_should(records: Records, name: str) -> None:
    kinds, values = records.of(Kinds, ANN), THREE[name]
    stored = await kinds.add_many([Kinds(**{name: value}) for value in (*values, None)])
    column: Any = getattr(Kinds, name)
    first, second, third = values

    async def found(filter: Any) -> list[Any]:
        rows = await kinds.list(filter, order_by=[Kinds.id])
        assert await kinds.count(filter) == len(rows)
        return [getattr(row, name) for row in rows]

    for value in (first, second):
        assert await found(column == value) == [value]
        assert await found(column != value) == [v for v in values if v not in (value, None)]
    assert await found(column.in_([first, second])) == [first, second]
    assert await found(column.in_([second])) == [second]
    assert await found(column.in_([])) == []
    assert await found(column.not_in([first])) == [v for v in values[1:] if v is not None]
    assert await found(column == None) == [v for v in (*values, None) if v is None]  # noqa: E711
    assert await found(column.is_(None)) == [v for v in (*values, None) if v is None]
    assert await found(column.is_not(None)) == [v for v in values if v is not None]
    if name not in UNORDERED:
        assert await found(column < second) == [first]
        assert await found(column <= second) == [first, second]
        assert await found(column > first) == [v for v in values[1:] if v is not None]
        assert await found(column.between(first, second)) == [first, second]
        ordered = await kinds.list(order_by=[column.desc(), Kinds.id])
        assert [getattr(row, name) for row in ordered][-2:] == [second, first]
    assert await kinds.delete_where(column == second) == 1
    assert await kinds.update_where(column.in_([first, third]), text="x") >= 1
    assert await kinds.count() == len(stored) - 1


@PREDICATES_ON_POSTGRES
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("words", [[], ["a"], ["a", "é"]]),
        ("numbers", [[], [0], [0, -(2**63)]]),
        ("reals", [[], [0.5], [0.5, 1e300]]),
        ("answers", [[], [True], [True, False]]),
        ("mapping", [{}, {"a": 1}, {"a": {"é": [None, True]}}]),
        ("things", [[], [1], [1, "é", {"a": []}]]),
        ("mappings", [[], [{}], [{"a": 1}, {"b": [2]}]]),
    ],
)
async def test_filters_find_lists_and_json(records: Records, name: str, values: list[Any]) -> None:
    kinds = records.of(Kinds, ANN)
    await kinds.add_many([Kinds(**{name: value}) for value in (*values, None)])
    column: Any = getattr(Kinds, name)
    for value in values:
        rows = await kinds.list(column == value)
        assert [getattr(row, name) for row in rows] == [value]
    assert await kinds.count(column.is_(None)) == 1
    assert await kinds.count(column.is_not(None)) == 3


@PREDICATES_ON_POSTGRES
async def test_none_is_null(records: Records) -> None:
    kinds = records.of(Kinds, ANN)
    empty: dict[str, Any] = dict.fromkeys(COLUMNS)
    added = await kinds.add(Kinds(**empty))
    (many,) = await kinds.add_many([Kinds(id=10**8, **empty)])
    full = await kinds.add(Kinds(number=1, mapping={"a": 1}, words=["a"]))
    await kinds.update(full.id, **empty)
    for name in COLUMNS:
        assert await kinds.count(getattr(Kinds, name).is_(None)) == 3, name
    check(empty, *[await kinds.get(row.id) for row in (added, many, full)])


def test_the_values_are_of_every_column() -> None:
    columns = {attribute.key for attribute in Kinds.__mapper__.column_attrs}
    assert columns == {"id", *COLUMNS}
    assert issubclass(Category, enum.Enum)
