"""The check of a binding against the database, when a client subscribes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import psycopg

from amphibase.database.impersonation import Impersonation, RoleNotAllowed
from amphibase.database.pipeline_connection import PipelineTransaction
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.database.statement import Call, Statement
from amphibase.gateway.realtime.changes.binding import Binding
from amphibase.gateway.realtime.changes.filters import (
    EXACT,
    TEXT_OPERATORS,
    ChangeFilter,
    ChangeOperator,
    InvalidBinding,
)
from amphibase.gateway.realtime.changes.jobs import timeouts
from amphibase.gateway.realtime.changes.questions import FILTER_MILLISECONDS
from amphibase.gateway.realtime.changes.tables import (
    BY_NAME,
    RoleTable,
    TableColumn,
    read_table,
)

PUBLICATION = "supabase_realtime"

_TEXTS = frozenset(("text", "varchar", "bpchar", "name", "citext"))


NOT_GRANTED = "may select no column of this table, so that its changes are not delivered"
NO_POLICY = "has no policy to select rows of this table, so that nothing but deletions is delivered"


class CheckedBinding(NamedTuple):
    """A binding that fits the database.

    Attributes:
        notice: why there is nothing to be delivered; None where there may be.
    """

    binding: Binding
    notice: str | None = None


class TableNotPublished(InvalidBinding):
    """The table does not exist, or is not in the publication; it may be there later."""


async def check_binding(database: PipelineDatabase, role: str, binding: Binding) -> CheckedBinding:
    """Check that a role may subscribe to what a binding names.

    Returns:
        The binding, with the operands of its filters as the database writes them.

    Raises:
        TableNotPublished: the table is not in the publication.
        InvalidBinding: a column, an operator or a value does not fit.
    """
    if binding.is_wildcard:
        return CheckedBinding(binding)
    async with database.write() as connection:
        (rows,) = await connection.run(
            Call(BY_NAME, ([role], PUBLICATION, binding.schema, binding.table))
        )
        if not rows:
            raise TableNotPublished(
                "Unable to subscribe to changes with given parameters. Please check Realtime is "
                f"enabled for the given connect parameters: {binding.describe()}"
            )
        _, table = read_table(rows[0])
        try:
            _check_columns(table, binding)
            filters = [
                await _checked_filter(connection, role, table.columns[each.column], each)
                for each in binding.filters
            ]
        except InvalidBinding as error:
            raise InvalidBinding(
                "Unable to subscribe to changes with given parameters. An exception happened so "
                "please check your connect parameters: "
                f"{binding.describe()}. Exception: {error}"
            ) from None
        return CheckedBinding(replace(binding, filters=tuple(filters)), _notice(table, binding))


def _notice(table: RoleTable, binding: Binding) -> str | None:
    if not table.is_readable:
        return f"The role {table.role} {NOT_GRANTED}: {binding.describe()}"
    if table.is_restricted and not table.has_policy:
        return f"The role {table.role} {NO_POLICY}: {binding.describe()}"
    return None


def _check_columns(table: RoleTable, binding: Binding) -> None:
    filtered = [each.column for each in binding.filters]
    for purpose, names in (("filter", filtered), ("select", binding.columns or ())):
        for name in names:
            column = table.columns.get(name)
            if column is None or not column.is_selectable:
                raise _raised(f"invalid column for {purpose} {name}")
    for condition in binding.filters:
        column = table.columns[condition.column]
        if condition.operator in TEXT_OPERATORS and column.type not in _TEXTS:
            raise _raised(
                f"operator {condition.operator} requires a text-compatible column type, got "
                f"{column.sql_type}"
            )
        is_truth = condition.operator is ChangeOperator.IS and condition.operand != "null"
        if is_truth and column.type != "bool":
            raise _raised(
                f"is {condition.operand} filter requires a boolean column, got {column.sql_type}"
            )


async def _checked_filter(
    connection: PipelineTransaction,
    role: str,
    column: TableColumn,
    condition: ChangeFilter,
) -> ChangeFilter:
    """Return the filter with its operand as the database writes it. Raises InvalidBinding."""
    operands = condition.operand if isinstance(condition.operand, tuple) else (condition.operand,)
    match condition.operator:
        case ChangeOperator.IS:
            return condition
        case ChangeOperator.MATCH | ChangeOperator.IMATCH:
            expression, is_written_anew = "SELECT '' ~ $1::text", False
        case each if each in TEXT_OPERATORS:
            return condition
        case _:
            # By the type's own output: a cast to text writes `false` for the boolean `f`.
            expression = f"SELECT format('%s', CAST($1::text AS {column.sql_type}))"
            is_written_anew = True
    written = await _values(connection, role, expression, operands)
    if not (is_written_anew and column.type in EXACT):
        return condition
    is_list = isinstance(condition.operand, tuple)
    return replace(condition, operand=tuple(written) if is_list else written[0])


async def _values(
    connection: PipelineTransaction, role: str, statement: str, operands: Sequence[str]
) -> list[str]:
    """Return the value of a statement with each operand, as a role."""
    impersonation = Impersonation(role, "{}", timeouts(FILTER_MILLISECONDS))
    try:
        async with connection.undone():
            await connection.impersonate(impersonation)
            calls = [Call(Statement(statement), (operand,)) for operand in operands]
            return [value for ((value,),) in await connection.run(*calls)]
    except RoleNotAllowed as error:
        raise _raised(str(error)) from None
    except psycopg.Error as error:
        # The name of the code, as in Postgres's list of them.
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(error).__name__).lower()
        raise InvalidBinding(
            f"ERROR {error.sqlstate} ({name}) {error.diag.message_primary or error}"
        ) from None


def _raised(message: str) -> InvalidBinding:
    return InvalidBinding(f"ERROR P0001 (raise_exception) {message}")
