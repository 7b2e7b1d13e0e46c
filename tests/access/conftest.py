"""The help desk that rules of access are tried on, on each kind of database."""

from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import delete
from tests.access.helpdesk import (
    ANN,
    BOB,
    EVE,
    KINDS,
    Comment,
    Membership,
    Models,
    Organisation,
    Ticket,
    opened,
)

from amphibase import SERVICE, Caller
from amphibase.backend import Model, Repository
from amphibase.sql.backend import SqlBackend


@dataclass
class Desk:
    """The help desk with two organisations, Acme and Umbrella."""

    backend: SqlBackend
    acme: Organisation
    umbrella: Organisation
    ticket: Ticket
    other: Ticket

    def of(self, model: type[Model], caller: Caller = SERVICE) -> Repository[Model]:
        return self.backend.repository(model, caller)


@pytest.fixture(scope="session", params=KINDS)
async def desk_backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SqlBackend]:
    folder = tmp_path_factory.mktemp("desk")
    place: Any = nullcontext(f"sqlite:///{folder}/desk.db")
    if request.param != "sqlite":
        place = request.getfixturevalue("databases").new()
    with place as url:
        async with opened(url, folder, rls=request.param == "rls") as backend:
            yield backend


@pytest.fixture
async def desk(desk_backend: SqlBackend) -> Desk:
    async with desk_backend.database.write() as connection:
        for table in reversed(Models.metadata.sorted_tables):
            await connection.execute(delete(table))
    organisations = desk_backend.repository(Organisation, SERVICE)
    acme, umbrella = await organisations.add_many(
        [Organisation(name="Acme"), Organisation(name="Umbrella", plan="gold")]
    )
    members = desk_backend.repository(Membership, SERVICE)
    left = Membership(organisation_id=acme.id, user_id=EVE.user_id, role="lead")
    await members.add_many(
        [
            Membership(organisation_id=acme.id, user_id=ANN.user_id, role="agent"),
            Membership(organisation_id=acme.id, user_id=BOB.user_id),
            Membership(organisation_id=umbrella.id, user_id=BOB.user_id, role="lead"),
            Membership(organisation_id=umbrella.id, user_id=EVE.user_id),
            left,
        ]
    )
    await members.delete(left.id)
    tickets = await desk_backend.repository(Ticket, SERVICE).add_many(
        [
            Ticket(title="acme", organisation_id=acme.id),
            Ticket(title="umb", organisation_id=umbrella.id),
        ]
    )
    await desk_backend.repository(Comment, SERVICE).add_many(
        [Comment(text="hi", ticket_id=ticket.id, owner_id=BOB.user_id) for ticket in tickets]
    )
    return Desk(desk_backend, acme, umbrella, *tickets)
