"""What is sent to Postgres in pipeline mode; without a driver, so that SQLite need not load one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL command with `$1`, `$2` … placeholders; prepared once a connection, unless long."""

    sql: str


class Call(NamedTuple):
    """A statement and its values: any Python values psycopg can adapt, `None` being NULL.

    Attributes:
        assumes: the role of the database that the calls after it in a run have; empty for a
            statement that assumes none.
    """

    statement: Statement
    values: Sequence[object] = ()
    assumes: str = ""
