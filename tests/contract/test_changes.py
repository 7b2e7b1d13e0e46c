"""Streams of changes: each caller gets those of the rows that they may see, once they commit."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from sqlalchemy import text
from tests.backends import ANN, BOB, Records
from tests.column_models import Dose, Seat
from tests.models import Note, Task

from amphibase import ANONYMOUS, SERVICE, Caller
from amphibase.backend import Added, Changed, ChangeEvent, Changes, Lost, Removed
from amphibase.errors import InvalidRequest

pytestmark = pytest.mark.requires("change_log")

SECONDS = 60
"""How long a test waits for an event at most."""


async def events(changes: Changes[Any], count: int) -> list[ChangeEvent[Any]]:
    async with asyncio.timeout(SECONDS):
        return [await anext(changes) for _ in range(count)]


def described(of: Sequence[ChangeEvent[Any]]) -> list[tuple[str, Any]]:
    """Each event by its class, with the title or the key of its row."""
    return [
        (type(each).__name__, each.key if isinstance(each, Removed) else each.row.title)
        for each in of
        if not isinstance(each, Lost)
    ]


@pytest.fixture
async def ann(records: Records) -> AsyncIterator[Changes[Task]]:
    async with records.backend.changes(Task, ANN) as changes:
        yield changes


async def end_of(records: Records, changes: Changes[Task], owner: Caller = ANN) -> None:
    """Check that nothing more comes than a row that is added now."""
    await records.of(Task, owner).add(Task(title="the end"))
    assert described(await events(changes, 1)) == [("Added", "the end")]


class TestAStream:
    async def test_has_what_is_added_changed_and_deleted(
        self, records: Records, ann: Changes[Task]
    ) -> None:
        tasks = records.of(Task, ANN)
        task = await tasks.add(Task(title="tea", stars=3, weight=0.1))
        (added,) = await events(ann, 1)
        assert isinstance(added, Added)
        assert (added.row.id, added.row.weight, added.row.created_at) == (
            task.id,
            0.1,
            task.created_at,
        )
        await tasks.update(task.id, title="cake")
        (changed,) = await events(ann, 1)
        assert isinstance(changed, Changed)
        assert changed.row.title == "cake"
        await tasks.with_deleted().delete(task.id)
        assert await events(ann, 1) == [Removed(task.id, ann.cursor)]

    async def test_has_no_rows_of_others(self, records: Records, ann: Changes[Task]) -> None:
        tasks = records.of(Task, BOB)
        task = await tasks.add(Task(title="bob's"))
        await tasks.update(task.id, title="bob's own")
        await tasks.with_deleted().delete(task.id)
        await end_of(records, ann)

    async def test_has_every_row_for_the_service_and_none_for_strangers(
        self, records: Records
    ) -> None:
        async with (
            records.backend.changes(Task, SERVICE) as all_,
            records.backend.changes(Task, ANONYMOUS) as none,
        ):
            await records.of(Task, ANN).add(Task(title="ann's"))
            await records.of(Task, BOB).add(Task(title="bob's"))
            titles = {title for _, title in described(await events(all_, 2))}
            assert titles == {"ann's", "bob's"}
            assert await none.batch(0.3) == []

    async def test_removes_a_row_that_leaves_sight_for_those_who_saw_it_alone(
        self, records: Records, ann: Changes[Task]
    ) -> None:
        task = await records.of(Task, ANN).add(Task(title="a gift"))
        async with records.backend.changes(Task, BOB) as bob:
            await events(ann, 1)
            await records.of(Task).update(task.id, owner_id=BOB.user_id)
            assert described(await events(ann, 1)) == [("Removed", task.id)]
            assert described(await events(bob, 1)) == [("Added", "a gift")]
            await records.of(Task).update(task.id, title="renamed")
            assert described(await events(bob, 1)) == [("Changed", "renamed")]
            await end_of(records, ann)

    async def test_removes_a_row_that_is_deleted_softly_and_adds_one_that_is_restored(
        self, records: Records, ann: Changes[Task]
    ) -> None:
        tasks = records.of(Task, ANN)
        task = await tasks.add(Task(title="tea"))
        await events(ann, 1)
        await tasks.delete(task.id)
        assert described(await events(ann, 1)) == [("Removed", task.id)]
        await records.of(Task).with_deleted().update(task.id, deleted_at=None)
        assert described(await events(ann, 1)) == [("Added", "tea")]

    async def test_follows_rows_into_its_filters_and_out_of_them(self, records: Records) -> None:
        tasks = records.of(Task, ANN)
        heavy = (Task.weight > 0.1) & Task.title.not_ilike("TEA")
        async with records.backend.changes(Task, ANN, heavy) as changes:
            task = await tasks.add(Task(title="cake", weight=0.1))
            await tasks.update(task.id, weight=0.1 + 2**-55)
            assert described(await events(changes, 1)) == [("Added", "cake")]
            await tasks.update(task.id, title="tea")
            assert described(await events(changes, 1)) == [("Removed", task.id)]
            await tasks.with_deleted().delete(task.id)
            await tasks.add(Task(title="pie", weight=2))
            assert described(await events(changes, 1)) == [("Added", "pie")]

    async def test_follows_filters_by_related_rows(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="party", stars=1))
        tasks = records.of(Task, ANN)
        async with records.backend.changes(Task, ANN, Task.note.has(title="party")) as changes:
            task = await tasks.add(Task(title="cake", note_id=note.id))
            assert described(await events(changes, 1)) == [("Added", "cake")]
            await tasks.update(task.id, note_id=None)
            assert described(await events(changes, 1)) == [("Removed", task.id)]

    async def test_rejects_what_is_no_filter_and_models_without_a_log(
        self, records: Records
    ) -> None:
        with pytest.raises(InvalidRequest, match="__changes__"):
            async with records.backend.changes(Note, ANN):
                pass
        with pytest.raises(InvalidRequest):
            async with records.backend.changes(Task, ANN, "stars > 3"):  # type: ignore[arg-type]
                pass

    @pytest.mark.requires("transactions")
    async def test_has_what_a_transaction_did_when_it_commits(
        self, records: Records, ann: Changes[Task]
    ) -> None:
        async with records.backend.transaction(ANN) as transaction:
            tasks = transaction.repository(Task)
            task = await tasks.add(Task(title="draft"))
            await tasks.update(task.id, title="final")
            assert await ann.batch(0.2) == []
        assert described(await events(ann, 1)) == [("Added", "final")]
        with suppress(ZeroDivisionError):
            async with records.backend.transaction(ANN) as transaction:
                await transaction.repository(Task).add(Task(title="undone"))
                raise ZeroDivisionError
        await end_of(records, ann)

    async def test_has_keys_of_several_columns_and_keys_that_change(self, records: Records) -> None:
        async with records.backend.changes(Seat, ANN) as changes:
            await records.of(Seat, ANN).add(Seat(row=1, number=2, label="window"))
            (added,) = await events(changes, 1)
            assert isinstance(added, Added)
            assert (added.row.row, added.row.number) == (1, 2)
            await records.execute(text("UPDATE t_seats SET number = 3"))
            removed, moved = await events(changes, 2)
            assert isinstance(removed, Removed)
            assert removed.key == (1, 2)
            assert isinstance(moved, Added)
            assert moved.row.number == 3

    async def test_has_all_digits_of_a_key(self, records: Records) -> None:
        amounts = [Decimal("0.12345678901234567890123"), Decimal("0.12345678901234567890124")]
        doses = [Dose(amount=amount, factor=0.1 + 0.2) for amount in amounts]
        async with records.backend.changes(Dose, SERVICE) as changes:
            await records.of(Dose).add_many(doses)
            added = await events(changes, 2)
            assert {each.row.amount for each in added if isinstance(each, Added)} == {*amounts}
            key = (amounts[1], 0.1 + 0.2)
            assert await records.of(Dose).delete(key)
            assert await events(changes, 1) == [Removed(key, changes.cursor)]


async def follow(
    records: Records,
    caller: Caller,
    rows: dict[Any, Any],
    opened: asyncio.Event,
    applied: asyncio.Event,
    *where: Any,
) -> None:
    """Apply the events of a stream to the rows, and open it again after every batch."""
    cursor: str | None = None
    while True:
        async with records.backend.changes(Task, caller, *where, after=cursor) as changes:
            opened.set()
            cursor = began = changes.cursor
            while cursor == began:  # to the end of a batch
                match await anext(changes):
                    case Added(row, cursor) | Changed(row, cursor):
                        assert caller is SERVICE or row.owner_id == caller.user_id
                        rows[row.id] = row.title
                    case Removed(key, cursor):
                        rows.pop(key, None)
                    case Lost():
                        raise AssertionError("nothing was lost")
                applied.set()


async def write(records: Records, seed: int) -> None:
    """Add, change, give away and delete rows at random."""
    random = Random(seed)
    tasks, known = records.of(Task), []
    for number in range(15):
        owner = random.choice([ANN, BOB]).user_id
        title = f"{seed} {number}"
        task = await tasks.add(Task(title=title, stars=random.randint(0, 5), owner_id=owner))
        known.append(task.id)
        for _ in range(2):
            change: dict[str, Any] = {
                "title": f"{title} again",
                "stars": random.randint(0, 5),
                "owner_id": owner,
            }
            name = random.choice(["title", "stars", "owner_id"])
            await tasks.update(random.choice(known), **{name: change[name]})
        if random.random() < 0.4:
            await tasks.delete(known.pop(random.randrange(len(known))))


async def test_who_applies_the_events_has_the_list(records: Records) -> None:
    applied = asyncio.Event()
    followers: list[tuple[Caller, Sequence[Any], dict[Any, Any]]] = [
        (SERVICE, (), {}),
        (ANN, (), {}),
        (BOB, (Task.stars > 2,), {}),
    ]
    opened = [asyncio.Event() for _ in followers]
    tasks = [
        asyncio.create_task(follow(records, caller, rows, event, applied, *where))
        for event, (caller, where, rows) in zip(opened, followers, strict=True)
    ]
    try:
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(event.wait() for event in opened))
        await asyncio.gather(*(write(records, seed) for seed in range(3)))
        for caller, where, rows in followers:
            wanted = {row.id: row.title for row in await records.of(Task, caller).list(*where)}
            assert wanted
            with suppress(TimeoutError):
                async with asyncio.timeout(SECONDS):
                    while rows != wanted:
                        applied.clear()
                        await applied.wait()
            assert rows == wanted, [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results


class TestACursor:
    async def test_goes_on_after_its_event(self, records: Records, ann: Changes[Task]) -> None:
        tasks = records.of(Task, ANN)
        await tasks.add(Task(title="before"))
        (event,) = await events(ann, 1)
        await tasks.add(Task(title="tea"))
        await tasks.add(Task(title="cake"))
        async with records.backend.changes(Task, ANN, after=event.cursor) as later:
            assert described(await events(later, 2)) == [("Added", "tea"), ("Added", "cake")]
            cursor = later.cursor
        async with records.backend.changes(Task, ANN, after=cursor) as later:
            await end_of(records, later)

    async def test_repeats_a_batch_of_which_a_part_was_delivered(
        self, records: Records, ann: Changes[Task]
    ) -> None:
        await records.of(Task, ANN).add_many([Task(title="tea"), Task(title="cake")])
        (first, _) = await events(ann, 2)
        async with records.backend.changes(Task, ANN, after=first.cursor) as later:
            assert {title for _, title in described(await events(later, 2))} == {"tea", "cake"}

    async def test_goes_through_more_changes_than_are_read_at_once(
        self, records: Records, ann: Changes[Task]
    ) -> None:
        await records.of(Task, ANN).add_many([Task(title=str(n)) for n in range(1201)])
        titles = [title for _, title in described(await events(ann, 1201))]
        assert sorted(map(int, titles)) == [*range(1201)]
        await end_of(records, ann)

    @pytest.mark.parametrize("cursor", ["", "nonsense", "A" * 5000])
    async def test_that_is_none_of_this_log_is_a_loss(self, records: Records, cursor: str) -> None:
        async with records.backend.changes(Task, ANN, after=cursor) as changes:
            assert await events(changes, 1) == [Lost(changes.cursor)]
            await end_of(records, changes)
