"""The errors about names: what a request names and the catalog lacks, or has more than once."""

from collections.abc import Sequence

from amphibase.gateway.rest.errors.base import RestError


class NotInSchemaCache(RestError):
    """What a request names is not in the catalog, as it was read last."""


class NoRelationship(NotInSchemaCache):
    """Two relations that no foreign key joins."""

    code = "PGRST200"

    def __init__(self, parent: str, child: str, details: str, hint: str | None) -> None:
        super().__init__(
            f"Could not find a relationship between '{parent}' and '{child}' in the schema cache",
            details,
            hint,
        )


class AmbiguousRelationship(RestError):
    """Two relations that several foreign keys join.

    Args:
        details: one object for each: cardinality, embedding, relationship.
    """

    status = 300
    code = "PGRST201"

    def __init__(
        self, parent: str, child: str, details: Sequence[dict[str, str]], hint: str
    ) -> None:
        super().__init__(
            "Could not embed because more than one relationship was found for "
            f"'{parent}' and '{child}'",
            list(details),
            hint,
        )


class NoFunction(NotInSchemaCache):
    """No function of that name takes these arguments."""

    status = 404
    code = "PGRST202"


class AmbiguousFunction(RestError):
    """Several overloads take these arguments."""

    status = 300
    code = "PGRST203"

    def __init__(self, signatures: Sequence[str]) -> None:
        super().__init__(
            "Could not choose the best candidate function between: " + ", ".join(signatures),
            hint="Try renaming the parameters or the function itself in the database so function "
            "overloading can be resolved",
        )


class NoColumn(NotInSchemaCache):
    """A column that a body or `columns` names, and the relation lacks."""

    code = "PGRST204"

    def __init__(self, column: str, relation: str) -> None:
        super().__init__(
            f"Could not find the '{column}' column of '{relation}' in the schema cache"
        )


class NoTable(NotInSchemaCache):
    """No such table or view in the schema."""

    status = 404
    code = "PGRST205"

    def __init__(self, name: str, suggestion: str | None) -> None:
        super().__init__(
            f"Could not find the table '{name}' in the schema cache",
            hint=f"Perhaps you meant the table '{suggestion}'" if suggestion else None,
        )
