"""The contract of access rules where backends once differed: each means the same on every one."""

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.backends import ADMIN, ANN, BOB, Records
from tests.rule_models import Enquiry, Listing, Memo, Parcel

from amphibase import ANONYMOUS, Caller, Conflict, Forbidden, NotLoaded


class TestADropBox:
    @pytest.mark.parametrize("caller", [ANONYMOUS, ANN], ids=["anonymous", "ann"])
    async def test_takes_rows_whose_key_the_database_counts(
        self, records: Records, caller: Caller
    ) -> None:
        enquiries = records.of(Enquiry, caller)
        one = await enquiries.add(Enquiry(text="one"))
        many = await enquiries.add_many([Enquiry(text="two"), Enquiry(text="three", status="x")])
        last = await enquiries.upsert(Enquiry(number=1000, text="four"))
        assert await enquiries.count() == 0
        stored = {row.text: row for row in await records.of(Enquiry, ADMIN).list()}
        statuses = {text: (row.status, row.handled) for text, row in stored.items()}
        new = ("new", "no")
        assert statuses == {"one": new, "two": new, "three": ("x", "no"), "four": new}
        for row in (one, *many, last):
            for name in ("number", "text", "status", "sent_at", "handled"):
                assert value_of(row, name) in (getattr(stored[row.text], name), NotLoaded)
        if records.name != "supabase":
            assert [row.number for row in (one, *many)] == [
                stored[text].number for text in ("one", "two", "three")
            ]


async def test_a_list_under_a_rule_with_a_value_of_its_own_has_pages(records: Records) -> None:
    await records.of(Listing).add(Listing(price=100, owner_id=ANN.user_id))
    listings = records.of(Listing, ANN)
    own = await listings.add_many([Listing(price=price) for price in range(3)])
    first = await listings.page(limit=2)
    last = await listings.page(limit=2, cursor=first.next_cursor)
    assert {row.id for row in (*first.items, *last.items)} == {row.id for row in own}
    assert last.next_cursor is None


class TestAnUpsert:
    async def test_that_may_not_add_its_row_is_forbidden_whether_or_not_one_is_there(
        self, records: Records
    ) -> None:
        own = await records.of(Listing, ANN).add(Listing(price=1))
        for id in (own.id, uuid4()):
            for replace in (True, False):
                with pytest.raises(Forbidden):
                    await records.of(Listing, ANN).upsert(Listing(id=id, price=10), replace=replace)

    async def test_of_a_row_that_may_not_be_changed_is_a_conflict(self, records: Records) -> None:
        own = await records.of(Listing, ANN).add(Listing(price=1))
        with pytest.raises(Conflict):
            await records.of(Listing, ANN).upsert(Listing(id=own.id, price=2))
        kept = await records.of(Listing, ANN).upsert(Listing(id=own.id, price=2), replace=False)
        assert kept.price == 1
        with pytest.raises(Conflict):
            await records.of(Listing, BOB).upsert(Listing(id=own.id, price=2), replace=False)


DEPOT = UUID("0198f2a0-0000-7000-8000-00000000000d")


@pytest.mark.parametrize(
    ("claims", "seen"),
    [
        ({"depot_id": str(DEPOT)}, [1]),
        ({"depot_id": str(DEPOT).upper()}, [1]),
        ({"depot_id": DEPOT.hex}, []),
        ({"depot_id": f"{{{DEPOT}}}"}, []),
        ({"depot_id": f"{DEPOT}\n"}, []),
        ({"depot_id": "no UUID"}, []),
        ({"depot_id": [str(DEPOT)]}, []),
        ({"level": 5}, [1]),
        ({"level": "9"}, [1, 2]),
        ({"level": -1}, []),
        ({"level": 9.5}, []),
        ({"level": True}, []),
        ({"level": 10**30}, []),
        ({"level": None}, []),
        ({}, []),
    ],
    ids=str,
)
async def test_a_claim_is_of_its_type_or_there_is_none(
    records: Records, claims: dict[str, Any], seen: list[int]
) -> None:
    parcels = [Parcel(id=1, depot_id=DEPOT, level=4), Parcel(id=2, depot_id=UUID(int=2), level=8)]
    await records.of(Parcel).add_many(parcels)
    caller = Caller("authenticated", ANN.user_id, claims={"app_metadata": claims})
    assert sorted([row.id for row in await records.of(Parcel, caller).list()]) == seen


WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("who", "is_deleted", "changes", "done"),
    [
        (ANN, False, {"deleted_at": None}, True),  # which is no deletion
        (ADMIN, False, {"deleted_at": None}, False),
        (ANN, True, {"deleted_at": None}, False),
        (ADMIN, True, {"deleted_at": None}, True),
        (ANN, False, {"deleted_at": WHEN}, False),
        (ADMIN, False, {"deleted_at": WHEN}, True),
        (ADMIN, False, {"deleted_at": WHEN, "title": "a"}, True),  # as it is
        (ADMIN, False, {"deleted_at": WHEN, "title": "b"}, False),
        (ANN, False, {"deleted_at": None, "title": "b"}, True),
        (ANN, True, {"title": "b"}, True),
        (ANN, True, {"deleted_at": None, "title": "b"}, False),
    ],
)
async def test_what_a_row_becomes_decides_whether_a_change_is_a_soft_deletion(
    records: Records, who: Caller, is_deleted: bool, changes: dict[str, Any], done: bool
) -> None:
    memo = await records.of(Memo, ANN).add(Memo(title="a"))
    if is_deleted:
        await records.of(Memo).delete(memo.id)
    with nullcontext() if done else pytest.raises(Forbidden):
        memos = records.of(Memo, who)
        memos = memos.with_deleted() if is_deleted else memos
        assert await memos.update(memo.id, **changes) is not None
    stored = await records.of(Memo).with_deleted().one()
    before = {"deleted_at": stored.deleted_at, "title": "a"}
    assert {name: getattr(stored, name) for name in before} == before | (changes if done else {})


def value_of(row: Any, name: str) -> Any:
    """The value of an attribute, or NotLoaded."""
    try:
        return getattr(row, name)
    except NotLoaded:
        return NotLoaded
