"""What is known about policies without asking them, beside what Postgres says when it is asked."""

import json
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, AsyncRawCursor
from tests.gateway.realtime.api import ANN, BOB
from tests.gateway.realtime.changes import NOTES

from amphibase.database.statement import Call
from amphibase.gateway.realtime.changes.possible_rows import (
    ANY_ROW,
    AllHold,
    AnyHolds,
    ColumnIsClaim,
    ColumnIsTrue,
    Kind,
    RowCondition,
    RowMasks,
)
from amphibase.gateway.realtime.changes.tables import RoleTable, TableCatalog, versions_call

ROLE = "authenticated"
TABLE = f"""
CREATE TABLE shop.members (who uuid);
GRANT SELECT ON shop.members TO authenticated;
CREATE FUNCTION shop.is_own(owner uuid) RETURNS boolean LANGUAGE sql IMMUTABLE
    AS $$ SELECT owner = auth.uid() $$;
ALTER TABLE shop.notes DROP COLUMN secret, ADD n bigint, ADD ok boolean, ADD code char(4);
GRANT SELECT ON shop.notes TO authenticated;
INSERT INTO shop.members VALUES ('{ANN}');
INSERT INTO shop.notes (id, owner, text, n, ok) VALUES
    (1, '{ANN}', 'ann', 1, true), (2, '{BOB}', 'a@example.com', 20, false),
    (3, NULL, '{ANN}', NULL, NULL), (4, '{BOB}', '7', 7, true)
"""

CALLERS: list[dict[str, Any]] = [
    {"sub": str(ANN), "name": "ann", "n": 1, "app_metadata": {"team": "7"}},
    {"sub": str(BOB), "email": "a@example.com", "n": "20", "admin": True},
    {"sub": str(ANN).upper(), "name": 7, "n": "007", "role": "ann"},
    {"sub": "nobody", "name": None, "n": 1.0},
    {"name": [1]},
]

OWN = ColumnIsClaim("owner", "sub", Kind.UUID)
MEMBER = "EXISTS (SELECT FROM shop.members AS m WHERE m.who = owner AND m.who = auth.uid())"
POLICIES: list[tuple[str, set[str] | None, RowCondition]] = [
    ("true", set(), ANY_ROW),
    ("owner = auth.uid()", {"sub"}, OWN),
    ("(SELECT auth.uid()) = owner", {"sub"}, OWN),
    ("owner = auth.uid() AND lower(text) <> 'ann'", {"sub"}, AllHold((OWN,))),
    ("ok OR owner = auth.uid()", {"sub"}, AnyHolds((ColumnIsTrue("ok"), OWN))),
    ("ok OR n > 1", set(), ANY_ROW),
    ("NOT (owner = auth.uid())", {"sub"}, ANY_ROW),
    ("owner IS NOT DISTINCT FROM auth.uid()", {"sub"}, ANY_ROW),
    ("owner <> auth.uid()", {"sub"}, ANY_ROW),
    ("owner = ANY (ARRAY[auth.uid()])", {"sub"}, ANY_ROW),
    ("text = auth.uid()::text", {"sub"}, ColumnIsClaim("text", "sub", Kind.UUID)),
    ("text = auth.email()", {"email"}, ColumnIsClaim("text", "email", Kind.TEXT)),
    ("text = auth.role()", {"role"}, ColumnIsClaim("text", "role", Kind.TEXT)),
    ("text = auth.jwt() ->> 'name'", {"name"}, ColumnIsClaim("text", "name", Kind.TEXT)),
    ("text = (auth.jwt() -> 'name')::text", {"name"}, ANY_ROW),
    ("text = auth.jwt() -> 'app_metadata' ->> 'team'", {"app_metadata"}, ANY_ROW),
    ("n = (SELECT (auth.jwt() ->> 'n')::int)", {"n"}, ColumnIsClaim("n", "n", Kind.INTEGER)),
    ("n = (auth.jwt() ->> 'n')::numeric", {"n"}, ANY_ROW),
    ("code = (auth.jwt() ->> 'name')::char(4)", {"name"}, ANY_ROW),
    ("auth.jwt() ? 'admin'", None, ANY_ROW),
    ("current_setting('request.jwt.claims')::jsonb ->> 'sub' = owner::text", None, ANY_ROW),
    ("CURRENT_USER = 'authenticated' AND auth.role() = 'ann'", None, ANY_ROW),
    ("shop.is_own(owner)", None, ANY_ROW),
    (MEMBER, None, ANY_ROW),
    (f"{MEMBER} AND owner = auth.uid()", None, AllHold((OWN,))),
    ("owner = (SELECT who FROM shop.members WHERE who = auth.uid())", None, ANY_ROW),
    # As if it named a field of the tree.
    ('owner = (SELECT auth.uid() AS ":opno")', None, ANY_ROW),
]


class _Session:
    """A `QuestionSession` within a transaction of the test."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def run(self, *calls: Call) -> list[list[Any]]:
        cursor = AsyncRawCursor(self._connection)
        return [
            await (await cursor.execute(call.statement.sql.encode(), call.values)).fetchall()
            for call in calls
        ]


async def _read(connection: AsyncConnection[Any]) -> tuple[str, RoleTable]:
    """Return the version of the table, and what is known about it."""
    cursor = await connection.execute("SELECT 'shop.notes'::regclass::oid::bigint")
    ((oid,),) = await cursor.fetchall()
    session: Any = _Session(connection)
    (rows,) = await session.run(versions_call([oid]))
    versions = dict(rows)
    tables = await TableCatalog().read(session, versions, [ROLE])
    return versions[oid], tables[oid, ROLE]


async def _seen(connection: AsyncConnection[Any], claims: str) -> set[int] | str | None:
    """Return the rows that a caller sees, or the error's SQLSTATE."""
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute(
                "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
                [ROLE, claims],
            )
            cursor = await connection.execute("SELECT id FROM shop.notes")
            return {id for (id,) in await cursor.fetchall()}
    except psycopg.Error as error:
        return error.sqlstate


@pytest.fixture
async def connection(database: str) -> Any:
    async with await AsyncConnection.connect(database, autocommit=True) as opened:
        await opened.execute(NOTES.encode())
        await opened.execute(TABLE.encode())
        yield opened


async def test_what_is_known_about_policies_is_what_postgres_says(
    connection: AsyncConnection[Any],
) -> None:
    cursor = await connection.execute("SELECT * FROM shop.notes")
    names = [column.name for column in cursor.description or ()]
    rows = RowMasks({
        row[0]: {
            name: None if value is None else str(value).replace("True", "t")
            for name, value in zip(names, row, strict=True)
        }
        for row in await cursor.fetchall()
    })  # fmt: skip
    for policy, claims, condition in POLICIES:
        await connection.execute(f"ALTER POLICY own ON shop.notes USING ({policy})".encode())
        _, table = await _read(connection)
        reading = table.reading
        assert (reading.claims, reading.condition) == (claims, any_of_one(condition)), policy
        for caller in CALLERS:
            text = json.dumps({"exp": 1, **caller})
            seen = await _seen(connection, text)
            assert await _seen(connection, reading.reduce(text)) == seen, (policy, caller)
            possible = reading.condition.mask(rows, caller)
            if isinstance(seen, set):
                assert all(possible >> id & 1 for id in seen), (policy, caller)


def any_of_one(condition: RowCondition) -> RowCondition:
    """Return what holds where one policy is all that there is."""
    return condition if condition is ANY_ROW else AnyHolds((condition,))


@pytest.mark.parametrize(
    ("statement", "claims", "condition"),
    [
        (
            "CREATE POLICY two ON shop.notes USING (ok)",
            {"sub"},
            AnyHolds((OWN, ColumnIsTrue("ok"))),
        ),
        ("CREATE POLICY two ON shop.notes USING (n = 1)", {"sub"}, ANY_ROW),
        ("CREATE POLICY two ON shop.notes WITH CHECK (n = 1)", {"sub"}, AnyHolds((OWN,))),
        ("CREATE POLICY two ON shop.notes TO anon USING (n = 1)", {"sub"}, AnyHolds((OWN,))),
        ("CREATE POLICY two ON shop.notes AS RESTRICTIVE USING (ok)", {"sub"}, AnyHolds((OWN,))),
        (
            "CREATE POLICY two ON shop.notes AS RESTRICTIVE USING (auth.email() = text)",
            {"sub", "email"},
            AnyHolds((OWN,)),
        ),
        ("ALTER TABLE shop.notes OWNER TO authenticated", {"sub"}, ANY_ROW),
        (
            "REVOKE SELECT ON shop.notes FROM authenticated;"
            " GRANT SELECT (id) ON shop.notes TO authenticated",
            {"sub"},
            ANY_ROW,
        ),
        ("DROP POLICY own ON shop.notes", set(), AnyHolds(())),
        (
            "CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid STABLE LANGUAGE sql"
            " AS 'SELECT NULL::uuid'",
            None,
            ANY_ROW,
        ),
        ("ALTER FUNCTION auth.uid() SET search_path TO shop", None, ANY_ROW),
    ],
)
async def test_all_policies_of_the_role_count_as_they_are_now(
    connection: AsyncConnection[Any],
    statement: str,
    claims: set[str] | None,
    condition: RowCondition,
) -> None:
    async with connection.transaction(force_rollback=True):
        version, _ = await _read(connection)
        await connection.execute(statement.encode())
        later, table = await _read(connection)
        assert later != version
        assert (table.reading.claims, table.reading.condition) == (claims, condition)
