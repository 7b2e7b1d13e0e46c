"""The statements that change row level security, and back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from amphibase.schema.migrations.compare_tables import Difference


@dataclass(slots=True)
class PolicyChanges:
    """The statements that change row level security to what is declared, and back.

    Args:
        before: run before columns and tables change, since a column that a policy
            uses cannot be dropped.
        after: run after that.
        undo_before: the reverse of `after`, before columns and tables change back.
        undo_after: the reverse of `before`.
    """

    differences: list[Difference] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    undo_before: list[str] = field(default_factory=list)
    undo_after: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.before or self.after or self.undo_before or self.undo_after)

    def add(
        self,
        kind: Literal["missing", "extra", "changed", "off"],
        subject: str,
        table: str,
        detail: str = "",
    ) -> None:
        """Add a difference."""
        self.differences.append(Difference("application", kind, subject, table, detail))


def differing(pairs: Sequence[tuple[str, str | None, str | None]]) -> list[str]:
    """Return the words of those pairs of which the first is not the second."""
    return [
        words.format(first or "none", second or "none")
        for words, first, second in pairs
        if first != second
    ]
