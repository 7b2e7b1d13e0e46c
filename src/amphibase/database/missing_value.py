"""The error of a column that needs a value and has none."""

from amphibase.errors import InvalidValue, MissingValue


def missing_value(column: str | None) -> InvalidValue:
    """Return the error of a missing value, which names its column where that is known."""
    return MissingValue(column) if column else InvalidValue()
