"""The sides of a move."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from tests.move.tables import CLOSED, CYCLE, DDL, ROWS, Side
from tests.move.two_databases import TwoDatabases, open_side
from tests.servers import Databases

from amphibase.move.journal import Journal


@pytest.fixture
def two_databases(databases: Databases, tmp_path: Path) -> Iterator[TwoDatabases]:
    """Two empty databases on one Postgres server."""
    with (
        databases.new() as first,
        databases.new() as second,
        Journal(tmp_path / "two_databases.toml") as journal,
    ):
        source, target = open_side(make_url(first)), open_side(make_url(second))
        yield TwoDatabases(source, target, journal)
        source.connection.close()
        target.connection.close()


@pytest.fixture(params=["sqlite-postgres", "postgres-sqlite", "postgres-postgres"])
def sides(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases
) -> Iterator[tuple[Side, Side]]:
    """A source with rows and a target with the same tables, empty."""
    kinds = request.param.split("-")
    with ExitStack() as opened:
        urls = [
            opened.enter_context(databases.new())
            if kind == "postgres"
            else f"sqlite:///{tmp_path}/{place}.db"
            for place, kind in enumerate(kinds)
        ]
        source, target = map(Side, urls)
        for side in (source, target):
            script = DDL + ("" if side.is_sqlite else CYCLE)
            side.run(script.replace("favourite INTEGER", CLOSED) if side.is_sqlite else script)
        source.run(ROWS)
        yield source, target
