"""Values that something else wrote, and that Python cannot hold: row and column are named."""

from typing import Any

import pytest
from sqlalchemy import text
from tests.backends import ANN, Records
from tests.column_models import Kinds
from tests.models import Note

from amphibase import SERVICE, InvalidValue
from amphibase.errors import UnreadableValue

ON_POSTGRES = [
    ("moment", "'infinity'"),
    ("moment", "'0044-03-15 00:00:00+00 BC'"),
    ("day", "'-infinity'"),
    ("mapping", "'{\"a\": 1e5000}'"),
]
ON_SQLITE = {"mapping": "'{\"a\": [1e400]}'"}


async def put(records: Records, statement: str) -> None:
    """Write as something else would that does not know the model."""
    async with records.backend.session(SERVICE) as session:
        await session.execute(text(statement.replace(":", r"\:")))


@pytest.mark.parametrize(("column", "value"), ON_POSTGRES)
async def test_one_value_is_named_wherever_it_is_read(
    records: Records, column: str, value: str
) -> None:
    if records.is_sqlite:
        value = ON_SQLITE.get(column, "'nonsense'")
    kinds = records.of(Kinds)
    rows = await kinds.add_many([Kinds(text=str(n)) for n in range(5)])
    await put(records, f"UPDATE t_kinds SET {column} = {value} WHERE id = {rows[3].id}")
    named = rf"^{column} of Kinds {rows[3].id} holds a value that cannot be read$"
    for reading in (kinds.list(), kinds.page(), kinds.get(rows[3].id)):
        with pytest.raises(UnreadableValue, match=named):
            await reading
    assert await kinds.get(rows[2].id) is not None


@pytest.mark.parametrize("value", ["'infinity'", "'0044-03-15 00:00:00+00 BC'"])
async def test_one_value_is_no_other_in_json_that_the_database_builds(
    records: Records, value: str
) -> None:
    notes = records.of(Note, ANN)
    json_rows = notes.json_rows(["id", "created_at"])
    if json_rows is None:
        pytest.skip("SQLite builds no JSON rows")
    note = await notes.add(Note(title="one", stars=1))
    await put(records, f"UPDATE t_notes SET created_at = {value}")
    readings: list[Any] = [json_rows.page(), json_rows.get(note.id)]
    for reading in readings:
        with pytest.raises(UnreadableValue, match=f"^created_at of Note {note.id} "):
            await reading


async def test_a_value_that_was_sent_is_still_the_callers(records: Records) -> None:
    with pytest.raises(InvalidValue):
        await records.of(Kinds).list(Kinds.number == 2**40)
