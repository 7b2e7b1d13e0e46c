"""psycopg's adapters, made strict: a value that Python cannot hold is an error, and never another
value."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format
from psycopg.types.json import set_json_loads

from amphibase.database.json_reader import read_json


class FiniteIntervalLoader(Loader):
    """Loads intervals. psycopg's loader in C (3.3) reads one without end, which Postgres has since
    17, as 0."""

    def __init__(self, oid: int, connection: Any = None) -> None:
        super().__init__(oid, connection)
        loader = psycopg.adapters.get_loader(oid, Format.TEXT)
        assert loader is not None
        self._loader = loader(oid, connection)

    def load(self, data: Buffer) -> Any:
        """Load an interval. Raises psycopg.DataError for one without end."""
        if bytes(data).endswith(b"infinity"):
            raise psycopg.DataError("Python has no interval without end")
        return self._loader.load(data)


def read_strictly(context: AdaptContext) -> None:
    """Let what reads values of a connection read intervals and JSON strictly."""
    context.adapters.register_loader("interval", FiniteIntervalLoader)
    set_json_loads(read_json, context)


@dataclass(frozen=True, slots=True)
class StrictContext:
    """What a transformer without a connection reads values by."""

    adapters: AdaptersMap
    connection: None = None


def strict_context() -> StrictContext:
    """Return psycopg's own adapters, made strict."""
    context = StrictContext(AdaptersMap(psycopg.adapters))
    read_strictly(context)
    return context
