"""Lists under a scope, which Postgres reads organisation by organisation."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    Column,
    Index,
    Numeric,
    PrimaryKeyConstraint,
    String,
    UniqueConstraint,
    Uuid,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine
from tests.access.conftest import Desk
from tests.access.helpdesk import (
    ADMIN,
    ANN,
    Comment,
    Membership,
    Models,
    Organisation,
    Ticket,
    mine,
    user,
)

from amphibase import Base
from amphibase.access import Access, memberships
from amphibase.backend import JsonRows, Repository
from amphibase.models import Timestamps
from amphibase.records.model_access import access_of
from amphibase.records.model_infos import ModelInfos
from amphibase.records.predicates import fold
from amphibase.schema.condition_sql import scope_queries
from amphibase.schema.scope_functions import ScopeFunction
from amphibase.sql.records import scoped_lists
from amphibase.sql.records.scoped_lists import (
    MAX_KEYS,
    ScopedList,
    has_index_of_all,
    have_duplicates,
    scope_of,
)

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Way:
    """How Postgres reads a list, with limits that no other way has: statements are cached."""

    limits: tuple[int, ...]
    max_keys: int = MAX_KEYS
    hides_table: bool = True


WAYS = {
    "key by key": Way((2, 3, 41)),
    "in a filter": Way((4, 5, 42), hides_table=False),
    "where no key is left out": Way((15, 16, 43), max_keys=14),
    "as without a scope": Way((7, 8, 44), max_keys=2),
    "in a filter as without a scope": Way((9, 10, 45), max_keys=2, hides_table=False),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_list_holds_the_newest_rows_of_all_organisations(
    desk: Desk, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: page by page, without rows of others and without deleted ones."""
    monkeypatch.setattr(scoped_lists, "MAX_KEYS", way.max_keys)
    monkeypatch.setattr(ScopedList, "hides_table", way.hides_table)
    random = Random(way.limits[0])
    organisations = await desk.of(Organisation).add_many(
        [Organisation(name=f"o{number}") for number in range(16)]
    )
    tickets = [
        Ticket(
            id=uuid.UUID(int=random.getrandbits(128)),
            title=f"{number}",
            # Many of few organisations, and at few times.
            organisation_id=organisations[int(15 * random.random() ** 2)].id,
            created_at=BEGAN + timedelta(minutes=random.randrange(30)),
        )
        for number in range(70)
    ]
    await desk.of(Ticket).add_many(tickets)
    deleted = {each.id for each in random.sample(tickets, 20)}
    for id in deleted:
        await desk.of(Ticket).delete(id)
    alive = sorted(
        (each for each in tickets if each.id not in deleted),
        key=lambda each: (each.created_at, each.id),
        reverse=True,
    )
    own = {member: random.sample(organisations, member) for member in (1, 2, 4, 11, 14)}
    await desk.of(Membership).add_many(
        Membership(organisation_id=each.id, user_id=user(0x100 + member).user_id)
        for member, places in own.items()
        for each in (*places, places[0])
    )
    for member, places in own.items():
        repository = desk.of(Ticket, user(0x100 + member))
        keys = {each.id for each in places}
        titles = [each.title for each in alive if each.organisation_id in keys]
        json_rows = repository.json_rows(["title", "created_at", "id"])
        for limit in way.limits:
            assert [each.title for each in await repository.list(limit=limit)] == titles[:limit]
            assert await _titles(repository, limit - 1) == titles
            assert json_rows is None or await _titles(json_rows, limit - 1) == titles
    assert await desk.of(Ticket, user(0x98)).list(limit=way.limits[0]) == []


async def _titles(rows: Repository[Ticket] | JsonRows, limit: int) -> list[str]:
    """Read the titles of all rows, page by page."""
    read: list[str] = []
    cursor = None
    while len(read) < 1000:
        page = await rows.page(limit=limit, cursor=cursor)
        items = [each if isinstance(each, Ticket) else json.loads(each) for each in page.items]
        read += [each.title if isinstance(each, Ticket) else each["title"] for each in items]
        cursor = page.next_cursor
        if cursor is None:
            break
    return read


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


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("created_at", "id"), True),
        (("created_at",), True),
        (("title", "created_at"), False),
        ((), False),
    ],
)
def test_an_index_has_all_rows_in_order_if_it_begins_as_the_order(
    columns: tuple[str, ...], expected: bool
) -> None:
    class Local(DeclarativeBase):
        type_annotation_map = Base.type_annotation_map

    class Item(Timestamps, Local):
        __tablename__ = "items"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        organisation_id: Mapped[uuid.UUID]
        title: Mapped[str]
        __access__ = Access(read=mine.has("organisation_id"))
        __table_args__ = (Index("own", *columns),) if columns else ()

    assert has_index_of_all(ModelInfos("postgresql").of(Item, ANN)) is expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (PrimaryKeyConstraint("user_id", "team"), False),
        (UniqueConstraint("team"), False),
        (UniqueConstraint("team", "user_id", "role"), True),
        (Index("own", "user_id", "team", unique=True, postgresql_where=true()), True),
        (Index("own", "user_id", "team"), True),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_scope_has_a_value_once_if_a_key_of_the_memberships_says_so(
    key: Any, expected: bool
) -> None:
    class Local(DeclarativeBase):
        type_annotation_map = Base.type_annotation_map

    class Member(Local):
        __tablename__ = "members"
        __table_args__ = (key,)
        id: Mapped[uuid.UUID]
        user_id: Mapped[uuid.UUID]
        team: Mapped[str]
        role: Mapped[str]
        __mapper_args__ = {"primary_key": ["id"]}  # noqa: RUF012

    class Item(Local):
        __tablename__ = "items"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        team: Mapped[str]
        __access__ = Access(read=memberships(Member.team, of=Member.user_id).has("team"))

    (query,) = scope_queries(access_of(Item).read)
    assert have_duplicates(query) is expected


@pytest.mark.parametrize(
    ("type_", "array"),
    [
        (String(8, collation="C"), "TEXT[]"),
        (CHAR(2), "BPCHAR[]"),
        (Numeric(10, 2), "NUMERIC[]"),
        (Uuid(), "UUID[]"),
    ],
)
def test_the_values_of_a_scope_are_not_converted_for_each_row(
    type_: TypeEngine[Any], array: str
) -> None:
    """As they would be by a cast to a type with a length or a precision."""
    assert ScopeFunction("scope_x", Column("x", type_), "").returned == array
