"""What the documentation says of the backends is what they declare."""

import re
from pathlib import Path

from amphibase.backend.capabilities import PURPOSES
from amphibase.sql.backend import sql_capabilities

PAGE = Path(__file__).parents[1] / "docs" / "backends.md"
BACKENDS = [sql_capabilities("sqlite"), sql_capabilities("postgresql")]


def table() -> str:
    rows = [["", *(each.backend for each in BACKENDS)], ["---"] * (len(BACKENDS) + 1)]
    for name, purpose in PURPOSES.items():
        marks = ["yes" if getattr(each, name) else "no" for each in BACKENDS]
        rows.append([f"{name.replace('_', ' ')}: {purpose}", *marks])
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in rows]
    return "\n".join(lines).replace(" --- ", "---") + "\n"


def test_the_table_of_capabilities_is_what_the_backends_declare() -> None:
    (found,) = re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE)
    assert found == table(), f"docs/backends.md should have:\n{table()}"
