"""Rows that the target rejected: kept in a file, with the reason, so that the move can go on."""

import json
from pathlib import Path


class Quarantine:
    """A file of JSON lines beside the plan: table, key, columns and reason of each rejected row."""

    def __init__(self, plan: Path) -> None:
        self.path = plan.with_suffix(".quarantine.jsonl")

    def add(
        self, table: str, key: list[str | None], row: dict[str, str | None], reason: str
    ) -> None:
        """Append a row. The file is readable by its owner alone."""
        line = json.dumps({"table": table, "key": key, "reason": reason, "row": row})
        self.path.touch(mode=0o600)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def clear(self) -> None:
        """Delete the file: a run tries every row again that the target does not have."""
        self.path.unlink(missing_ok=True)

    def rows(self) -> int:
        """Return how many different rows were rejected."""
        if not self.path.exists():
            return 0
        lines = self.path.read_text("utf-8").splitlines()
        return len(
            {json.dumps([(entry := json.loads(line))["table"], entry["key"]]) for line in lines}
        )
