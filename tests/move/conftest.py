"""The sides of a move."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
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
