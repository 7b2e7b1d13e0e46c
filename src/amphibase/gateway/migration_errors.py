"""What is said of a statement of a migration that failed: where it stands, why, and what to do."""

import re
from collections.abc import Collection
from pathlib import Path

import psycopg

from amphibase.gateway import extensions
from amphibase.gateway.sql_script import ScriptStatement

_UNDEFINED = frozenset({"3F000", "42704", "42883"})
"""SQLSTATE of a schema, type or function that is not there."""

_DROPPED = re.compile(
    r'"?storage"?\."?(?:prefixes\b|get_(?:level|prefix(?:es)?)\b|\w*prefix\w*_trigger\b|(?:add|delete)_prefix)',
    re.IGNORECASE,
)
"""What Supabase Storage had until its migration 0052; `supabase db pull` wrote it into files."""


def describe_failure(
    path: Path, statement: ScriptStatement, error: psycopg.Error, skipped: Collection[str]
) -> str:
    """Return one line: the file and line, what the server says, and what to do where that is known.

    Args:
        skipped: the extensions that the project's migrations make and that the server lacks.
    """
    diagnosis = error.diag
    line = statement.line
    if diagnosis.statement_position:
        line += statement.text.count("\n", 0, int(diagnosis.statement_position) - 1)
    parts = [diagnosis.message_primary or str(error).strip()]
    parts += [text for text in (diagnosis.message_detail, diagnosis.message_hint) if text]
    missing = [
        name
        for name in skipped
        if name in statement.text
        or (error.sqlstate in _UNDEFINED and name not in extensions.WITH_FUNCTIONS)
    ]
    if _DROPPED.search(statement.text):
        parts.append(
            "Supabase Storage has dropped its prefixes, here as on the platform: leave the "
            "statement out"
        )
    elif missing:
        parts.append(
            f"Skipped, since this server lacks them: {', '.join(missing)}; where the statement "
            "needs one of them, leave it out, or name a server that has it with --database-url"
        )
    return f"{path}:{line}: {'. '.join(part.rstrip('.') for part in parts)}"
