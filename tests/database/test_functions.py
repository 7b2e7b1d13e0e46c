"""Stored functions, called by name on Postgres and in a Supabase project."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from tests.backends import ANN, BOB, Records
from tests.models import Note

from amphibase import (
    ANONYMOUS,
    SERVICE,
    Conflict,
    Forbidden,
    InvalidRequest,
    InvalidValue,
    NotFound,
    NotSupported,
    Transaction,
)

FUNCTIONS = (
    "add_up(a int, b int DEFAULT 10) RETURNS int LANGUAGE sql AS 'SELECT a + b'",
    "add_up(a int, b int, c int) RETURNS int LANGUAGE sql AS 'SELECT a + b + c'",
    "nothing() RETURNS void LANGUAGE sql AS 'SELECT'",
    "no_value() RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
    "echo(t text) RETURNS text LANGUAGE sql AS 'SELECT t'",
    "echo_json(j jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT j'",
    "echo_ids(ids uuid[]) RETURNS uuid[] LANGUAGE sql AS 'SELECT ids'",
    "moment(at timestamptz) RETURNS timestamptz LANGUAGE sql AS 'SELECT at'",
    "price(p numeric) RETURNS numeric LANGUAGE sql AS 'SELECT p'",
    '"Odd :name %s"("Odd :arg %s" int) RETURNS int LANGUAGE sql AS $$SELECT "Odd :arg %s"$$',
    "my_notes() RETURNS SETOF t_notes LANGUAGE sql STABLE AS "
    "'SELECT * FROM t_notes ORDER BY title'",
    "numbered(n int) RETURNS TABLE (place int, word text) LANGUAGE sql AS "
    "'SELECT i, i::text FROM generate_series(1, n) AS i'",
    "write_note(id uuid, owner uuid, title text) RETURNS uuid LANGUAGE sql AS "
    "'INSERT INTO t_notes (id, owner_id, title, stars) VALUES (id, owner, title, 1) "
    "RETURNING t_notes.id'",
    "fail() RETURNS int LANGUAGE plpgsql AS "
    "'BEGIN RAISE unique_violation USING MESSAGE = ''taken''; END'",
    "refuse() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not on Sundays''; END'",
    "unnamed(int) RETURNS int LANGUAGE sql AS 'SELECT $1'",
    "unnamed_at_last() RETURNS void LANGUAGE sql AS 'SELECT'",
)


class Row(BaseModel):
    place: int
    word: str


class NoteRow(BaseModel):
    id: UUID
    title: str
    stars: int


on_sql = pytest.mark.parametrize("shared_records", ["predicate", "rls"], indirect=True)
on_both = pytest.mark.parametrize("shared_records", ["predicate", "rls", "supabase"], indirect=True)


@pytest.fixture(scope="module")
async def functions(shared_records: Records) -> None:
    """Functions to be called, which no test changes."""
    statements = [f"CREATE OR REPLACE FUNCTION {function}" for function in FUNCTIONS]
    await shared_records.execute(*(text(statement.replace(":", r"\:")) for statement in statements))
    for _ in range(1200):  # the Data API reads the catalog anew
        with suppress(NotFound):
            await shared_records.backend.call("unnamed_at_last", SERVICE)
            break
        await asyncio.sleep(0.05)


@pytest.fixture
async def on_postgres(functions: None, records: Records) -> Records:
    """Postgres, with these functions."""
    return records


@pytest.mark.parametrize("shared_records", ["sqlite"], indirect=True)
async def test_sqlite_has_none(records: Records) -> None:
    assert not records.backend.capabilities.stored_functions
    with pytest.raises(NotSupported):
        await records.backend.call("add_up", ANN, a=1)
    async with records.backend.transaction(ANN) as transaction:
        with pytest.raises(NotSupported):
            await transaction.call("add_up", a=1)


@on_both
class TestResults:
    async def test_are_of_the_type_that_is_requested(self, on_postgres: Records) -> None:
        call = on_postgres.backend.call
        assert await call("add_up", ANN, returns=int, a=1, b=2) == 3
        assert await call("add_up", ANN, a=1, b=2) == 3
        assert await call("nothing", ANN, returns=None) is None
        assert await call("no_value", ANN, returns=str | None) is None
        ids = [uuid4(), uuid4()]
        assert await call("echo_ids", ANN, returns=list[UUID], ids=ids) == ids
        at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
        assert await call("moment", ANN, returns=datetime, at=at) == at
        price = Decimal("12345678901234567890.10")
        assert await call("price", ANN, returns=Decimal, p=price) == price

    async def test_json_goes_in_and_out(self, on_postgres: Records) -> None:
        for value in ({"a": [1, None, {"é": True}]}, [1, 2], "text", None, 5):
            found = await on_postgres.backend.call("echo_json", ANN, j=value)
            assert found == value

    async def test_a_set_is_a_list_of_rows(self, on_postgres: Records) -> None:
        rows = await on_postgres.backend.call("numbered", ANN, returns=list[Row], n=2)
        assert rows == [Row(place=1, word="1"), Row(place=2, word="2")]
        assert await on_postgres.backend.call("numbered", ANN, returns=list[Row], n=0) == []
        raw = await on_postgres.backend.call("numbered", ANN, n=1)
        assert raw == [{"place": 1, "word": "1"}]

    async def test_rows_of_a_table_are_models(self, on_postgres: Records) -> None:
        await on_postgres.of(Note, ANN).add(Note(title="ann's", stars=3))
        (row,) = await on_postgres.backend.call("my_notes", ANN, returns=list[NoteRow])
        assert (row.title, row.stars) == ("ann's", 3)

    async def test_of_another_type_are_rejected(self, on_postgres: Records) -> None:
        with pytest.raises(InvalidValue):
            await on_postgres.backend.call("echo", ANN, returns=int, t="abc")


@on_both
class TestFinding:
    async def test_goes_by_the_names_of_the_arguments(self, on_postgres: Records) -> None:
        call = on_postgres.backend.call
        assert await call("add_up", ANN, a=1) == 11
        assert await call("add_up", ANN, a=1, b=1, c=1) == 3
        for arguments in ({}, {"b": 1}, {"a": 1, "c": 1}, {"a": 1, "d": 1}):
            with pytest.raises(NotFound):
                await call("add_up", ANN, **arguments)

    async def test_odd_names_are_names(self, on_postgres: Records) -> None:
        assert await on_postgres.backend.call("Odd :name %s", ANN, **{"Odd :arg %s": 5}) == 5

    @pytest.mark.parametrize(
        "name",
        [
            "nope",
            "",
            "ADD_UP",
            "pg_sleep",
            "pg_catalog.pg_sleep",
            "pg_read_file",
            "pg_terminate_backend",
            "set_config",
            "current_setting",
            "lo_import",
            "query_to_xml",
            "public.echo",
            'echo"(t => 1); DROP TABLE t_notes; --',
            "echo('x'); --",
            "a\x00b",
            "x" * 10_000,
            "é",
        ],
    )
    async def test_what_is_not_there_is_not_found(self, on_postgres: Records, name: str) -> None:
        for arguments in ({}, {"t": "x"}):
            for caller in (ANN, SERVICE):
                with pytest.raises(NotFound):
                    await on_postgres.backend.call(name, caller, **arguments)

    async def test_the_schemas_of_others_are_not_open(self, on_postgres: Records) -> None:
        for name in ("uid", "jwt", "role", "email"):
            with pytest.raises(NotFound):
                await on_postgres.backend.call(name, ANN)

    async def test_arguments_do_not_inject(self, on_postgres: Records) -> None:
        words = "'; DROP TABLE t_notes; -- \" \\ %s :a $1"
        assert await on_postgres.backend.call("echo", ANN, t=words) == words
        for name in ("t => 1) ; DROP TABLE t_notes; --", 't"', "t' ", ":t", "%(t)s", "T", "a\x00"):
            with pytest.raises(NotFound):
                await on_postgres.backend.call("echo", ANN, **{name: "x"})
        assert await on_postgres.of(Note).count() == 0

    async def test_what_the_function_says_is_passed_on(self, on_postgres: Records) -> None:
        with pytest.raises(InvalidRequest, match="not on Sundays"):
            await on_postgres.backend.call("refuse", ANN)

    async def test_bad_arguments_are_rejected(self, on_postgres: Records) -> None:
        bad: list[tuple[str, dict[str, Any]]] = [
            ("add_up", {"a": "abc"}),
            ("add_up", {"a": 2**31}),
            ("add_up", {"a": 10**30}),
            ("add_up", {"a": 2**31 - 1, "b": 1}),
            ("echo", {"t": "a\x00b"}),
            ("echo", {"t": "\ud800"}),
            ("echo", {"t": object()}),
            ("echo_json", {"j": {"a": object()}}),
            ("echo_json", {"j": {"a": "x\x00"}}),
            ("echo_ids", {"ids": "abc"}),
            ("moment", {"at": "yesterday-ish"}),
        ]
        for name, arguments in bad:
            with pytest.raises(InvalidValue):
                await on_postgres.backend.call(name, ANN, **arguments)


@on_both
class TestEffects:
    async def test_are_committed(self, on_postgres: Records) -> None:
        id = uuid4()
        call = on_postgres.backend.call
        arguments = {"id": id, "owner": ANN.user_id, "title": "x"}
        assert await call("write_note", ANN, returns=UUID, **arguments) == id
        assert (await on_postgres.of(Note).one()).id == id
        with pytest.raises(Conflict):
            await call("write_note", ANN, **arguments)
        with pytest.raises(Conflict):
            await call("fail", ANN)


@on_sql
async def test_effects_go_with_the_transaction(on_postgres: Records) -> None:
    async def write_and_fail(transaction: Transaction) -> None:
        await transaction.call("write_note", id=uuid4(), owner=ANN.user_id, title="x")
        assert await transaction.repository(Note).count() == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await on_postgres.backend.in_transaction(ANN, write_and_fail)
    assert await on_postgres.of(Note).count() == 0


@pytest.mark.parametrize("shared_records", ["rls"], indirect=True)
async def test_a_function_does_what_its_caller_may(on_postgres: Records) -> None:
    call = on_postgres.backend.call
    await on_postgres.of(Note, ANN).add(Note(title="ann's", stars=3))
    assert await call("my_notes", BOB) == []
    (row,) = await call("my_notes", ANN, returns=list[NoteRow])
    assert row.title == "ann's"
    with pytest.raises(Forbidden):
        await call("write_note", BOB, id=uuid4(), owner=ANN.user_id, title="x")
    with pytest.raises(Forbidden):
        await call("write_note", ANONYMOUS, id=uuid4(), owner=ANN.user_id, title="x")
    assert await on_postgres.of(Note).count() == 1
