"""The error of a value that a database rejects."""

from amphibase.errors import InvalidValue


def invalid_value(column: str | None) -> InvalidValue:
    """Return the error of a value that the database rejects, for its column where that is known."""
    if not column:
        return InvalidValue()
    return InvalidValue(rejected_value_message(column), field=column)


def rejected_value_message(column: str) -> str:
    """Return the message of a value that the database rejects for a column."""
    return f"The database does not take this value of {column}"
