"""The contract of Repository, on every backend: who may do what, for each kind of declaration.

The rows are Ann's and Bob's. What a caller is granted must be there, and what not must not; and
each guard is dropped once, to see that the checks notice.
"""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import and_, literal_column, text
from tests.backends import ADMIN, ANN, BOB, CALLERS, Records
from tests.models import Bill, Board, Letter, Note, Post, Report, Secret

from amphibase import (
    AmphibaseError,
    Caller,
    Conflict,
    Forbidden,
    InvalidValue,
    Unauthenticated,
)

# For each declaration, each caller: whose rows they see, whose they change, and whether they add.
NOTHING, BOTH = "", "ab"
TABLE: dict[type[Any], dict[str, tuple[str, str, bool]]] = {
    Note: {
        "anonymous": (NOTHING, NOTHING, False),
        "ann": ("a", "a", True),
        "bob": ("b", "b", True),
        "admin": (NOTHING, NOTHING, True),
        "service": (BOTH, BOTH, True),
    },
    Post: {
        "anonymous": (BOTH, NOTHING, False),
        "ann": (BOTH, "a", True),
        "bob": (BOTH, "b", True),
        "admin": (BOTH, NOTHING, True),
        "service": (BOTH, BOTH, True),
    },
    Report: {
        "anonymous": (NOTHING, NOTHING, False),
        "ann": ("a", "a", True),
        "bob": ("b", "b", True),
        "admin": (BOTH, BOTH, True),
        "service": (BOTH, BOTH, True),
    },
    Bill: {
        "anonymous": (NOTHING, NOTHING, False),
        "ann": ("a", NOTHING, False),
        "bob": ("b", NOTHING, False),
        "admin": (NOTHING, NOTHING, True),
        "service": (BOTH, BOTH, True),
    },
    Board: {
        "anonymous": (NOTHING, NOTHING, False),
        "ann": (BOTH, NOTHING, False),
        "bob": (BOTH, NOTHING, False),
        "admin": (BOTH, BOTH, True),
        "service": (BOTH, BOTH, True),
    },
    Letter: {
        "anonymous": (NOTHING, NOTHING, True),
        "ann": (NOTHING, NOTHING, True),
        "bob": (NOTHING, NOTHING, True),
        "admin": (BOTH, BOTH, True),
        "service": (BOTH, BOTH, True),
    },
    Secret: {
        "anonymous": (NOTHING, NOTHING, False),
        "ann": (NOTHING, NOTHING, False),
        "bob": (NOTHING, NOTHING, False),
        "admin": (NOTHING, NOTHING, False),
        "service": (BOTH, BOTH, True),
    },
}
# Those who get an error, and not only nothing, when they change a row.
REJECTED: dict[tuple[type[Any], str], type[AmphibaseError]] = {
    (Secret, name): Forbidden for name in ("ann", "bob", "admin")
}
REJECTED |= {(model, "anonymous"): Unauthenticated for model in TABLE}
CASES = [(model, name) for model in TABLE for name in CALLERS]
each_case = pytest.mark.parametrize(
    ("model", "who"), CASES, ids=[f"{model.__name__}-{name}" for model, name in CASES]
)


def label(model: type[Any]) -> Any:
    """The column of a model that the tests write."""
    return {Board: Board.name, Secret: Secret.text}.get(model) or model.title


def made(model: type[Any], value: str, owner: Any = None) -> Any:
    row = model(**{label(model).key: value})
    if model is Note:
        row.stars = 1
    if owner is not None and hasattr(model, "owner_id"):
        row.owner_id = owner
    return row


async def two_rows(records: Records, model: type[Any]) -> dict[str, Any]:
    """A row of Ann's, "a", and one of Bob's, "b"."""
    await records.of(model).delete_where(everything=True)
    rows = [made(model, "a", ANN.user_id), made(model, "b", BOB.user_id)]
    return dict(zip("ab", await records.of(model).add_many(rows), strict=True))


async def labels(records: Records, model: type[Any]) -> list[str]:
    rows = await records.of(model).list(order_by=[label(model)])
    return [getattr(row, label(model).key) for row in rows]


async def check_reading(records: Records, model: type[Any], who: str) -> None:
    sees, _, _ = TABLE[model][who]
    stored = await two_rows(records, model)
    rows, by = records.of(model, CALLERS[who]), label(model)
    for name, row in stored.items():
        found = await rows.get(row.id)
        assert (found is not None) == (name in sees), f"get {name}"
        assert await rows.exists(by == name) == (name in sees), f"exists {name}"
        assert (await rows.first(by == name) is not None) == (name in sees), f"first {name}"
    assert await rows.count() == len(sees)
    for found in (
        await rows.list(order_by=[by]),
        (await rows.page(order_by=[by])).items,
        [row async for row in rows.stream(order_by=[by])],
    ):
        assert [getattr(row, by.key) for row in found] == [*sees]


async def attempt(work: Any) -> Any:
    """What the work gives, or the class of its error."""
    try:
        return await work
    except AmphibaseError as error:
        return type(error)


async def check_adding(records: Records, model: type[Any], who: str) -> None:
    _, _, may = TABLE[model][who]
    caller = CALLERS[who]
    await two_rows(records, model)
    owner = ANN.user_id if who == "service" else None
    rows = records.of(model, caller)
    rejected = Unauthenticated if who == "anonymous" else Forbidden
    works: dict[str, Callable[[], Any]] = {
        "added": lambda: rows.add(made(model, "added", owner)),
        "many": lambda: rows.add_many([made(model, "many", owner)]),
        "upserted": lambda: rows.upsert(made(model, "upserted", owner)),
    }
    for name, work in works.items():
        result = await attempt(work())
        assert (result is rejected) == (not may), f"{name}: {result}"
        assert (name in await labels(records, model)) == may, name
    for row in await records.of(model).list(label(model).in_([*works])):
        if hasattr(model, "owner_id"):
            assert row.owner_id == (owner or caller.user_id)


async def check_changing(records: Records, model: type[Any], who: str) -> None:
    sees, changes, _ = TABLE[model][who]
    rows, by = records.of(model, CALLERS[who]), label(model)
    rejected = REJECTED.get((model, who))
    stored = await two_rows(records, model)
    for name, row in stored.items():
        change: Any = {by.key: f"{name}!"}
        result = await attempt(rows.update(row.id, **change))
        if name in changes:
            assert getattr(result, by.key) == f"{name}!"
        else:
            expected = rejected or (Forbidden if name in sees else None)
            assert result is expected, f"update {name}: {result}"
    assert await labels(records, model) == [f"{n}!" if n in changes else n for n in "ab"]
    await two_rows(records, model)
    key = by.key
    values: dict[str, Any] = {} if model is Board else {key: "x"}
    if values:
        result = await attempt(rows.update_where(everything=True, **values))
        assert result == (rejected or len(changes)), f"update_where: {result}"
        assert sorted(await labels(records, model)) == sorted(
            "x" if name in changes else name for name in "ab"
        )


async def check_upserting(records: Records, model: type[Any], who: str) -> None:
    _, changes, may = TABLE[model][who]
    rows, by = records.of(model, CALLERS[who]), label(model)
    stored = await two_rows(records, model)
    for name, row in stored.items():
        given = made(model, f"{name}!", ANN.user_id if who == "service" else None)
        given.id = row.id
        result = await attempt(rows.upsert(given))
        if name in changes:
            assert getattr(result, by.key) == f"{name}!"
        else:
            assert isinstance(result, type), f"upsert {name}"
            rejected = Unauthenticated if who == "anonymous" else Forbidden
            assert result is (Conflict if may else rejected), f"upsert {name}: {result}"
    assert await labels(records, model) == [f"{n}!" if n in changes else n for n in "ab"]


async def check_deleting(records: Records, model: type[Any], who: str) -> None:
    sees, changes, _ = TABLE[model][who]
    rows = records.of(model, CALLERS[who])
    rejected = REJECTED.get((model, who))
    stored = await two_rows(records, model)
    for name, row in stored.items():
        result = await attempt(rows.delete(row.id))
        expected = Forbidden if name in sees and name not in changes else name in changes
        assert result == (rejected or expected), f"delete {name}: {result}"
    left = [name for name in "ab" if name not in changes]
    assert await labels(records, model) == left
    await two_rows(records, model)
    result = await attempt(rows.delete_where(everything=True))
    assert result == (rejected or len(changes)), f"delete_where: {result}"
    assert await labels(records, model) == left


CHECKS = {
    "reading": check_reading,
    "adding": check_adding,
    "changing": check_changing,
    "upserting": check_upserting,
    "deleting": check_deleting,
}


@pytest.mark.parametrize("operation", CHECKS)
@each_case
async def test_a_caller_is_granted_what_is_declared_and_no_more(
    records: Records, model: type[Any], who: str, operation: str
) -> None:
    await CHECKS[operation](records, model, who)


class TestOwners:
    async def test_an_administrator_adds_for_others_where_the_rule_admits_them(
        self, records: Records
    ) -> None:
        models: list[Any] = [Report, Bill]
        for model in models:
            row = await records.of(model, ADMIN).add(made(model, "x", ANN.user_id))
            assert row.owner_id == ANN.user_id
            assert await records.of(model, ANN).get(row.id) is not None
        with pytest.raises(InvalidValue) as caught:
            await records.of(Note, ADMIN).add(made(Note, "x", ANN.user_id))
        assert caught.value.field == "owner_id"

    async def test_nobody_takes_or_gives_away_a_row(self, records: Records) -> None:
        cases: list[tuple[Any, Caller]] = [(Note, ANN), (Post, BOB), (Report, ANN)]
        for model, caller in [*cases, (Report, ADMIN)]:
            stored = await two_rows(records, model)
            for row in stored.values():
                for owner in (ANN.user_id, BOB.user_id):
                    with pytest.raises(InvalidValue) as caught:
                        await records.of(model, caller).update(row.id, owner_id=owner)
                    assert caught.value.field == "owner_id"
            owners = {row.owner_id async for row in records.of(model).stream()}
            assert owners == {ANN.user_id, BOB.user_id}

    async def test_an_upsert_does_not_take_a_row(self, records: Records) -> None:
        stored = await two_rows(records, Report)
        given = made(Report, "x")
        given.id = stored["a"].id
        changed = await records.of(Report, ADMIN).upsert(given)
        assert (changed.title, changed.owner_id) == ("x", ANN.user_id)

    async def test_a_filter_does_not_reach_around_the_rule(self, records: Records) -> None:
        await two_rows(records, Note)
        notes = records.of(Note, ANN)
        for filter in (Note.owner_id == BOB.user_id, (Note.title == "b") | (Note.title == "a")):
            assert "b" not in [row.title for row in await notes.list(filter)]
        assert await notes.update_where((Note.stars == 1) | (Note.stars == 2), stars=5) == 1
        assert await notes.delete_where((Note.stars == 1) | (Note.stars == 5)) == 1
        assert [row.title for row in await records.of(Note).list()] == ["b"]

    @pytest.mark.parametrize(
        "make", [text, literal_column, lambda words: and_(text(words), Note.title != "z")]
    )
    @pytest.mark.requires("sql_expressions")
    async def test_a_filter_of_text_does_not_reach_around_the_rule(
        self, records: Records, make: Callable[[str], Any]
    ) -> None:
        await two_rows(records, Note)
        notes, filter = records.of(Note, ANN), make("stars = 5 OR 1 = 1 OR stars = 6")
        assert await notes.count(filter) == await notes.update_where(filter, stars=7) == 1
        rows = [*await notes.list(filter), *(await notes.page(filter)).items]
        rows += [row async for row in notes.stream(filter)]
        assert [row.title for row in rows] == ["a"] * 3
        assert await records.of(Note, BOB).exists(Note.title == "a", filter) is False
        assert await notes.delete_where(filter) == 1
        assert [(row.title, row.stars) for row in await records.of(Note).list()] == [("b", 1)]


class TestInATransaction:
    @pytest.mark.parametrize("model", [Note, Post, Board, Secret])
    @pytest.mark.requires("transactions")
    async def test_the_same_rows_are_seen_as_outside(
        self, records: Records, model: type[Any]
    ) -> None:
        await two_rows(records, model)
        for who, (sees, _, _) in TABLE[model].items():
            async with records.backend.transaction(CALLERS[who]) as transaction:
                repository = transaction.repository(model)
                rows = await repository.list(order_by=[label(model)])
                assert [getattr(row, label(model).key) for row in rows] == [*sees]
                assert len([row async for row in repository.stream()]) == len(sees)
                assert await repository.count() == len(sees)  # the transaction goes on
