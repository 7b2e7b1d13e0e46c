"""The parser of what SQLite keeps as text."""

import sqlite3

import pytest

from amphibase.schema.migrations.sqlite_ddl import Check, Formula, parse_index, parse_table

STATEMENT = """
CREATE TABLE "my items" (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- a comment with (, and '
    "code" VARCHAR(20) COLLATE "NOCASE" NOT NULL CONSTRAINT "is short"
        CHECK (code||'a)' <> x'ab' AND 1e-5>=.5 OR lower(code) IN ('a', 'it''s')),
    twice INT GENERATED ALWAYS AS (id*2) STORED, /* , CHECK (0) */
    first AS ("code"->>'$.a'),
    CHECK(length("code")>0)
)
"""


def test_a_table_is_parsed_as_sqlite_reads_it() -> None:
    """Comments, quotes, literals and operators are distinguished."""
    sqlite3.connect(":memory:").execute(STATEMENT)
    parsed = parse_table(STATEMENT)
    assert parsed.checks == [
        Check("is short", "code || 'a)' <> x'ab' AND 1e-5 >= .5 OR lower(code) IN ('a', 'it''s')"),
        Check(None, 'length("code") > 0'),
    ]
    assert parsed.collations == {"code": "NOCASE"}
    assert parsed.formulas == {
        "twice": Formula("id * 2", stored=True),
        "first": Formula("\"code\" ->> '$.a'", stored=False),
    }
    assert parsed.autoincrement
    assert not parsed.strict
    assert parsed.unsupported == []


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ('CREATE INDEX a ON t (lower("Title"))', "create index a on t(LOWER( title ))", True),
        ("CREATE INDEX a ON t (b) WHERE c='x'", "CREATE INDEX a ON t (b) WHERE c = 'X'", False),
        ("CREATE INDEX a ON t (b)", "CREATE UNIQUE INDEX a ON t (b)", False),
        ("CREATE INDEX a ON t (b DESC)", "CREATE INDEX a ON t (b)", False),
        ('CREATE INDEX a ON t ("b c")', "CREATE INDEX a ON t (b, c)", False),
    ],
)
def test_indexes_are_the_same_whatever_their_spelling(first: str, second: str, same: bool) -> None:
    assert (str(parse_index(first)) == str(parse_index(second))) is same
