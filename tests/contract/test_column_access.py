"""Columns that are left to the service: to read, to set, or to change."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import aliased, mapped_column
from tests.backends import ANN, BOB, Records
from tests.models import Folder, Key, Licence, Note, Pin

from amphibase import Conflict, ForeignKeyViolation, InvalidValue, NotLoaded, NotSupported
from amphibase.access import owner, service
from amphibase.records.column_access import column_access


async def licence(records: Records, **values: Any) -> Licence:
    """A licence of Ann's, with a key that only the service reads."""
    return await records.of(Licence).add(
        Licence(owner_id=ANN.user_id, name="tea", key="k1", **values)
    )


async def read(records: Records, id: UUID) -> Sequence[Licence]:
    """The licence, as Ann reads it in every way that there is."""
    rows = records.of(Licence, ANN)
    got, page = await rows.get(id), await rows.page(limit=1)
    return [
        row
        for row in (
            got,
            *await rows.list(),
            *page.items,
            *[row async for row in rows.stream()],
            await rows.update(id, name="coffee"),
            await rows.add(Licence(name="water", key="k2")),
            *await rows.add_many([Licence(name="milk", key="k3")]),
        )
        if row is not None
    ]


class TestAHiddenColumn:
    async def test_comes_back_from_no_call_of_a_caller(self, records: Records) -> None:
        kept = await licence(records)
        *rows, added, added_too = await read(records, kept.id)
        assert len(rows) == 5
        for row in rows:
            assert "key" not in vars(row)
            with pytest.raises(NotLoaded, match="key is read by the service alone"):
                _ = row.key
        assert {(row.name, row.plan) for row in (added, added_too)} == {
            ("water", "free"),
            ("milk", "free"),
        }

    async def test_is_stored_and_read_by_the_service(self, records: Records) -> None:
        rows = records.of(Licence, ANN)
        added = await rows.add(Licence(name="tea", key="k4"))
        await rows.add_many([Licence(name=f"{n}", key=f"many {n}") for n in range(3)])
        found = await records.of(Licence).one(Licence.key == "k4")
        assert (found.id, found.key) == (added.id, "k4")
        assert await records.of(Licence).count(Licence.key.like("many%")) == 3

    @pytest.mark.parametrize(
        "where",
        [
            Licence.key == "k1",
            func.length(Licence.key) > 1,
            Licence.id.in_(select(Licence.id).where(Licence.key == "k1")),
            select(aliased(Licence).key).exists(),
            select(aliased(Licence)).exists(),
            select(Licence.__table__).exists(),
        ],
        ids=str,
    )
    async def test_is_in_no_filter_of_a_caller(self, records: Records, where: Any) -> None:
        await licence(records)
        rows = records.of(Licence, ANN)
        for reading in (rows.list, rows.count, rows.exists, rows.page, rows.delete_where):
            with pytest.raises(NotSupported):
                await reading(where)
        assert await records.of(Licence).exists()

    async def test_orders_no_list_and_names_no_upsert_of_a_caller(self, records: Records) -> None:
        await licence(records)
        rows = records.of(Licence, ANN)
        for reading in (rows.list, rows.page):
            with pytest.raises(NotSupported, match="key is read by the service alone"):
                await reading(order_by=[Licence.key])
        with pytest.raises(NotSupported, match="key is read by the service alone"):
            await rows.upsert(Licence(name="tea", key="k1"), on=[Licence.key])
        assert [row.key for row in await records.of(Licence).list(order_by=[Licence.key])] == ["k1"]

    async def test_is_named_by_no_error(self, records: Records) -> None:
        await licence(records)
        with pytest.raises(Conflict) as caught:
            await records.of(Licence, ANN).add(Licence(name="tea", key="k1"))
        assert (caught.value.columns, caught.value.constraint) == ((), None)
        assert "key" not in str(caught.value)


class TestAColumnOfTheService:
    async def test_is_set_and_changed_by_the_service_alone(self, records: Records) -> None:
        kept = await licence(records, plan="gold", team="red")
        rows = records.of(Licence, ANN)
        for name in ("plan", "team"):
            values: dict[str, Any] = {name: "other"}
            with pytest.raises(InvalidValue, match=f"{name} is set by the server"):
                await rows.update(kept.id, **values)
            with pytest.raises(InvalidValue, match=f"{name} is set by the server"):
                await rows.update_where(Licence.name == "tea", **values)
        for adding in (rows.add, rows.upsert):
            with pytest.raises(InvalidValue, match="plan is set by the server"):
                await adding(Licence(name="tea", plan="gold"))
        with pytest.raises(InvalidValue, match="plan is set by the server"):
            await rows.add_many([Licence(name="tea", plan="gold")])
        changed = await records.of(Licence).update(kept.id, plan="free", team="blue")
        assert changed is not None
        assert (changed.plan, changed.team) == ("free", "blue")

    async def test_that_only_stays_is_set_by_who_adds_the_row(self, records: Records) -> None:
        rows = records.of(Licence, ANN)
        added = await rows.add(Licence(name="tea", team="red", key="k5"))
        again = await rows.upsert(Licence(id=added.id, name="coffee", team="blue"))
        assert (added.team, again.name, again.team) == ("red", "coffee", "red")


class TestAReferenceToWhatIsVisible:
    async def test_takes_a_row_that_the_caller_sees(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="ann's", stars=1))
        pins = records.of(Pin, ANN)
        pin = await pins.add(Pin(note_id=note.id))
        await pins.add_many([Pin(note_id=note.id), Pin()])
        assert await pins.update(pin.id, note_id=None) is not None
        changed = await pins.update(pin.id, note_id=note.id)
        assert changed is not None
        assert changed.note_id == note.id

    async def test_takes_an_invisible_row_no_more_than_a_missing_one(
        self, records: Records
    ) -> None:
        note = await records.of(Note, ANN).add(Note(title="ann's", stars=1))
        pins = records.of(Pin, BOB)
        pin = await pins.add(Pin())
        errors = set()
        for id in (note.id, uuid4()):
            for writing in (
                lambda id=id: pins.add(Pin(note_id=id)),
                lambda id=id: pins.add_many([Pin(), Pin(note_id=id)]),
                lambda id=id: pins.update(pin.id, note_id=id),
                lambda id=id: pins.update_where(Pin.name == "pin", note_id=id),
                lambda id=id: pins.upsert(Pin(note_id=id)),
                lambda id=id: pins.upsert(Pin(id=pin.id, note_id=id)),
            ):
                with pytest.raises(ForeignKeyViolation) as caught:
                    await writing()
                errors.add(str(caught.value).replace(str(id), "…"))
        assert len(errors) == 1
        assert [row.note_id for row in await records.of(Pin).list()] == [None]
        assert await records.of(Pin).add(Pin(owner_id=BOB.user_id, note_id=note.id))

    async def test_stays_where_it_went_out_of_sight(self, records: Records) -> None:
        note = await records.of(Note, ANN).add(Note(title="ann's", stars=1))
        pin = await records.of(Pin).add(Pin(owner_id=BOB.user_id, note_id=note.id))
        pins = records.of(Pin, BOB)
        changed = await pins.update(pin.id, name="again", note_id=note.id)
        assert changed is not None
        assert await pins.update_where(Pin.name == "again", name="pin", note_id=note.id) == 1
        assert (await pins.upsert(Pin(id=pin.id, name="more", note_id=note.id))).name == "more"
        with pytest.raises(Conflict):  # which no caller sees of a row that is another's
            await records.of(Pin, ANN).upsert(Pin(id=pin.id, note_id=note.id))

    async def test_takes_a_row_of_the_same_tree_that_is_added_with_it(
        self, records: Records
    ) -> None:
        folders = records.of(Folder, ANN)
        root, branch, leaf = (uuid4() for _ in range(3))
        await folders.add_many(
            [Folder(id=root), Folder(id=branch, parent_id=root), Folder(id=leaf, parent_id=branch)]
        )
        assert await folders.update(leaf, parent_id=root) is not None
        for adding in (Folder(parent_id=leaf), Folder(parent_id=uuid4())):
            with pytest.raises(ForeignKeyViolation):
                await records.of(Folder, BOB).add_many([Folder(), adding])
        assert await records.of(Folder).count() == 3

    async def test_takes_no_row_that_the_new_one_makes_visible(self, records: Records) -> None:
        folder = await records.of(Folder, ANN).add(Folder())
        keys = records.of(Key, BOB)

        def key() -> Key:
            return Key(folder_id=folder.id, user_id=BOB.user_id)

        for adding in (
            lambda: keys.add(key()),
            lambda: keys.upsert(key()),
            lambda: keys.add_many([key(), key()]),
        ):
            with pytest.raises(ForeignKeyViolation):
                await adding()
        assert await records.of(Folder, BOB).get(folder.id) is None
        assert await records.of(Key, ANN).add(key())
        assert await keys.add(key())

    async def test_takes_no_row_that_is_softly_deleted(self, records: Records) -> None:
        folder = await records.of(Folder, ANN).add(Folder())
        await records.of(Folder, ANN).delete(folder.id)
        with pytest.raises(ForeignKeyViolation):
            await records.of(Key, ANN).add(Key(folder_id=folder.id, user_id=BOB.user_id))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"info": {"read": owner}}, "takes the rule service alone"),
        ({"info": {"write": service}}, "must be nullable or have a server_default"),
        (
            {"info": {"add": service}, "default": "a", "server_default": "a"},
            "no default of Python's",
        ),
        ({"info": {"read": service}, "primary_key": True}, "primary key of a row cannot be hidden"),
    ],
)
def test_a_rule_that_no_database_can_hold_is_rejected(options: Any, message: str) -> None:
    column = mapped_column(nullable=False, **options).column
    column.name = "word"
    with pytest.raises(TypeError, match=message):
        column_access(column)
