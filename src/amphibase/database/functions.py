"""Stored functions of a Postgres database, called by name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.errors import InvalidValue, NotFound

# Visible by its name alone, and none of the server's own.
_FIND = text("""
    SELECT n.nspname, p.proname, p.proretset, p.proargnames, p.proargmodes,
           ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t), p.pronargdefaults
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proname = :name AND p.prokind = 'f' AND pg_function_is_visible(p.oid)
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
""")
INPUT_MODES = ("i", "b", "v")


@dataclass(frozen=True, slots=True)
class StoredFunction:
    """A function as the catalog describes it: its types by the names of its parameters."""

    schema: str
    name: str
    returns_set: bool
    types: Mapping[str, str]
    required: int

    def takes(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether it can be called with arguments of these names."""
        first = [*self.types][: self.required]
        return set(arguments) <= set(self.types) and set(first) <= set(arguments)


async def call_function(
    connection: AsyncConnection, name: str, returns: Any, arguments: Mapping[str, Any]
) -> Any:
    """Call a function.

    Args:
        returns: the type of the result; of a set, the type of the list of its rows.

    Raises:
        NotFound: no function has that name and those parameters.
        InvalidValue: an argument is not of its parameter's type, or the result not of `returns`.
    """
    function = await _find(connection, name, arguments)
    named = ", ".join(
        f"{_quoted(argument)} => CAST(:a{place} AS {function.types[argument]})"
        for place, argument in enumerate(arguments)
    )
    called = f"{_quoted(function.schema)}.{_quoted(function.name)}({named})"
    values = {
        f"a{place}": _adapted(value, function.types[argument])
        for place, (argument, value) in enumerate(arguments.items())
    }
    statement = text(f"SELECT to_json(result)::text FROM {called} AS result")  # noqa: S608 - quoted names, bound values
    try:
        documents = [row[0] or "null" for row in await connection.execute(statement, values)]
    except (TypeError, ValueError, ProgrammingError) as error:
        if isinstance(error, ProgrammingError) and getattr(error.orig, "sqlstate", None):
            raise
        # What the driver cannot write down never reached the database.
        raise InvalidValue(f"{name}(): an argument is not of its parameter's type") from error
    document = (
        f"[{','.join(documents)}]"
        if function.returns_set
        else (documents[0] if documents else "null")
    )
    return result_of(name, document, returns)


def result_of(name: str, document: str | bytes, returns: Any) -> Any:
    """Read what a function returned, as JSON.

    Args:
        name: of the function.
        returns: the type that is expected, checked by pydantic.

    Raises:
        InvalidValue: the result is of another type.
    """
    try:
        return TypeAdapter(returns).validate_python(json.loads(document, parse_float=_exact))
    except ValidationError as error:
        raise InvalidValue(f"{name}() returned something else than {returns}") from error


async def _find(
    connection: AsyncConnection, name: str, arguments: Mapping[str, Any]
) -> StoredFunction:
    overloads = []
    if _can_be_text(name):
        overloads = [_function(row) for row in await connection.execute(_FIND, {"name": name})]
    for function in sorted(overloads, key=lambda each: len(each.types)):
        if function.takes(arguments):
            return function
    if not overloads:
        raise NotFound(f"There is no function {name} in the database")
    raise NotFound(
        f"The function {name} takes other parameters than ({', '.join(arguments)}): "
        + " or ".join(f"({', '.join(function.types)})" for function in overloads)
    )


def _function(row: Sequence[Any]) -> StoredFunction:
    schema, name, returns_set, names, modes, types, defaults = row
    modes = modes or ["i"] * len(types)
    names = names or []
    taken = [each for each, mode in zip(names, modes, strict=False) if mode in INPUT_MODES]
    by_name = dict(zip(taken, types, strict=False))
    return StoredFunction(schema, name, returns_set, by_name, len(types) - defaults)


def _adapted(value: Any, type_: str) -> Any:
    from psycopg.types.json import Jsonb  # functions are called on Postgres alone

    return Jsonb(value) if type_ in ("json", "jsonb") and value is not None else value


def _quoted(name: str) -> str:
    """A name as SQL, in which `text` sees no parameters."""
    return '"' + name.replace('"', '""').replace(":", "\\:") + '"'


def _can_be_text(name: str) -> bool:
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def _exact(number: str) -> float | Decimal:
    """A number that is not whole: a float where that is the same, else a decimal."""
    nearest, exact = float(number), Decimal(number)
    return nearest if Decimal(repr(nearest)) == exact else exact
