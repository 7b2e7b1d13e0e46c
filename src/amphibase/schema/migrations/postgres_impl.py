"""Compares the defaults of enum columns on Postgres, and renders percent signs as they are."""

import re
from typing import Any

from alembic.ddl.postgresql import PostgresqlImpl
from sqlalchemy import ClauseElement, Column

from amphibase.schema.migrations.definitions_of_models import enum_of


class TextComparingPostgresqlImpl(PostgresqlImpl):
    """Alembic's implementation for Postgres, which compares the defaults of enums as text.

    Alembic has the database compare them, which fails for a value that its type does not have yet.
    """

    def compare_server_default(
        self,
        inspector_column: Column[Any],
        metadata_column: Column[Any],
        rendered_metadata_default: str | None,
        rendered_inspector_default: str | None,
    ) -> bool:
        """Return whether the defaults differ."""
        if enum_of(metadata_column.type) is None:
            compare: Any = super().compare_server_default
            return bool(
                compare(
                    inspector_column,
                    metadata_column,
                    rendered_metadata_default,
                    rendered_inspector_default,
                )
            )
        return _value(rendered_metadata_default) != _value(rendered_inspector_default)

    def render_ddl_sql_expr(
        self,
        expr: ClauseElement,
        is_server_default: bool = False,
        is_index: bool = False,
        **options: Any,
    ) -> str:
        """Return an expression as a revision has it.

        Alembic (1.20) leaves percent signs doubled, as the driver wants them, and they are doubled
        again when the revision runs: `LIKE '%x'` would become `LIKE '%%x'`.
        """
        rendered = super().render_ddl_sql_expr(expr, is_server_default, is_index, **options)
        return rendered.replace("%%", "%")


def _value(default: str | None) -> str | None:
    return None if default is None else re.sub(r"::[^']*$", "", default).strip("'")
