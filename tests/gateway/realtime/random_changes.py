"""Random changes by concurrent writers, and what each subscriber has to receive of them.

The evaluator knows nothing of the database: it keeps every version of every row that was committed,
and decides in Python. Policies decide about the row as it is when a change is delivered, so that a
version counts as owed only where its row was never deleted afterwards and has kept its owner; any
other version may be missing. No version may come to whoever could not see it, and none twice.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

ROOMS = 8
OWNERS = [UUID(int=0xF000 + number) for number in range(12)]
MAX_OPERATIONS = 20

TABLE = """
CREATE TABLE shop.events (
    id bigint PRIMARY KEY, owner uuid, room int, n int, word text, version bigint
);
GRANT SELECT ON shop.events TO anon, authenticated, service_role;
ALTER TABLE shop.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_owners ON shop.events TO authenticated USING (owner = auth.uid());
CREATE POLICY of_anonymous ON shop.events TO anon USING (room = 0);
ALTER PUBLICATION supabase_realtime ADD TABLE shop.events;
"""
ROOMS_OF_USERS = """
CREATE POLICY of_rooms ON shop.events TO authenticated USING (
    room IN (SELECT value::int FROM jsonb_array_elements_text(auth.jwt() -> 'rooms'))
);
"""
INSERT = b"INSERT INTO shop.events VALUES (%s, %s, %s, %s, %s, %s)"
UPDATE = b"""
UPDATE shop.events SET owner = %s, room = %s, n = %s, word = %s, version = %s WHERE id = %s
"""
DELETE = b"DELETE FROM shop.events WHERE id = %s"


class Version(NamedTuple):
    """A row as a statement has left it."""

    id: int
    owner: UUID
    room: int
    n: int
    word: str
    version: int
    type: str


@dataclass
class History:
    """What was committed.

    Attributes:
        versions: of each row, in their order.
        deleted: the rows that are no more.
    """

    versions: dict[int, list[Version]] = field(default_factory=lambda: defaultdict(list))
    deleted: set[int] = field(default_factory=set)

    def __iter__(self) -> Iterator[Version]:
        for versions in self.versions.values():
            yield from versions

    @property
    def count(self) -> int:
        """How many changes there are."""
        return sum(map(len, self.versions.values())) + len(self.deleted)


@dataclass
class Audience:
    """One subscriber: who it is, what it wants, and what it has received.

    Attributes:
        claims: of its token; None for the anonymous key.
        condition: its filter, as clients write it.
        passes: the same in Python.
        event: which operations it wants.
        received: the versions; of a deletion the row, below zero.
    """

    claims: dict[str, Any] | None
    condition: str | None
    passes: Callable[[Version], bool]
    event: str
    received: list[int] = field(default_factory=list, repr=False)

    def may_see(self, version: Version) -> bool:
        """Whether the policies show it a row."""
        if self.claims is None:
            return version.room == 0
        if self.claims["role"] == "service_role":
            return True
        return str(version.owner) == self.claims["sub"] or version.room in self.claims["rooms"]

    def take(self, data: dict[str, Any]) -> None:
        """Keep a change that it has received."""
        if data["type"] == "DELETE":
            assert list(data["old_record"]) == ["id"], data
            self.received.append(-data["old_record"]["id"])
        else:
            self.received.append(data["record"]["version"])

    def check(self, history: History) -> None:
        """Compare what it has received with what it was to receive."""
        owed, allowed = set(), set()
        for versions in history.versions.values():
            for place, version in enumerate(versions):
                if self.event not in ("*", version.type) or not self.passes(version):
                    continue
                if not self.may_see(version):
                    continue
                allowed.add(version.version)
                later = versions[place:]
                is_kept = {(each.owner, each.room) for each in later} == {
                    (version.owner, version.room)
                }
                if is_kept and version.id not in history.deleted:
                    owed.add(version.version)
        if self.event in ("*", "DELETE") and self.condition is None:
            owed |= {-id for id in history.deleted}
        received = set(self.received)
        assert len(received) == len(self.received), "a change came twice"
        assert owed <= received, f"missing: {sorted(owed - received)[:9]} of {self}"
        assert received <= owed | allowed, f"not allowed: {sorted(received - allowed - owed)[:9]}"
        places = {change: place for place, change in enumerate(self.received)}
        for versions in history.versions.values():
            own = [places[each.version] for each in versions if each.version in places]
            assert own == sorted(own), "changes of a row came in another order"


def audiences(count: int, choice: random.Random, *, has_rooms: bool) -> list[Audience]:
    """Return subscribers with claims, filters and operations of their own.

    Args:
        has_rooms: whether some users see rooms, by the policy `of_rooms`.
    """
    found: list[Audience] = []
    for number in range(count):
        claims: dict[str, Any] | None = {
            "role": "service_role" if number % 17 == 16 else "authenticated",
            "sub": str(choice.choice(OWNERS)),
            "rooms": choice.sample(range(1, ROOMS), number % 3 if has_rooms else 0),
            "number": number,
        }
        if number % 10 == 9:
            claims = None
        room, least = choice.randrange(ROOMS), choice.randrange(900)
        condition, passes = choice.choice(_conditions(room, least))
        event = choice.choice(["*", "*", "INSERT", "UPDATE", "DELETE"])
        found.append(Audience(claims, condition, passes, event))
    return found


def _conditions(room: int, least: int) -> Sequence[tuple[str | None, Callable[[Version], bool]]]:
    return [
        (None, lambda version: True),
        (f"n=gt.{least}", lambda version: version.n > least),
        (f"room=eq.{room}", lambda version: version.room == room),
        (f"room=in.({room},0)", lambda version: version.room in (room, 0)),
        ("word=like.a%", lambda version: version.word.startswith("a")),
        (
            f"n=lte.{least},word=not.eq.b",
            lambda version: version.n <= least and version.word != "b",
        ),
    ]


async def write(url: str, writer: int, changes: int, seed: int) -> History:
    """Change rows of one's own in transactions of several statements, some of them undone."""
    choice, history = random.Random(seed), History()
    numbers = iter(range(writer << 32, (writer + 1) << 32))
    next(numbers)  # a row and its negative are not the same
    async with await psycopg.AsyncConnection.connect(url) as connection:
        while history.count < changes:
            written: dict[int, list[Version]] = defaultdict(list)
            removed: set[int] = set()
            alive = [*(history.versions.keys() - history.deleted)]
            for _ in range(choice.randint(1, MAX_OPERATIONS)):
                id = choice.choice(alive) if alive and choice.random() < 0.6 else next(numbers)
                if id in removed:
                    continue
                before = written.get(id) or history.versions.get(id)
                if before and choice.random() < 0.08:
                    await connection.execute(DELETE, [id])
                    removed.add(id)
                    continue
                owner, room = choice.choice(OWNERS), choice.randrange(ROOMS)
                if before and choice.random() < 0.9:
                    owner, room = before[-1].owner, before[-1].room
                values = owner, room, choice.randrange(1000), choice.choice("abc"), next(numbers)
                if before:
                    await connection.execute(UPDATE, [*values, id])
                else:
                    await connection.execute(INSERT, [id, *values])
                written[id].append(Version(id, *values, "UPDATE" if before else "INSERT"))
            if choice.random() < 0.05:
                await connection.rollback()
                continue
            await connection.commit()
            for id, versions in written.items():
                history.versions[id] += versions
            history.deleted |= removed
    return history


async def write_all(url: str, writers: int, changes: int, seed: int) -> History:
    """Let several writers make so many changes together."""
    histories = await asyncio.gather(
        *(write(url, number, changes // writers, seed + number) for number in range(writers))
    )
    history = History()
    for each in histories:
        history.versions |= each.versions
        history.deleted |= each.deleted
    return history
