"""What is taken off a target's tables for a load is put back as it was."""

import subprocess
from collections import Counter

import pytest
from psycopg.errors import UniqueViolation
from tests.move.two_databases import Side, TwoDatabases

from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.progress import NoProgress
from amphibase.move.tables import passthrough
from amphibase.move.tables.constraints import Constraints
from amphibase.move.tables.passthrough import Passthrough, forget_ranges
from amphibase.postgres.binaries import find_binaries

SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE people (
    id int PRIMARY KEY, email text, name text COLLATE "C", age int, manager int REFERENCES people,
    orders int NOT NULL DEFAULT 0, during int4range, EXCLUDE USING gist (during WITH &&)
);
CREATE TABLE "Odd ""name" (
    a int, b int NOT NULL, "c%%" text,
    CONSTRAINT "it's" UNIQUE (a) INCLUDE ("c%%") WITH (fillfactor = 70)
        DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "b" UNIQUE (b)
);
CREATE TABLE shop.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person int, other int,
    CONSTRAINT person FOREIGN KEY (person) REFERENCES people ON DELETE CASCADE DEFERRABLE,
    CONSTRAINT other FOREIGN KEY (other) REFERENCES "Odd ""name" (b) ON DELETE SET NULL NOT VALID
);
ALTER TABLE people ADD CONSTRAINT latest FOREIGN KEY (orders) REFERENCES shop.orders NOT VALID;
CREATE TABLE days (day date PRIMARY KEY, n int REFERENCES people) PARTITION BY RANGE (day);
CREATE TABLE early PARTITION OF days FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE INDEX on_n ON days (n);
CREATE UNIQUE INDEX by_email ON people (lower(email) text_pattern_ops)
    WHERE age > 5 AND email <> '{}';
CREATE INDEX by_name ON people USING gin (to_tsvector('english', name)) WITH (fastupdate = off);
CREATE INDEX by_age ON people USING brin (age);
CLUSTER people USING people_pkey;
ALTER TABLE "Odd ""name" REPLICA IDENTITY USING INDEX "b";
COMMENT ON INDEX by_email IS 'it''s {unique}';
COMMENT ON CONSTRAINT people_pkey ON people IS 'the key';
COMMENT ON INDEX people_pkey IS 'its index';
COMMENT ON CONSTRAINT person ON shop.orders IS 'who';
CREATE VIEW per_person AS SELECT p.id, p.name, count(*) FROM people p GROUP BY p.id;
ALTER INDEX by_age SET TABLESPACE pg_default;
"""

TABLES = [
    TableName("public", "people"),
    TableName("public", 'Odd "name'),
    TableName("shop", "orders"),
    TableName("public", "days"),
]

FAMILY = """
CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, boss int REFERENCES people);
CREATE TABLE orders (id int PRIMARY KEY, person int REFERENCES people);
"""

PEOPLE, ORDERS = TableName("public", "people"), TableName("public", "orders")


@pytest.fixture(autouse=True)
def _every_table_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passthrough, "LARGE", 0)


class CountingProgress(NoProgress):
    """Counts what is done."""

    def __init__(self) -> None:
        self.totals: dict[str, int | None] = {}
        self.done: Counter[str] = Counter()

    def start(self, task: str, total: int | None, unit: str) -> None:
        self.totals[task] = total

    def advance(self, task: str, amount: int) -> None:
        self.done[task] += amount


@pytest.fixture
def target(two_databases: TwoDatabases) -> Side:
    return two_databases.target


@pytest.fixture
def constraints(two_databases: TwoDatabases) -> Constraints:
    return Constraints(two_databases.target.url, two_databases.journal)


def dump(side: Side) -> str:
    """Return the schema as pg_dump writes it."""
    url = side.url.set(drivername="postgresql").render_as_string(hide_password=False)
    command = [str(find_binaries() / "pg_dump"), "--schema-only", url]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in lines.splitlines() if "restrict " not in line)


def constraint_names(side: Side) -> set[str]:
    query = """SELECT conname FROM pg_constraint WHERE contype IN ('f', 'p', 'u')
               AND connamespace IN ('public'::regnamespace, to_regnamespace('shop'))"""
    return {name for (name,) in side.rows(query)}


async def test_the_schema_is_the_same_when_everything_is_back(
    target: Side, constraints: Constraints
) -> None:
    target.run(SCHEMA)
    before = dump(target)
    assert await constraints.take_off(TABLES, large=TABLES) == []
    assert {part.name for part in constraints.taken_off()} == {
        *("by_email", "by_name", "by_age", "it's", "b", "orders_pkey"),
        *("people_manager_fkey", "person", "other", "latest", "days_n_fkey"),
    }  # but the key that a view needs
    assert constraint_names(target) == {"people_pkey", "days_pkey", "early_pkey"}
    assert await constraints.put_back() == 0
    assert dump(target) == before
    assert constraints.taken_off() == []


async def test_what_is_there_already_after_a_kill_is_not_made_twice(
    target: Side, constraints: Constraints
) -> None:
    target.run(FAMILY)
    before = dump(target)
    await constraints.take_off([PEOPLE, ORDERS], large=[PEOPLE])
    target.run("ALTER TABLE people ADD CONSTRAINT people_pkey PRIMARY KEY (id)")
    await constraints.put_back()
    assert dump(target) == before


async def test_what_belongs_to_another_role_stays_and_is_named(
    target: Side, constraints: Constraints, two_databases: TwoDatabases
) -> None:
    target.run(FAMILY)
    target.run("DROP ROLE IF EXISTS mover; CREATE ROLE mover LOGIN PASSWORD 'secret'")
    mover = Constraints(target.url.set(username="mover", password="secret"), two_databases.journal)
    staying = await mover.take_off([PEOPLE, ORDERS], large=[PEOPLE])
    assert staying == ["public.orders orders_person_fkey", "public.people people_boss_fkey"]
    assert mover.taken_off() == []


async def test_what_the_role_may_take_off_and_not_put_back_stays(
    target: Side, constraints: Constraints, two_databases: TwoDatabases
) -> None:
    target.run(FAMILY + "CREATE INDEX by_boss ON people (boss)")
    target.run(
        """
        DROP ROLE IF EXISTS owner_of_tables; CREATE ROLE owner_of_tables LOGIN PASSWORD 'secret';
        ALTER TABLE people OWNER TO owner_of_tables; ALTER TABLE orders OWNER TO owner_of_tables;
        REVOKE CREATE ON SCHEMA public FROM PUBLIC, owner_of_tables;
        REVOKE REFERENCES ON people FROM owner_of_tables;
        """
    )
    url = target.url.set(username="owner_of_tables", password="secret")
    mover = Constraints(url, two_databases.journal)
    staying = await mover.take_off([PEOPLE, ORDERS], large=[PEOPLE, ORDERS])
    assert staying == ["public.orders orders_person_fkey", "public.people people_boss_fkey"]
    assert mover.taken_off() == []
    target.run("GRANT REFERENCES (id) ON people TO owner_of_tables")
    assert await mover.take_off([PEOPLE, ORDERS], large=[PEOPLE, ORDERS]) == []
    assert {part.name for part in mover.taken_off()} == {"orders_person_fkey", "people_boss_fkey"}
    await mover.put_back()
    assert len(constraint_names(target)) == 5
    target.run("GRANT CREATE ON SCHEMA public TO owner_of_tables")
    await mover.take_off([PEOPLE, ORDERS], large=[PEOPLE, ORDERS])
    assert len(mover.taken_off()) == 6
    await mover.put_back()
    assert len(constraint_names(target)) == 5


async def test_rows_that_a_key_forbids_are_deleted_and_those_that_referred_to_them(
    target: Side, constraints: Constraints
) -> None:
    target.run(FAMILY)
    await constraints.take_off([PEOPLE, ORDERS], large=[PEOPLE, ORDERS])
    target.run(
        """
        INSERT INTO people VALUES (1, 'a', NULL), (2, 'b', 1), (2, 'c', 1), (3, NULL, 2),
                                  (4, NULL, 3), (5, 'd', 1), (6, 'd', 1), (7, 'e', NULL);
        INSERT INTO orders VALUES (1, 1), (2, 4), (3, 9), (4, NULL)
        """
    )
    assert await constraints.put_back() == 8
    assert target.rows("SELECT id FROM people ORDER BY 1") == [(1,), (7,)]
    assert target.rows("SELECT id FROM orders ORDER BY 1") == [(1,), (4,)]
    assert len(constraint_names(target)) == 5
    with pytest.raises(UniqueViolation):
        target.run("INSERT INTO people VALUES (1)")


async def test_what_cannot_be_put_back_is_named_and_not_forgotten(
    target: Side, constraints: Constraints
) -> None:
    target.run(FAMILY)
    await constraints.take_off([PEOPLE, ORDERS], large=[PEOPLE])
    target.run("ALTER TABLE people DROP COLUMN email")
    with pytest.raises(MoveFailed, match=r"people_email_key .* public\.people: column .* exist"):
        await constraints.put_back()
    assert next(part.name for part in constraints.taken_off()) == "people_email_key"


async def test_tables_that_refer_to_each_other_are_copied_whatever_their_order(
    two_databases: TwoDatabases,
) -> None:
    two_databases.run(FAMILY)
    two_databases.source.run(
        "INSERT INTO people SELECT n, n, 1001 - n FROM generate_series(1, 1000) n; "
        "INSERT INTO orders SELECT n, n FROM generate_series(1, 1000) n"
    )
    before = dump(two_databases.target)
    mover = Passthrough(
        two_databases.source.url, two_databases.target.url, "tests", two_databases.journal
    )
    await mover.copy(await two_databases.pairs("orders", "people"))
    await forget_ranges(two_databases.target.url, "tests")
    assert dump(two_databases.target) == before
    for table in ("people", "orders"):
        assert two_databases.target.texts(table) == two_databases.source.texts(table)


async def test_keys_are_back_when_a_copy_fails(two_databases: TwoDatabases) -> None:
    two_databases.run(FAMILY + "CREATE TABLE t (n int)")
    two_databases.source.run("INSERT INTO t VALUES (1); INSERT INTO people VALUES (1)")
    two_databases.target.run("ALTER TABLE t ADD CHECK (n > 1)")
    before = constraint_names(two_databases.target)
    mover = Passthrough(
        two_databases.source.url, two_databases.target.url, "tests", two_databases.journal
    )
    with pytest.raises(MoveFailed, match="t_n_check"):
        await mover.copy(await two_databases.pairs("people", "orders", "t"))
    assert constraint_names(two_databases.target) == before


async def test_progress_counts_the_keys_and_indexes_that_are_built(
    target: Side, two_databases: TwoDatabases
) -> None:
    target.run(FAMILY)
    progress = CountingProgress()
    constraints = Constraints(target.url, two_databases.journal, progress)
    await constraints.take_off([PEOPLE, ORDERS], large=[PEOPLE, ORDERS])
    number = len(constraints.taken_off())
    await constraints.put_back()
    assert progress.totals == progress.done == {"keys and indexes": number}
