"""The time of SQL's `now()` on SQLite, in the form that SQLAlchemy stores and compares.

SQLite has no type for a time and compares texts. CURRENT_TIMESTAMP, which SQLAlchemy writes for
`func.now()`, has whole seconds, while its DateTime binds six decimals (`storage_format` of
`sqlalchemy.dialects.sqlite.DATETIME`): the two are never equal, and the shorter one is less.
"""

from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler

NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
"""The time now in UTC; SQLite counts milliseconds."""


class FullTimestampCompiler(SQLiteCompiler):
    """Compiles `func.now()` and `func.current_timestamp()`, in defaults of columns too."""

    def visit_now_func(self, fn: Any, **options: Any) -> str:
        """Compile `func.now()`."""
        return NOW

    def visit_current_timestamp_func(self, fn: Any, **options: Any) -> str:
        """Compile `func.current_timestamp()`."""
        return NOW


def write_full_timestamps(dialect: Dialect) -> None:
    """Let the dialect of a SQLite engine compile `func.now()` to the form that it compares."""
    dialect.statement_compiler = FullTimestampCompiler
