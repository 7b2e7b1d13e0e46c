"""Values that Python cannot hold are errors on every way to the database, and never others."""

import os
from collections.abc import Iterator
from datetime import timedelta
from math import isinf

import psycopg
import pytest
from sqlalchemy import text
from tests.servers import new_server

from amphibase.database.engine import Database, PoolOptions
from amphibase.database.json_reader import read_json
from amphibase.database.statement import Call, Statement
from amphibase.errors import InvalidValue
from amphibase.postgres import find_binaries


@pytest.fixture(scope="module")
def newer_url() -> Iterator[str]:
    """A server that has intervals without end, as Postgres has since 17."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{find_binaries(18)}:{os.environ['PATH']}")
        with new_server() as server:
            yield server.url


@pytest.mark.parametrize(
    ("value", "error", "translated"),
    [
        ("interval 'infinity'", psycopg.DataError, InvalidValue),
        ("interval '-infinity'", psycopg.DataError, InvalidValue),
        ("""json '{"a": 1e400}'""", ValueError, ValueError),
    ],
)
async def test_a_value_that_python_cannot_hold_is_an_error(
    newer_url: str, value: str, error: type[Exception], translated: type[Exception]
) -> None:
    database = Database(newer_url, PoolOptions(size=2, pipelined=1))
    assert database.pipeline is not None
    select = f"SELECT {value}, interval '1 day'"
    with pytest.raises(error):
        await database.pipeline.run(Call(Statement(select), []))
    with pytest.raises(translated):
        async with database.read() as connection:
            await connection.execute(text(select))
    finite = Call(Statement("SELECT interval '-1 day 2 hours'"), [])
    assert await database.pipeline.run(finite) == [[(timedelta(days=-1, hours=2),)]]
    await database.close()


@pytest.mark.parametrize("number", ["1e400", "-1E+309", "[1.5e999]", "1" * 400 + ".5", "NaN"])
def test_a_number_in_json_that_python_cannot_hold_is_an_error(number: str) -> None:
    for document in (number, number.encode()):
        with pytest.raises(ValueError, match=r"too large|not JSON"):
            read_json(document)


def test_other_numbers_in_json_are_read_as_they_are() -> None:
    read = read_json(b'[1e308, 1e-400, 1E+00000100, "1e400", ' + b"7" * 400 + b"]")
    assert read == [1e308, 0.0, 1e100, "1e400", int("7" * 400)]
    assert not any(isinf(value) for value in read[:3])
