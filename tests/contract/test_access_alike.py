"""The contract of access rules where backends once differed: each means the same on every one."""

from typing import Any

import pytest
from tests.backends import ADMIN, ANN, Records
from tests.rule_models import Enquiry

from amphibase import ANONYMOUS, Caller, NotLoaded


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


def value_of(row: Any, name: str) -> Any:
    """The value of an attribute, or NotLoaded."""
    try:
        return getattr(row, name)
    except NotLoaded:
        return NotLoaded
