"""SQLAlchemy's private names, by what they are used for."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BindParameter,
    CheckConstraint,
    Column,
    ColumnElement,
    Constraint,
    Executable,
    Index,
    MetaData,
    Table,
)
from sqlalchemy.schema import ColumnCollectionConstraint
from sqlalchemy.sql.cache_key import CacheKey
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.selectable import HasHints, HasPrefixes, HasSuffixes
from sqlalchemy.sql.util import _deep_deannotate

if TYPE_CHECKING:  # what works with statements alone need not import the ORM
    from sqlalchemy.orm import InstanceState

USED = {
    "sqlalchemy.sql.expression.Select._generate_cache_key": "database/compiled_call.py",
    "sqlalchemy.sql.compiler.SQLCompiler._bind_processors": "database/compiled_call.py",
    "sqlalchemy.sql.compiler.SQLCompiler._process_parameters_for_postcompile": (
        "database/compiled_call.py"
    ),
    "sqlalchemy.sql.expression.ClauseElement._deannotate": "records/ordering.py",
    "sqlalchemy.sql.util._deep_deannotate": "records/rule_expressions.py",
    "sqlalchemy.sql.selectable.HasPrefixes._prefixes": "sql/records/tables_read.py",
    "sqlalchemy.sql.selectable.HasSuffixes._suffixes": "sql/records/tables_read.py",
    "sqlalchemy.sql.selectable.HasHints._statement_hints": "sql/records/tables_read.py",
    "sqlalchemy.sql.selectable.HasHints._hints": "sql/records/tables_read.py",
    "sqlalchemy.schema.Index._ddl_if": "records/adoption.py",
    "sqlalchemy.schema.Constraint._ddl_if": "records/adoption.py",
    "sqlalchemy.schema.Column._copy": "schema/migrations/revision_file.py",
    "sqlalchemy.orm.InstanceState._commit_all": "records/model_info.py",
    "sqlalchemy.orm.InstanceState._commit_all_states": "records/batch.py",
    "sqlalchemy.orm.instrumentation.ClassManager.STATE_ATTR": "records/deferred_state.py",
    "sqlalchemy.orm.mapper._all_registries": "records/adoption.py",
}
"""Each name, and where what is made of it is needed."""


def state_attribute() -> str:
    """Return the key of an object's dictionary that holds its state."""
    from sqlalchemy.orm.instrumentation import ClassManager

    return ClassManager.STATE_ATTR


def cache_key(statement: Executable) -> CacheKey | None:
    """Return a key that is equal for statements of the same text; None where there is none."""
    assert isinstance(statement, ClauseElement)  # as all are that SQLAlchemy has
    return statement._generate_cache_key()


def bind_processors(compiled: SQLCompiler) -> Mapping[str, Callable[[Any], Any]]:
    """Return, by parameter, what converts a value for the driver."""
    processors: Mapping[str, Any] = compiled._bind_processors
    return processors


def expand(compiled: SQLCompiler, parameters: dict[str, Any]) -> Any:
    """Return the statement for values of which its text depends on some, such as those of IN.

    Returns:
        `statement`, `positiontup`, `additional_parameters` and `processors`, as attributes.
    """
    return compiled._process_parameters_for_postcompile(parameters)


def original_name(parameter: BindParameter[Any]) -> str:
    """Return the original name of a parameter, before it was made unique."""
    name: str = parameter._orig_key or parameter.key
    return name


def without_annotations(element: ClauseElement) -> ClauseElement:
    """Return an element without what the ORM notes on it, so that it equals its table's."""
    return element._deannotate()


def without_any_annotations(element: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return an expression whose every part is without what the ORM notes on it; it keeps parts of
    `has()` and `any()` from being replaced."""
    return _deep_deannotate(element)


def untraversed_texts(statement: HasPrefixes | HasSuffixes | HasHints) -> Iterable[str]:
    """Return the SQL text of a statement that a traversal leaves out: prefixes, suffixes, hints."""
    for name in ("_prefixes", "_suffixes"):
        for element, _ in getattr(statement, name, ()):
            yield str(element)
    for _, hint in getattr(statement, "_statement_hints", ()):
        yield hint
    yield from getattr(statement, "_hints", {}).values()


def copy_column(column: Column[Any]) -> Column[Any]:
    """Return a copy that belongs to no table."""
    return column._copy()


def mark_clean(state: "InstanceState[Any]") -> None:
    """Take the values of an object for those of the database."""
    state._commit_all(state.dict)


def mark_all_clean(states: "Iterable[tuple[InstanceState[Any], dict[str, Any]]]") -> None:
    """Take the values of many objects, each with its dictionary, for those of the database."""
    from sqlalchemy.orm import InstanceState

    InstanceState._commit_all_states(states)


def registries() -> set[Any]:
    """Return every registry of mappers there is."""
    from sqlalchemy.orm.mapper import _all_registries

    registries: set[Any] = _all_registries()
    return registries


def copy_table(table: Table, metadata: MetaData) -> Table:
    """Copy a table into other metadata, with the conditions of its indexes and constraints
    (`ddl_if`), which SQLAlchemy's own way loses."""
    copy = table.to_metadata(metadata)
    conditions = {_definition(part): part._ddl_if for part in _parts(table)}
    for part in _parts(copy):
        part._ddl_if = conditions.get(_definition(part))
    return copy


def _parts(table: Table) -> list[Index | Constraint]:
    return [*table.indexes, *table.constraints]


def _definition(part: Index | Constraint) -> tuple[object, ...]:
    """Return what is the same of a part of a table and of its copy."""
    columns = part.columns.keys() if isinstance(part, Index | ColumnCollectionConstraint) else ()
    condition = str(part.sqltext) if isinstance(part, CheckConstraint) else None
    return type(part), part.name, tuple(columns), condition
