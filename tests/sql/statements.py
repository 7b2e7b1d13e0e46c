"""The statements that an SQL backend sends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from amphibase.database.pool import PipelinePool
from amphibase.sql.backend import SqlBackend


@contextmanager
def sent_by(backend: SqlBackend) -> Iterator[list[str]]:
    """The statements that are sent meanwhile, without those that say who is asking."""
    sent: list[str] = []

    def note(statement: str) -> None:
        if "set_config" not in statement and not statement.startswith("BEGIN"):
            sent.append(statement)

    def execute(_: Any, __: Any, statement: str, *___: Any) -> None:
        note(statement)

    run = PipelinePool.run

    def run_noted(self: PipelinePool, *calls: Any) -> Any:
        for call in calls:
            note(call.statement.sql)
        return run(self, *calls)

    database = backend.database
    engines = {database.engine.sync_engine, database.readers.sync_engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", execute)
    PipelinePool.run = run_noted  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        PipelinePool.run = run  # type: ignore[method-assign]
        for engine in engines:
            event.remove(engine, "before_cursor_execute", execute)
