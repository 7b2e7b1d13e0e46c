"""Which rows a caller may possibly see, by what holds of every row that the policies show."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from amphibase.replication.change import UNCHANGED, Row


class Kind(Enum):
    """How the text of a claim's value is read, where it is written as Postgres writes such values.

    Any other text may be a value too, or an error; that is for Postgres to say.
    """

    UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
    INTEGER = re.compile(r"0|-?[1-9][0-9]{0,8}", re.ASCII)
    TEXT = re.compile(r".*", re.DOTALL)

    def text(self, value: Any) -> str | None:
        """Return the value of a claim as Postgres writes it; None where that is not certain."""
        text = str(value) if type(value) is int else value
        return text if isinstance(text, str) and self.value.fullmatch(text) else None


class RowCondition(Protocol):
    """What holds of every row that policies show to a caller."""

    def mask(self, rows: "RowMasks", claims: Mapping[str, Any]) -> int:
        """Return the rows of which it may hold, as bits."""


@dataclass(frozen=True, slots=True)
class AnyRow:
    """Nothing is known."""

    def mask(self, rows: "RowMasks", claims: Mapping[str, Any]) -> int:
        return rows.all


ANY_ROW = AnyRow()


@dataclass(frozen=True, slots=True)
class AllHold:
    """Each of the conditions holds."""

    conditions: tuple[RowCondition, ...]

    def mask(self, rows: "RowMasks", claims: Mapping[str, Any]) -> int:
        mask = rows.all
        for condition in self.conditions:
            mask &= condition.mask(rows, claims)
        return mask


@dataclass(frozen=True, slots=True)
class AnyHolds:
    """One of the conditions holds."""

    conditions: tuple[RowCondition, ...]

    def mask(self, rows: "RowMasks", claims: Mapping[str, Any]) -> int:
        mask = 0
        for condition in self.conditions:
            mask |= condition.mask(rows, claims)
        return mask


@dataclass(frozen=True, slots=True)
class ColumnIsTrue:
    """A column of the type `boolean` is true."""

    column: str

    def mask(self, rows: "RowMasks", claims: Mapping[str, Any]) -> int:
        return rows.equal(self.column, "t")


@dataclass(frozen=True, slots=True)
class ColumnIsClaim:
    """A column equals a claim.

    Attributes:
        kind: of the claim's value.
    """

    column: str
    claim: str
    kind: Kind

    def mask(self, rows: "RowMasks", claims: Mapping[str, Any]) -> int:
        text = self.kind.text(claims.get(self.claim))
        return rows.all if text is None else rows.equal(self.column, text)


def all_of(conditions: Iterable[RowCondition]) -> RowCondition:
    """Return that each of the conditions holds."""
    known = tuple(each for each in conditions if each is not ANY_ROW)
    return AllHold(known) if known else ANY_ROW


def any_of(conditions: Iterable[RowCondition]) -> RowCondition:
    """Return that one of the conditions holds."""
    alternatives = tuple(conditions)
    return ANY_ROW if ANY_ROW in alternatives else AnyHolds(alternatives)


class RowMasks:
    """Rows by their places in a block of changes, whose bits stand for them.

    Attributes:
        all: the bits of all.
    """

    def __init__(self, rows: Mapping[int, Row]) -> None:
        self._rows = rows
        self.all = sum(1 << place for place in rows)
        self._masks: dict[str, dict[str | None, int]] = {}

    def equal(self, column: str, text: str) -> int:
        """Return the rows that have this value in a column, or whose value is not known."""
        if column not in self._masks:
            self._masks[column] = self._by_value(column)
        masks = self._masks[column]
        return masks.get(text, 0) | masks.get(None, 0)

    def _by_value(self, column: str) -> dict[str | None, int]:
        """Return the rows by their values; those whose value is not known by None."""
        masks: dict[str | None, int] = {}
        for place, row in self._rows.items():
            value = row.get(column, UNCHANGED)
            if value is None:  # equals nothing
                continue
            text = value if isinstance(value, str) else None
            masks[text] = masks.get(text, 0) | 1 << place
        return masks
