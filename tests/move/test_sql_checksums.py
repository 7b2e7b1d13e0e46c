"""Two Postgres servers compute whether they hold the same rows."""

import pytest
from tests.move.two_databases import TYPES, VALUES, TwoDatabases, open_side

from amphibase.move.tables import sql_checksums
from amphibase.move.tables.base import Key
from amphibase.move.tables.sql_checksums import SqlChecksums, SqlFingerprints, open_sql_checksums

FOLDED = (
    "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
)


@pytest.fixture(params=["values", "texts"], autouse=True)
def _hashed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of values are for servers of one version, and hashes of texts for others."""
    if request.param == "texts":
        init = SqlChecksums.__init__

        def of_texts(self: SqlChecksums, *sides: object) -> None:
            init(self, *sides)  # type: ignore[arg-type]
            self._hashes_values = False

        monkeypatch.setattr(SqlChecksums, "__init__", of_texts)


async def compare(sides: TwoDatabases, name: str = "t") -> tuple[SqlFingerprints, list[Key]]:
    """Return the fingerprints of a table, and the keys of the rows that differ."""
    pairs = await sides.pairs(name)
    keys: list[Key] = []
    async with open_sql_checksums(sides.source.url, sides.target.url, pairs) as checksums:
        fingerprints = await checksums.read_fingerprints(pairs[0])
        if pairs[0].source.key:
            async for some in checksums.read_differing_keys(pairs[0], fingerprints):
                keys += some
    return fingerprints, sorted(keys)


async def test_rows_of_all_types_are_the_same_on_both_sides(two_databases: TwoDatabases) -> None:
    two_databases.run(TYPES + VALUES)
    fingerprints, keys = await compare(two_databases, "things")
    assert fingerprints.are_equal
    assert fingerprints.source.total == fingerprints.target.total != 0
    assert (fingerprints.source.rows, keys) == (1, [])


ALIKE: dict[str, tuple[str, str | None]] = {
    "numeric": ("1.0", "1.00"),
    "double precision": ("0", "-0"),
    "jsonb": ('{"a": 1.0}', '{"a": 1.00}'),
    "json": ('{"a":1}', '{"a": 1}'),
    "interval": ("24:00", "1 day"),
    "text": ("", None),
    "int[]": ("{1,2}", "[0:1]={1,2}"),
    "numeric[]": ("{1.0}", "{1.00}"),
    "bit varying": ("1", "10"),
    "time": ("00:00", "24:00"),
    "timestamptz": ("2020-01-01Z", "2020-01-01T00:00:00.000001Z"),
}


async def test_values_that_look_alike_are_told_apart(two_databases: TwoDatabases) -> None:
    alike = dict(ALIKE)
    if two_databases.source.value("SELECT to_regcollation('\"de-x-icu\"')"):  # built with ICU
        two_databases.run(FOLDED)
        alike['text COLLATE "folded"'] = ("a", "A")
    for place, (type, values) in enumerate(alike.items()):
        two_databases.run(f"CREATE TABLE t{place} (id int PRIMARY KEY, v {type})")
        for side, value in zip((two_databases.source, two_databases.target), values, strict=True):
            side.run(f"INSERT INTO t{place} VALUES (2, %s)", value)
    equal = [
        type
        for place, type in enumerate(alike)
        if (await compare(two_databases, f"t{place}"))[1] != [("2",)]
    ]
    assert equal == []


@pytest.mark.parametrize("rows_at_once", [1, 50_000])
async def test_rows_that_differ_are_named_however_many_are_read_at_once(
    two_databases: TwoDatabases, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_checksums, "PAGES", 1)
    monkeypatch.setattr(sql_checksums, "ROWS_AT_ONCE", rows_at_once)
    two_databases.run(
        """
        CREATE TABLE t (a int, b text, hash text, PRIMARY KEY (b, a)) ;
        INSERT INTO t SELECT n, 'B' || n, repeat('x', n) FROM generate_series(1, 500) n
        """
    )
    two_databases.source.run(
        "INSERT INTO t VALUES (501, E'tab\\t\\\\N'); DELETE FROM t WHERE a = 7"
    )
    two_databases.target.run("UPDATE t SET hash = 'y' WHERE a IN (1, 400)")
    fingerprints, keys = await compare(two_databases)
    assert (fingerprints.source.rows, fingerprints.target.rows) == (500, 500)
    assert set(keys) == {("B1", "1"), ("B400", "400"), ("tab\t\\N", "501"), ("B7", "7")}


async def test_a_partitioned_table_is_compared_with_one_that_is_not(
    two_databases: TwoDatabases,
) -> None:
    two_databases.source.run(
        """
        CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY HASH (id);
        CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO t SELECT n, n FROM generate_series(1, 100) n
        """
    )
    two_databases.target.run(
        """
        CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE heir () INHERITS (t);
        INSERT INTO t SELECT n, n FROM generate_series(1, 100) n; INSERT INTO heir VALUES (101)
        """
    )
    assert (await compare(two_databases))[0].are_equal
    two_databases.target.run("UPDATE t SET v = 'x' WHERE id = 50")
    assert (await compare(two_databases))[1] == [("50",)]


async def test_rows_of_a_table_without_a_key_that_are_there_twice_are_counted(
    two_databases: TwoDatabases,
) -> None:
    two_databases.run("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2), (2)")
    assert (await compare(two_databases))[0].are_equal
    two_databases.target.run("UPDATE t SET n = 1 WHERE ctid = '(0,3)'")
    assert not (await compare(two_databases))[0].are_equal


async def test_databases_of_different_encodings_hold_the_same(
    two_databases: TwoDatabases,
) -> None:
    two_databases.target.run(
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    )
    latin = open_side(two_databases.target.url.set(database="latin"))
    sides = TwoDatabases(two_databases.source, latin, two_databases.journal)
    sides.run("CREATE TABLE t (id text PRIMARY KEY); INSERT INTO t VALUES ('ä'), ('a')")
    fingerprints, keys = await compare(sides)
    latin.connection.close()
    two_databases.target.run("DROP DATABASE latin")
    assert fingerprints.are_equal
    assert keys == []
