"""Where the revisions of each chain are, in files and in the database; without Alembic."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, column, inspect, select, table

from amphibase.database.engine import Database
from amphibase.settings.application import Part, Settings

ChainName = Literal["auth", "storage", "application"]

HERE = Path(__file__).parent
PACKAGED = HERE / "application"
PART_OF: dict[ChainName, Part] = {
    "auth": "accounts",
    "storage": "files",
    "application": "records",
}


@dataclass(frozen=True, slots=True)
class ChainLocation:
    """The places of one chain.

    Args:
        folders: of its revision files.
        version_table: where the database records the newest that ran.
        schema: of that table and the chain's own, None for the default schema.
    """

    name: ChainName
    folders: tuple[Path, ...]
    version_table: str
    schema: str | None

    def is_current(self, connection: Connection) -> bool:
        """Return whether the newest revision ran, as far as that is clear from the files alone.

        False may also mean that the files say it in a way that only Alembic reads, such as
        branches.
        """
        head = self.head()
        if head is None:
            return False
        if not inspect(connection).has_table(self.version_table, self.schema):
            return False
        versions = table(self.version_table, column("version_num"), schema=self.schema)
        return connection.execute(select(versions.c.version_num)).scalars().all() == [head]

    def head(self) -> str | None:
        """Return the only revision that no other follows; None where there is not just one."""
        previous = self.revisions()
        heads = previous.keys() - previous.values()
        return heads.pop() if len(heads) == 1 else None

    def revisions(self) -> Mapping[str, str | None]:
        """Return each revision with the one that it follows.

        None of them where the files say it in a way that only Alembic reads.
        """
        following: dict[str, str | None] = {}
        for folder in self.folders:
            for path in folder.glob("*.py"):
                if path.name == "__init__.py":
                    continue
                names = _assignments(path.read_bytes())
                revision, previous = names.get("revision"), names.get("down_revision")
                if not isinstance(revision, str) or not isinstance(previous, str | None):
                    return {}
                if names.get("branch_labels") or names.get("depends_on") or revision in following:
                    return {}
                following[revision] = previous
        return following


def locate_chains(database: Database, settings: Settings) -> list[ChainLocation]:
    """List the chains whose part of the data is in the database, in the order in which they run."""
    parts = settings.parts_in(database.url)
    locations = []
    for name, part in PART_OF.items():
        if part not in parts:
            continue
        if name == "application":
            locations.append(application_location(settings))
        else:
            locations.append(packaged_location(database, name))
    return locations


def application_location(settings: Settings) -> ChainLocation:
    """Locate the chain of the application's own tables."""
    folders = (PACKAGED, settings.migrations_dir.absolute())
    return ChainLocation("application", folders, "alembic_version", None)


def packaged_location(database: Database, name: Literal["auth", "storage"]) -> ChainLocation:
    """Locate the chain `auth` or `storage`, which comes with the package."""
    if database.dialect == "sqlite":
        return ChainLocation(name, (HERE / name,), f"{name}_amphibase_version", None)
    return postgres_location(name)


def postgres_location(name: Literal["auth", "storage"]) -> ChainLocation:
    """Locate a chain that comes with the package, on Postgres."""
    return ChainLocation(name, (HERE / name,), "amphibase_version", name)


@lru_cache(maxsize=128)  # parsing takes most of a start, and tests start an application often
def _assignments(source: bytes) -> Mapping[str, object]:
    """Return the names that a module gives literal values to, at its top."""
    values: dict[str, object] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            values[name] = ast.literal_eval(value)
        except ValueError:
            values[name] = ...
    return values
