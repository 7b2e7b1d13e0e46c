"""The sides of a move."""

from collections.abc import Iterator

import pytest
from tests.move.two_databases import TwoDatabases, open_side
from tests.servers import Databases


@pytest.fixture
def two_databases(databases: Databases) -> Iterator[TwoDatabases]:
    """Two empty databases on one Postgres server."""
    with databases.new() as first, databases.new() as second:
        source, target = open_side(first), open_side(second)
        yield TwoDatabases(source, target)
        source.connection.close()
        target.connection.close()
