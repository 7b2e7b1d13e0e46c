"""Callers of a database with row level security, and models for them."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.schema.application import Application

from amphibase.access import Access, owner

ANN, BOB, EVE = (uuid.UUID(int=number) for number in (1, 2, 3))


@dataclass(frozen=True)
class Asking:
    """A caller of the tests."""

    role: LiteralString
    id: uuid.UUID | None = None
    is_admin: bool = False

    @property
    def claims(self) -> dict[str, Any]:
        metadata = {"role": "admin"} if self.is_admin else {"role": "clerk"}
        return {"sub": str(self.id), "role": self.role, "app_metadata": metadata}


NOBODY = Asking("anon")
CALLERS = {
    "nobody": NOBODY,
    "ann": Asking("authenticated", ANN),
    "bob": Asking("authenticated", BOB),
    "admin": Asking("authenticated", EVE, is_admin=True),
}


@contextmanager
def calling(url: str, caller: Asking) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of a caller, as requests will open it; it is rolled back."""
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain) as connection:
        act_as(connection, caller)
        yield connection
        connection.rollback()


def act_as(connection: psycopg.Connection[Any], caller: Asking) -> None:
    if caller.id is not None:
        set_claims(connection, caller.claims)
    connection.execute(SQL("SET LOCAL ROLE {}").format(Identifier(caller.role)))


def set_claims(connection: psycopg.Connection[Any], claims: Any) -> None:
    connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])


def attempt(connection: psycopg.Connection[Any], statement: Any, *values: Any) -> int:
    """How many rows a statement reached; none where it is rejected."""
    try:
        with connection.transaction():
            return connection.execute(statement, values).rowcount
    except psycopg.errors.InsufficientPrivilege:
        return 0


def models_of(application: Application) -> type[DeclarativeBase]:
    class Models(DeclarativeBase):
        metadata = application.models

    return Models


def note_in(application: Application, access: Access | None = None, name: str = "notes") -> Any:
    """A model with an owner and a counted key."""

    class Note(models_of(application)):  # type: ignore[misc]
        __tablename__ = name
        __access__ = access or Access(read=owner, write=owner)
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[uuid.UUID]
        title: Mapped[str] = mapped_column(default="", server_default="")

    application.models.info.setdefault("kept", []).append(Note)  # a class that nobody has is gone
    return Note


async def run(application: Application, *statements: str) -> None:
    async with application.database.write() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def fetch(application: Application, statement: str) -> list[tuple[Any, ...]]:
    async with application.database.read() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


def url_of(application: Application) -> str:
    return application.settings.database_url.get_secret_value()
