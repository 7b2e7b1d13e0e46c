"""The log of development says where a rule, and not the data, left a result empty."""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from tests.backends import ANN, BOB, Records
from tests.models import Note

from amphibase import SERVICE
from amphibase.sql.records.repository import SqlRepository


async def logged(
    records: Records, caplog: pytest.LogCaptureFixture, rows: Any, *reads: Any
) -> Sequence[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "amphibase.access"):
        for read in reads:
            await read(rows)
    return [record.getMessage() for record in caplog.records if record.name == "amphibase.access"]


async def test_a_row_that_a_rule_hides_is_logged_and_its_values_are_not(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    note = await records.of(Note, ANN).add(Note(title="ann's secret", stars=1))
    where = Note.title == "ann's secret"
    reads = (
        lambda rows: rows.get(note.id),
        lambda rows: rows.list(where),
        lambda rows: rows.page(where),
    )
    messages = await logged(records, caplog, records.of(Note, BOB), *reads)
    assert len(messages) == 3
    for message in messages:
        assert message.startswith(f"Note: rows match, but {BOB.user_id} may read none of them")
        assert "(read: owner)" in message
        assert "secret" not in message
    assert await logged(records, caplog, records.of(Note, ANN), *reads) == []


async def test_a_row_that_is_not_there_is_not_logged(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    await records.of(Note, ANN).add(Note(title="one", stars=1))
    reads = (lambda rows: rows.get(uuid4()), lambda rows: rows.list(Note.stars > 1))
    for caller in (BOB, SERVICE):
        assert await logged(records, caplog, records.of(Note, caller), *reads) == []


async def test_a_filter_that_fails_for_hidden_rows_is_not_logged_and_no_error(
    records: Records,
) -> None:
    await records.of(Note, ANN).add(Note(title="one", stars=0))
    fails = 1 / Note.stars > 0
    assert await records.of(Note, BOB).list(fails) == []
    async with records.backend.transaction(BOB) as transaction:
        notes = transaction.repository(Note)
        assert await notes.list(fails) == []
        assert await notes.count() == 0


async def test_production_looks_for_no_hidden_rows(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    await records.of(Note, ANN).add(Note(title="one", stars=1))
    rows = records.of(Note, BOB)
    assert isinstance(rows, SqlRepository)
    rows._builder.logs_hidden_rows = False
    assert await logged(records, caplog, rows, lambda rows: rows.list()) == []
