"""Errors of the pool and of the connection, as the Data API reports them."""

import psycopg
import pytest

from amphibase.database.pool import PoolClosed, PoolTimeout
from amphibase.gateway.rest.transaction.role import RequestRole
from amphibase.gateway.rest.transaction.run import translate


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PoolTimeout("no connection"), 504, "PGRST003"),
        (PoolClosed("closed"), 503, "PGRST000"),
        (psycopg.OperationalError("no connection free on db.internal"), 503, "PGRST000"),
    ],
)
def test_they_are_distinguished_by_their_class(
    error: psycopg.Error, status: int, code: str
) -> None:
    translated = translate(error, RequestRole("anon", "{}", is_anonymous=True))
    assert (translated.status, translated.code) == (status, code)
    assert "db.internal" not in translated.message
