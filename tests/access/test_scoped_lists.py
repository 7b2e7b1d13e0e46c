"""Lists under a scope, which Postgres reads organisation by organisation."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from tests.access.conftest import Desk
from tests.access.helpdesk import (
    ADMIN,
    ANN,
    Comment,
    Membership,
    Models,
    Organisation,
    Ticket,
    user,
)

from amphibase.records.model_info import ModelInfos
from amphibase.records.predicates import fold
from amphibase.sql.records.scoped_lists import MAX_KEYS, scope_of

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("count", [3, MAX_KEYS + 2])
async def test_a_list_holds_the_newest_rows_of_all_organisations(desk: Desk, count: int) -> None:
    """However many there are: page by page, without rows of others and without deleted ones."""
    member = user(0x99)
    organisations = await desk.of(Organisation).add_many(
        [Organisation(name=f"o{number}") for number in range(count)]
    )
    await desk.of(Membership).add_many(
        Membership(organisation_id=each.id, user_id=member.user_id)
        for each in (*organisations, organisations[0])
    )
    places = [*organisations, desk.acme]
    tickets = [
        Ticket(
            id=uuid.UUID(int=number + 1),
            title=f"{number}",
            organisation_id=places[number * 7 % len(places)].id,
            created_at=BEGAN + timedelta(minutes=number % 11),
        )
        for number in range(2 * count + 34)
    ]
    await desk.of(Ticket).add_many(tickets)
    deleted = tickets[4]
    await desk.of(Ticket).delete(deleted.id)
    own = {each.id for each in organisations}
    expected = sorted(
        (each for each in tickets if each.organisation_id in own and each is not deleted),
        key=lambda each: (each.created_at, each.id),
        reverse=True,
    )
    repository = desk.of(Ticket, member)
    titles = [each.title for each in expected]
    assert [each.title for each in await repository.list(limit=2)] == titles[:2]
    assert [each.title for each in await repository.list(limit=1000)] == titles
    read, cursor = [], None
    while True:
        page = await repository.page(limit=4, cursor=cursor)
        read += [each.title for each in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert read == titles
    assert await desk.of(Ticket, user(0x98)).list() == []


def test_only_a_list_by_an_index_under_a_scope_is_read_so() -> None:
    infos = ModelInfos("postgresql")

    def column_of(model: type[Models], caller: object = ANN) -> str | None:
        info = infos.of(model, ANN)
        scope = scope_of(info, fold(info.access.read, caller))  # type: ignore[arg-type]
        return scope.column.name if scope else None

    assert column_of(Ticket) == "organisation_id"
    assert column_of(Ticket, ADMIN) is None
    assert column_of(Membership) is None
    assert column_of(Comment) is None
