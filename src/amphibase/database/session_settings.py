"""Settings of a Postgres session that the text form of values depends on.

A database or a role may set each of them otherwise (`ALTER DATABASE … SET`), and drivers read what
the server writes; so every connection sets them itself.
"""

from collections.abc import Mapping

SESSION_SETTINGS: Mapping[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
"""PostgreSQL docs, "Client Connection Defaults"; the last two are Postgres's own defaults."""


def set_locally(settings: Mapping[str, str]) -> str:
    """Write a statement that sets them for one transaction: behind a pooler in transaction mode,
    the next one may be in another session."""
    calls = (f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return "select " + ", ".join(calls)
