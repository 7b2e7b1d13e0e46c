"""A database at its very beginning, with an application's models, for the tests of migrations."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Enum,
    ForeignKey,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    insert,
    select,
    true,
)
from sqlalchemy.types import TypeDecorator

from amphibase.database.engine import Database
from amphibase.models import NAMING, Base, Json, UtcDateTime
from amphibase.schema import commands as schema
from amphibase.settings.application import Settings, load_settings

CHAINS = ["auth", "storage", "application"]
on_all_chains = pytest.mark.parametrize("overrides", [{}], ids=["all chains"])
"""Keeps accounts and files in the database too, as most applications do."""


class Shout(TypeDecorator[str]):
    """A type of the application's own."""

    impl = String(40)
    cache_ok = True


@dataclass
class Application:
    """An empty database, the models (the profile alone at first), and what is done with them."""

    database: Database
    settings: Settings
    models: MetaData

    async def upgrade(self, revision: str = "head") -> list[schema.RevisionOutcome]:
        return await schema.upgrade(self.database, self.settings, self.models, revision)

    async def downgrade(self, chain: str, revision: str) -> list[schema.RevisionOutcome]:
        return await schema.downgrade(self.database, self.settings, self.models, chain, revision)

    async def revision(self, message: str, **options: Any) -> Path | None:
        file = await self.revision_file(message, **options)
        return file.path if file else None

    async def revision_file(self, message: str, **options: Any) -> schema.RevisionFile | None:
        return await schema.revision(self.database, self.settings, self.models, message, **options)

    async def ensure(self) -> None:
        await schema.ensure(self.database, self.settings, self.models)

    async def require_current(self) -> None:
        await schema.require_current(self.database, self.settings, self.models)

    async def differences(self) -> list[str]:
        return [str(e) for e in await schema.check(self.database, self.settings, self.models)]

    async def stand(self) -> dict[str, str | None]:
        positions = await schema.current(self.database, self.settings, self.models)
        return {str(position.chain): position.current for position in positions}

    async def add(self, table: Table, **values: Any) -> None:
        async with self.database.write() as connection:
            await connection.execute(insert(table).values(**values))

    async def count(self, table: Table) -> int:
        async with self.database.read() as connection:
            counted = await connection.execute(select(func.count()).select_from(table))
            return int(counted.scalar_one())

    def write(self, name: str, after: str, upgrade: str) -> None:
        """A revision written by hand."""
        self.settings.migrations_dir.mkdir(exist_ok=True)
        (self.settings.migrations_dir / f"{name}.py").write_text(
            f'"""{name}"""\nfrom alembic import op\n'
            f'revision = "{name}"\ndown_revision = "{after}"\n'
            f"def upgrade():\n    {upgrade}\n\ndef downgrade():\n    pass\n"
        )

    def add_notes(self) -> Table:
        """A model with a bit of everything."""
        owner = ForeignKey("users.id", ondelete="CASCADE")
        return Table(
            "notes",
            self.models,
            Column("id", Uuid(), primary_key=True),
            Column("owner_id", Uuid(), owner, nullable=False, index=True),
            Column("title", String(200), nullable=False),
            Column("body", Text(), nullable=False, server_default=""),
            Column("seen", Boolean(), nullable=False, server_default=true()),
            Column("written_at", UtcDateTime(), nullable=False, server_default=func.now()),
            Column("data", Json),
            Column("kind", Enum("idea", "task", name="kind")),
            Column("tag", Shout()),
            UniqueConstraint("owner_id", "title"),
            CheckConstraint("length(title) > 0", name="title"),
        )


@asynccontextmanager
async def application_on(url: str, **overrides: Any) -> AsyncIterator[Application]:
    """Open the database; revisions are written to the current folder."""
    settings = load_settings(database_url=url, **overrides)
    database = Database(settings.database)
    models = MetaData(naming_convention=NAMING)
    Base.metadata.tables["users"].to_metadata(models)
    try:
        yield Application(database, settings, models)
    finally:
        await database.close()
