"""Rows that the target rejected: kept in a file, with the reason, so that the move can go on."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


class Quarantine:
    """A file of JSON lines beside the plan: table, key, columns and reason of each rejected row."""

    def __init__(self, plan: Path) -> None:
        self.path = plan.with_suffix(".quarantine.jsonl")
        self._is_whole = False

    def add(
        self, table: str, key: Sequence[str | None], row: Mapping[str, str | None], reason: str
    ) -> None:
        """Append a row. The file is readable by its owner alone."""
        line = json.dumps({"table": table, "key": key, "reason": reason, "row": row})
        if not self._is_whole:
            self._rewrite(lambda _: True)
            self._is_whole = True
        self.path.touch(mode=0o600)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def clear(self, table: str | None = None) -> None:
        """Remove the rows of a table, or all: they are tried again."""
        if table is None:
            self.path.unlink(missing_ok=True)
            return
        if any(entry["table"] == table for entry in self._entries()):
            self._rewrite(lambda entry: entry["table"] != table)

    def keys(self, table: str) -> set[tuple[str | None, ...]]:
        """Return the keys of a table's rows."""
        return {tuple(entry["key"]) for entry in self._entries() if entry["table"] == table}

    def rows(self) -> int:
        """Return how many different rows were rejected."""
        return len({(entry["table"], tuple(entry["key"])) for entry in self._entries()})

    def _entries(self) -> Iterator[dict[str, Any]]:
        """Yield the rows, but one whose line a kill or a full disk has cut: it is tried again."""
        if self.path.exists():
            with self.path.open(encoding="utf-8") as file:
                yield from (json.loads(line) for line in file if line.endswith("\n"))

    def _rewrite(self, keeps: Callable[[dict[str, Any]], bool]) -> None:
        """Write the rows that are kept to another file, and put it in the place of this one."""
        if not self.path.exists():
            return
        copy = self.path.with_suffix(".new")
        copy.touch(mode=0o600)
        with copy.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in self._entries() if keeps(entry))
        copy.replace(self.path)
