"""The contract of Repository, on every backend: values that no column takes are rejected."""

import functools
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import bindparam, text
from tests.backends import ANN, PREDICATES_ON_POSTGRES, Records
from tests.column_models import KeyedKinds, Kinds, Seat, Wide
from tests.models import Category, Level, Note, Post

from amphibase import InvalidRequest, InvalidValue

pytestmark = PREDICATES_ON_POSTGRES

REFUSED = (InvalidValue, InvalidRequest)

NESTED = functools.reduce(lambda inner, _: [inner], range(400), list[Any]())

# What no column of that type can hold, on any records.
BAD: list[tuple[str, Any]] = [
    ("text", b"bytes"),
    ("text", "a\x00b"),
    ("text", "\ud800"),
    ("short", "sixsix"),
    ("number", "abc"),
    ("number", 2**31),
    ("number", -(2**31) - 1),
    ("number", 10**30),
    ("number", 1.5),
    ("number", float("nan")),
    ("small", 2**15),
    ("big", 2**63),
    ("big", 10**100),
    ("real", "abc"),
    ("real", float("nan")),
    ("yes", "maybe"),
    ("yes", 2),
    ("exact", "abc"),
    ("money", "abc"),
    ("money", 10**9),
    ("money", Decimal("99999999.999")),  # which is rounded up
    ("exact", Decimal("1e131072")),
    ("exact", Decimal("1e-16384")),
    ("moment", datetime(2026, 1, 1)),
    ("moment", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))),
    ("moment", "yesterday"),
    ("moment", 5),
    ("day", "yesterday"),
    ("clock", "noon"),
    ("clock", 12),
    ("duration", "long"),
    ("uid", "abc"),
    ("uid", 5),
    ("data", "text"),
    ("data", 5),
    ("category", "gossip"),
    ("category", 5),
    ("level", "MIDDLE"),
    ("mapping", {"a": 1j}),
    ("mapping", {"a": "x\x00y"}),
    ("mapping", {"a": float("nan")}),
    ("mapping", {1: "a"}),
    ("mapping", {"a": NESTED}),
    ("things", [1j]),
    ("things", NESTED),
    ("words", "word"),
    ("words", ["a\x00b"]),
    ("numbers", ["abc"]),
    ("numbers", [2**63]),
    ("numbers", 5),
    ("reals", ["abc"]),
    ("answers", ["maybe"]),
]
each_bad = pytest.mark.parametrize(
    ("name", "value"), BAD, ids=[f"{name}-{value!r}"[:40] for name, value in BAD]
)
# Columns that filters do not compare to parts of them, and values that they may be compared to.
NOT_COMPARED = ("mapping", "things", "mappings", "words", "numbers", "reals", "answers")
COMPARED = [
    ("short", "sixsix"),
    ("money", 10**9),
    ("money", Decimal("99999999.999")),
    ("number", 1.5),
    ("yes", 2),
]
each_filter = pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, value in BAD
        if name not in NOT_COMPARED and (name, value) not in COMPARED and value == value
    ],
    ids=repr,
)


async def not_rejected(work: Callable[[], Awaitable[Any]]) -> str | None:
    """None where the work is rejected as it should be, else what came of it."""
    try:
        found = await work()
    except REFUSED:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]}"
    return f"gave {found!r}"


@each_bad
async def test_no_method_stores_a_value_that_its_column_cannot_hold(
    records: Records, name: str, value: Any
) -> None:
    kinds = records.of(Kinds, ANN)
    row = await kinds.add(Kinds(number=1))
    values: Any = {name: value}
    works: dict[str, Callable[[], Awaitable[Any]]] = {
        "add": lambda: kinds.add(Kinds(**values)),
        "add_many": lambda: kinds.add_many([Kinds(number=2), Kinds(**values)]),
        "add_many with keys": lambda: kinds.add_many([Kinds(id=10**6, **values)]),
        "upsert": lambda: kinds.upsert(Kinds(id=row.id, **values)),
        "update": lambda: kinds.update(row.id, **values),
        "update_where": lambda: kinds.update_where(Kinds.number == 1, **values),
    }
    found = {each: await not_rejected(work) for each, work in works.items()}
    assert found == dict.fromkeys(works)
    assert await kinds.count() == 1


GOOD: dict[str, Any] = {
    "text": "é",
    "short": "a",
    "number": 0,
    "small": 1,
    "big": -(2**63),
    "real": 0.5,
    "yes": True,
    "exact": Decimal("0.1"),
    "money": Decimal("1.50"),
    "moment": datetime(2026, 1, 1, tzinfo=UTC),
    "day": date(2026, 1, 1),
    "clock": time(1, 2),
    "duration": timedelta(1),
    "uid": uuid4(),
    "data": b"\x00",
    "category": Category.NEWS,
    "level": Level.LOW,
    "mapping": {"a": 1},
    "things": [1],
    "words": ["a"],
    "numbers": [1],
    "reals": [0.5],
    "answers": [True],
}


@each_bad
@pytest.mark.parametrize("model", [Kinds, KeyedKinds])
async def test_one_bad_value_among_good_ones_is_rejected_and_named(
    records: Records, model: type[Any], name: str, value: Any
) -> None:
    values = [GOOD[name], None, GOOD[name], value, GOOD[name]]
    rows = [model(**{name: each}) for each in values] + [model()]
    with pytest.raises(InvalidValue) as caught:
        await records.of(model, ANN).add_many(rows)
    assert caught.value.field == name
    assert await records.of(model).count() == 0


@each_filter
async def test_no_filter_finds_a_value_that_its_column_cannot_hold(
    records: Records, name: str, value: Any
) -> None:
    """It is rejected, or finds nothing; a driver's error is never what comes of it."""
    kinds = records.of(Kinds, ANN)
    await kinds.add(Kinds(number=1))
    column: Any = getattr(Kinds, name)
    filters = [column == value, column.in_([value])]
    works: dict[str, Callable[[], Awaitable[Any]]] = {}
    for n, filter in enumerate(filters):
        works |= {
            f"{n} list": lambda filter=filter: kinds.list(filter),  # type: ignore[misc]
            f"{n} count": lambda filter=filter: kinds.count(filter),  # type: ignore[misc]
            f"{n} delete": lambda filter=filter: kinds.delete_where(filter),  # type: ignore[misc]
        }
    for each, work in works.items():
        assert await not_rejected(work) in (None, "gave []", "gave 0"), each
    assert await kinds.count() == 1


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (Note, "abc"),
        (Note, "a\x00b"),
        (Note, 5),
        (Note, date(2026, 1, 1)),
        (Note, [1]),
        (Note, {}),
        (Note, (uuid4(), uuid4())),
        (Kinds, "abc"),
        (Kinds, 2**31),
        (Kinds, 10**30),
        (Kinds, 1.5),
        (Kinds, uuid4()),
        (Seat, ("a", 1)),
        (Seat, (1, None, 2)),
    ],
)
async def test_no_method_takes_a_key_that_cannot_be_one(
    records: Records, model: type[Any], key: Any
) -> None:
    rows = records.of(model, ANN)
    change: Any = {{Note: "title", Kinds: "text", Seat: "label"}[model]: "x"}
    works: dict[str, Callable[[], Awaitable[Any]]] = {
        "get": lambda: rows.get(key),
        "update": lambda: rows.update(key, **change),
        "delete": lambda: rows.delete(key),
    }
    found = {each: await not_rejected(work) for each, work in works.items()}
    assert found == dict.fromkeys(works)


async def test_a_rejection_names_the_column(records: Records) -> None:
    for values, name in (
        ({"number": "abc"}, "number"),
        ({"moment": datetime(2026, 1, 1)}, "moment"),
        ({"number": 2**31}, "number"),
    ):
        given: Any = values
        with pytest.raises(InvalidValue) as caught:
            await records.of(Kinds, ANN).add(Kinds(**given))
        assert caught.value.field == name


async def test_a_value_comes_back_as_its_column_keeps_it(records: Records) -> None:
    """What can be turned into the column's type is, whichever method stores it."""
    values: dict[str, Any] = {
        "real": 1,
        "exact": 5,
        "money": Decimal("1.5"),
        "moment": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        "reals": [1],
    }
    kinds = records.of(Kinds, ANN)
    every: dict[str, Any] = dict.fromkeys(Kinds.__table__.c.keys()) | values
    stored = [
        await kinds.add(Kinds(**values)),
        *await kinds.add_many([Kinds(**values)]),
        *await kinds.add_many([Kinds(**every | {"id": 10**6})]),
        await kinds.upsert(Kinds(**values | {"id": 10**7})),
    ]
    for row in stored:
        read = await kinds.get(row.id)
        for name in values:
            value, kept = getattr(row, name), getattr(read, name)
            assert (value, type(value)) == (kept, type(kept)), name
            assert value == values[name]
        assert type(row.real) is float
        assert type(row.exact) is Decimal


async def test_a_wide_decimal_is_rounded_to_its_scale(records: Records) -> None:
    """With more digits than Python's decimals compute with by default."""
    wide = Decimal("1234567890123456789012345678.123")
    row = await records.of(Wide).add(Wide(value=wide))
    kept = Decimal("1234567890123456789012345678.12")
    if records.is_sqlite:  # which keeps 15 digits of a Numeric
        assert abs(row.value - kept) < Decimal(10) ** 14
    else:
        assert row.value == kept
        assert await records.of(Wide).count(Wide.value == kept) == 1


@pytest.mark.parametrize("model", [Kinds, KeyedKinds])
async def test_each_of_many_values_comes_back_as_its_column_keeps_it(
    records: Records, model: type[Any]
) -> None:
    """Also where some are as the column keeps them, and some are not."""
    east = timezone(timedelta(hours=2))
    columns: dict[str, list[Any]] = {
        "real": [0.5, 1, None],
        "exact": [Decimal("0.1"), 5, None],
        "money": [Decimal("1.50"), Decimal("1.5"), None],
        "moment": [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=east), None],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    kinds = records.of(model, ANN)
    stored = await kinds.add_many([model(**row) for row in rows] + [model()])
    for row, given in zip(stored, [*rows, {}], strict=True):
        read = await kinds.get(row.id)
        for name in columns:
            value, kept = getattr(row, name), getattr(read, name)
            assert (str(value), type(value)) == (str(kept), type(kept)), name
            assert value == given.get(name)


async def test_a_text_that_is_too_long_is_rejected_everywhere(records: Records) -> None:
    with pytest.raises(InvalidValue):
        await records.of(Post, ANN).add(Post(title="x" * 51))
    post = await records.of(Post, ANN).add(Post(title="é" * 50))
    with pytest.raises(InvalidValue):
        await records.of(Post, ANN).update(post.id, title="x" * 51)


async def test_an_attempt_to_inject_is_a_value_like_any_other(records: Records) -> None:
    notes = records.of(Note, ANN)
    words = "'; DROP TABLE t_notes; -- \" \\ %s %(a)s :a ? $1 {0}"
    note = await notes.add(Note(title=words, stars=1))
    assert (await notes.one(Note.title == words)).id == note.id
    assert await notes.count(Note.title.in_([words, "x"])) == 1
    assert await notes.update_where(Note.title == words, title=words * 2) == 1
    assert (await notes.get(note.id)).title == words * 2  # type: ignore[union-attr]


@pytest.mark.parametrize("filter", ["stars > 3", 5, None, "1=1"])
async def test_what_is_no_expression_is_no_filter(records: Records, filter: Any) -> None:
    notes = records.of(Note, ANN)
    await notes.add(Note(title="x", stars=1))
    for work in (notes.list, notes.count, notes.delete_where, notes.exists, notes.page):
        with pytest.raises(InvalidRequest):
            await work(filter)
    with pytest.raises(InvalidRequest):
        await notes.update_where(filter, title="y")
    assert await notes.count() == 1


@pytest.mark.requires("long_filters")
async def test_more_values_than_can_be_sent_are_rejected(records: Records) -> None:
    notes = records.of(Note, ANN)
    await notes.add(Note(title="7", stars=7))
    for count in (30_000, 30_001):
        looked_for = Note.stars.in_(range(count))
        works: list[Callable[[], Awaitable[Any]]] = [
            lambda: notes.count(looked_for),  # noqa: B023 - called at once
            lambda: notes.update_where(looked_for, title="8"),  # noqa: B023
        ]
        for work in works:
            if count == 30_000:
                assert await work() == 1
            else:
                with pytest.raises(InvalidRequest, match="At most 30000"):
                    await work()


@pytest.mark.requires("sql_expressions")
async def test_a_filter_of_text_takes_its_parameters(records: Records) -> None:
    notes = records.of(Note, ANN)
    await notes.add_many([Note(title="x", stars=n) for n in range(3)])
    filter: Any = text("stars > :least").bindparams(bindparam("least", 1))
    assert await notes.count(filter) == 1
    assert [note.stars for note in await notes.list(filter)] == [2]
