"""The contract's checks of access notice when the SQL backend does not guard a model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from tests.backends import CALLERS, Records
from tests.contract.test_access import CHECKS
from tests.models import Board, Note, Post, Secret

from amphibase import Base
from amphibase.access import Access, everyone
from amphibase.records.model_access import access_of
from amphibase.records.model_infos import ModelInfos
from amphibase.schema.commands import ensure


@asynccontextmanager
async def dropped(
    records: Records, model: type[Any], who: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """The model without its guards against a caller."""
    table, database = model.__table__.name, records.sql.database
    with monkeypatch.context() as patch:
        patch.setattr(records.sql, "_infos", ModelInfos(records.sql.database.dialect))
        patch.setattr(model, "__access__", Access(everyone, everyone))
        info = records.sql._infos.of(model, CALLERS[who])
        patch.setattr(info, "access", access_of(model))
        if records.name != "rls":
            yield
            return
        async with database.write() as connection:
            await connection.execute(text(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"))
            await connection.execute(text(f"GRANT ALL ON {table} TO anon, authenticated"))
        yield
    async with database.write() as connection:
        await connection.execute(text(f"REVOKE ALL ON {table} FROM anon, authenticated"))
    await ensure(database, records.settings, Base.metadata)


@pytest.mark.parametrize(
    ("model", "who", "operations"),
    [
        (Note, "bob", ("reading", "changing", "upserting", "deleting")),
        (Post, "anonymous", ("changing", "deleting")),
        (Board, "ann", ("adding", "changing", "upserting", "deleting")),
        (Secret, "admin", tuple(CHECKS)),
    ],
)
async def test_the_checks_notice_when_a_guard_is_dropped(
    records: Records,
    model: type[Any],
    who: str,
    operations: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with dropped(records, model, who, monkeypatch):
        for operation in operations:
            with pytest.raises(AssertionError):
                await CHECKS[operation](records, model, who)
    for operation in operations:
        await CHECKS[operation](records, model, who)
