"""Generated columns on the versions of Postgres."""

from typing import Any

import pytest
from sqlalchemy import Column, Computed, Enum, Index, Integer, MetaData, Table, UniqueConstraint
from tests.schema.application import Application

from amphibase.errors import ConfigurationError
from amphibase.schema.generated_columns import FIRST_VIRTUAL, unsupported_columns


def lines(*parts: Any, persisted: bool | None = None, kind: Any = None, **options: Any) -> Table:
    return Table(
        "lines",
        MetaData(),
        Column("id", Integer(), primary_key=True),
        Column("twice", kind or Integer(), Computed("id * 2", persisted=persisted), **options),
        *parts,
    )


@pytest.mark.parametrize(
    ("table", "version", "reason"),
    [
        (lines(index=True), 18, "no index"),
        (lines(index=True), 17, ""),
        (lines(index=True, persisted=True), 18, ""),
        (lines(), 18, ""),
        (lines(UniqueConstraint("twice")), 18, "no index, key or UNIQUE"),
        (lines(Index("ix", "id", "twice")), 18, "no index"),
        (lines(kind=Enum("a", name="a")), 18, "no enum or domain"),
        (lines(persisted=False), 18, ""),
        (lines(persisted=False), 17, "stores all of them"),
    ],
)
def test_a_column_that_a_version_cannot_create_has_a_reason(
    table: Table, version: int, reason: str
) -> None:
    """What is stored works everywhere; what is computed when it is read has no index."""
    reasons = [reason for _, reason in unsupported_columns([table], version)]
    assert len(reasons) == bool(reason)
    assert all(reason in each for each in reasons)


async def test_a_start_names_the_column_and_what_to_write(
    postgres_application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, before the database is asked."""
    monkeypatch.setattr("amphibase.schema.generated_columns.FIRST_VIRTUAL", 0)
    lines(index=True).to_metadata(postgres_application.models)
    message = r"^The generated column lines\.twice is not stored, .* Computed\(…, persisted=True\)$"
    with pytest.raises(ConfigurationError, match=message):
        await postgres_application.ensure()
    with pytest.raises(ConfigurationError, match=message):
        await postgres_application.revision("lines")
    assert FIRST_VIRTUAL == 18
