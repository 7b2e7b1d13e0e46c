"""Rows that the target rejected: kept in a file, with the reason, so that the move can go on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


class Quarantine:
    """A file of JSON lines beside the plan: table, key, columns and reason of each rejected row."""

    def __init__(self, plan: Path) -> None:
        self.path = plan.with_suffix(".quarantine.jsonl")

    def add(
        self, table: str, key: Sequence[str | None], row: Mapping[str, str | None], reason: str
    ) -> None:
        """Append a row. The file is readable by its owner alone."""
        line = json.dumps({"table": table, "key": key, "reason": reason, "row": row})
        self.path.touch(mode=0o600)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def clear(self, table: str | None = None) -> None:
        """Remove the rows of a table, or all: they are tried again."""
        if table is None:
            self.path.unlink(missing_ok=True)
            return
        entries = list(self._entries())
        kept = [entry for entry in entries if entry["table"] != table]
        if len(kept) < len(entries):
            self.path.write_text("".join(json.dumps(entry) + "\n" for entry in kept), "utf-8")

    def keys(self, table: str) -> set[tuple[str | None, ...]]:
        """Return the keys of a table's rows."""
        return {tuple(entry["key"]) for entry in self._entries() if entry["table"] == table}

    def rows(self) -> int:
        """Return how many different rows were rejected."""
        return len({(entry["table"], tuple(entry["key"])) for entry in self._entries()})

    def _entries(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            with self.path.open(encoding="utf-8") as file:
                yield from map(json.loads, file)
