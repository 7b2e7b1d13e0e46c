"""What the documentation says of the backends is what they declare."""

import re
from pathlib import Path

from amphibase.backend.capabilities import (
    PURPOSES,
    Capabilities,
    Capability,
    combined_capabilities,
)
from amphibase.sql.backend import sql_capabilities
from amphibase.supabase.backend import supabase_capabilities

PAGE = Path(__file__).parents[1] / "docs" / "backends.md"

OPTIONS: dict[str, list[tuple[str, Capabilities]]] = {
    "SQLite": [("yes", sql_capabilities("sqlite"))],
    "Postgres": [("yes", sql_capabilities("postgresql"))],
    "Supabase": [
        ("yes", supabase_capabilities()),
        ("`VERIFY=remote`", supabase_capabilities(verify="remote")),
        (
            "`SUPABASE_DB_URL`",
            combined_capabilities(
                sql_capabilities("postgresql"),
                supabase_capabilities(has_database=True),
                supabase_capabilities(has_database=True),
            ),
        ),
    ],
}
"""What each backend declares, and which settings make it declare more."""


def cell(backend: str, capability: Capability) -> str:
    able = [option for option, each in OPTIONS[backend] if getattr(each, capability)]
    return "yes" if "yes" in able else " or ".join(able) or "no"


def table() -> str:
    rows = [["", *OPTIONS], ["---"] * (len(OPTIONS) + 1)]
    for name, purpose in PURPOSES.items():
        cells = [cell(backend, name) for backend in OPTIONS]
        rows.append([f"{name.replace('_', ' ')}: {purpose}", *cells])
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in rows]
    return "\n".join(lines).replace(" --- ", "---") + "\n"


def test_the_table_of_capabilities_is_what_the_backends_declare() -> None:
    (found,) = re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE)
    assert found == table(), f"docs/backends.md should have:\n{table()}"
