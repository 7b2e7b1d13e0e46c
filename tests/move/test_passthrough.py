"""Tables go from one Postgres to another as they are."""

import pytest
from psycopg.errors import LockNotAvailable
from tests.move.two_databases import TYPES, VALUES, TwoDatabases

from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.tables import ranges
from amphibase.move.tables.passthrough import Passthrough, forget_ranges
from amphibase.move.tables.snapshot import hold_snapshot

PEOPLE = """
CREATE TABLE people (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, age int);
"""

FILL = """
INSERT INTO people (name, age) SELECT repeat('person ', 20) || n, n FROM generate_series(1, 500) n
"""


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small table has several ranges."""
    monkeypatch.setattr(ranges, "PAGES", 2)


def passthrough(sides: TwoDatabases) -> Passthrough:
    return Passthrough(sides.source.url, sides.target.url, "tests", sides.journal)


async def copy(sides: TwoDatabases, *names: str) -> None:
    await passthrough(sides).copy(await sides.pairs(*names))


async def test_values_of_all_types_arrive_as_they_are(two_databases: TwoDatabases) -> None:
    two_databases.run(TYPES)
    two_databases.source.run(VALUES + "; INSERT INTO things (small) VALUES (NULL)")
    await copy(two_databases, "things")
    assert two_databases.target.texts("things") == two_databases.source.texts("things")
    assert len(two_databases.target.texts("things")) == 2


@pytest.mark.parametrize(
    ("source_type", "target_type"), [("varchar(9)", "text"), ("int", "bigint"), ("json", "jsonb")]
)
async def test_a_column_of_another_type_is_read_from_its_text(
    two_databases: TwoDatabases, source_type: str, target_type: str
) -> None:
    two_databases.source.run(f"CREATE TABLE t (v {source_type}); INSERT INTO t VALUES ('1')")
    two_databases.target.run(f"CREATE TABLE t (v {target_type})")
    await copy(two_databases, "t")
    assert two_databases.target.texts("t") == ["(1)"]


async def test_a_name_of_the_catalog_arrives_as_that_name_and_not_as_its_number(
    two_databases: TwoDatabases,
) -> None:
    two_databases.source.run("CREATE TABLE first (a int); CREATE DOMAIN name_of AS regclass[]")
    two_databases.run("CREATE TABLE named (a int)")
    two_databases.target.run("CREATE DOMAIN name_of AS regclass[]")
    two_databases.run("CREATE TABLE t (v regclass, w name_of)")
    two_databases.source.run("INSERT INTO t VALUES ('named', '{named}')")
    await copy(two_databases, "t")
    assert two_databases.target.rows("SELECT v::text, w::text FROM t") == [("named", "{named}")]


async def test_a_partitioned_table_arrives_by_its_partitions_and_an_inheriting_one_by_itself(
    two_databases: TwoDatabases,
) -> None:
    two_databases.run(
        """
        CREATE TABLE days (day date, n int) PARTITION BY RANGE (day);
        CREATE TABLE early PARTITION OF days FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
        CREATE TABLE late (n int, day date);
        ALTER TABLE days ATTACH PARTITION late DEFAULT;
        CREATE TABLE parent (n int); CREATE TABLE child () INHERITS (parent);
        CREATE TABLE empty (n int); CREATE TABLE heir () INHERITS (empty);
        """
    )
    two_databases.source.run(
        """
        INSERT INTO days SELECT date '2020-01-01' + n, n FROM generate_series(0, 2000) n;
        INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
        INSERT INTO heir VALUES (3)
        """
    )
    await copy(two_databases, "days", "heir", "child", "empty", "parent")
    for table in ("early", "late", "ONLY parent", "child", "ONLY empty", "heir"):
        assert two_databases.target.texts(table) == two_databases.source.texts(table), table


async def test_ranges_that_were_copied_are_not_copied_again(two_databases: TwoDatabases) -> None:
    two_databases.run("CREATE TABLE people (name text, age int)")
    two_databases.source.run(FILL)
    await copy(two_databases, "people")
    two_databases.source.run("INSERT INTO people VALUES ('later', 0)")
    await copy(two_databases, "people")
    assert two_databases.target.value("SELECT count(*) FROM people") == 500


async def test_a_table_with_rows_of_somebody_else_is_not_copied_to(
    two_databases: TwoDatabases,
) -> None:
    two_databases.run(PEOPLE)
    two_databases.run(FILL)
    with pytest.raises(MoveFailed, match=r"public\.people has rows on the target"):
        await copy(two_databases, "people")
    assert two_databases.target.value("SELECT count(*) FROM people") == 500


async def test_rows_near_a_rejected_one_are_left_to_the_comparison_and_all_others_arrive(
    two_databases: TwoDatabases,
) -> None:
    two_databases.run(PEOPLE)
    two_databases.source.run(FILL)
    two_databases.target.run("ALTER TABLE people ADD CHECK (age <> 250)")
    await copy(two_databases, "people")
    missing = 500 - two_databases.target.value("SELECT count(*) FROM people")
    (page,) = two_databases.source.rows(
        "SELECT count(*) FROM people WHERE (ctid::text::point)[0] = "
        "(SELECT (ctid::text::point)[0] FROM people WHERE age = 250)"
    )
    assert missing == page[0]


async def test_a_rejected_row_of_a_table_without_a_key_stops_the_move(
    two_databases: TwoDatabases,
) -> None:
    two_databases.source.run("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (-1)")
    two_databases.target.run("CREATE TABLE t (n int CHECK (n > 0))")
    with pytest.raises(MoveFailed, match=r"t_n_check.*no key"):
        await copy(two_databases, "t")


async def test_a_table_that_a_migration_has_locked_is_named(
    two_databases: TwoDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amphibase.move.tables.snapshot.LOCK_SECONDS", 0.1)
    two_databases.run(PEOPLE)
    pairs = await two_databases.pairs("people")
    with two_databases.source.connection.transaction():
        two_databases.source.run("LOCK TABLE people IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(MoveFailed, match=r"public\.people is locked"):
            await passthrough(two_databases).copy(pairs)


async def test_no_migration_changes_a_table_while_it_is_copied(
    two_databases: TwoDatabases,
) -> None:
    two_databases.run(PEOPLE)
    two_databases.source.run(FILL)
    table = TableName("public", "people")
    async with hold_snapshot(two_databases.source.url, [table]) as snapshot:
        two_databases.source.run("DELETE FROM people; SET lock_timeout = '50ms'")
        with pytest.raises(LockNotAvailable):
            two_databases.source.run("TRUNCATE people")
        async with snapshot.reader() as reader:
            cursor = await reader.execute("SELECT count(*) FROM people")
            assert await cursor.fetchone() == (500,)


async def test_checkpoints_are_gone_when_they_are_forgotten(two_databases: TwoDatabases) -> None:
    two_databases.run(PEOPLE)
    await copy(two_databases, "people")
    await forget_ranges(two_databases.target.url, "tests")
    assert two_databases.target.value("SELECT to_regnamespace('amphibase_move')") is None
