"""Statements of SQLAlchemy, compiled once in a process and not by the engine of each test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

STATEMENTS = 10_000


@contextmanager
def shared_compiled_statements() -> Iterator[None]:
    """Let engines of the same dialect share what they have compiled, until the block ends.

    Most tests have an engine of their own, and would compile a statement for each that they send:
    a tenth of the time that they take.
    """
    shared: LRUCache[Any, Any] = LRUCache(STATEMENTS)
    with pytest.MonkeyPatch.context() as patch:
        of_each = property(lambda engine: shared, lambda engine, own: None)
        patch.setattr(Engine, "_compiled_cache", of_each, raising=False)
        patch.setattr(DefaultDialect, "__eq__", _compiles_alike)
        patch.setattr(DefaultDialect, "__hash__", lambda self: hash(type(self)))
        yield


def _compiles_alike(self: DefaultDialect, other: object) -> bool:
    """Whether two dialects make the same SQL and read the same values, as far as tests differ."""
    return self is other or (
        type(self) is type(other)
        and all(getattr(self, name, None) == getattr(other, name, None) for name in CONFIGURATION)
    )


CONFIGURATION = (
    "paramstyle",
    "server_version_info",
    "default_schema_name",
    "_has_native_hstore",
    "_json_serializer",
    "_json_deserializer",
)
"""Of a dialect; three of them are read from the database by an engine's first connection."""
