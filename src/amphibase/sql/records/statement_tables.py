"""The tables that a statement reads beside its own rows: by filters, orders and values that the
application wrote, and by rules of access."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sqlalchemy import CTE, Delete, FromClause, Insert, Select, Table, Update, column, select, table
from sqlalchemy.sql.elements import ClauseElement, ColumnElement

from amphibase.access.conditions import Always, Condition
from amphibase.errors import NotSupported
from amphibase.models import Base, SoftDelete
from amphibase.records.access_policy import AccessPolicy
from amphibase.records.adoption import mappers_by_table
from amphibase.records.column_access import check_readable
from amphibase.records.model_info import ModelInfo
from amphibase.records.model_infos import ModelInfos
from amphibase.records.predicates import Predicates, RowColumns, columns_of, own_columns
from amphibase.schema.tables import tables
from amphibase.sql.records.tables_read import TablesRead, tables_read
from amphibase.sql.records.visible_tables import visible_table

Statement = TypeVar("Statement", Select[Any], Insert, Update, Delete)


class StatementTables:
    """Limits what the application's expressions read to rows that the caller may see, and lets
    rules read all rows.

    Args:
        policy: what the caller may do with the statement's own rows.
        policy_of: returns the same for another model.
        expressions: the parts of the statement that the application wrote.
        of_one: whether at most one row matches. That it is in a scope is then looked up by an
            index, and not in an array of all values of the scope.

    Raises:
        NotSupported: an expression reads a table that has no declared access, or a column that is
            left to the service, or runs text as a query.
    """

    def __init__(
        self,
        policy: AccessPolicy,
        infos: ModelInfos,
        policy_of: Callable[[type[Any]], AccessPolicy],
        expressions: Iterable[ClauseElement] = (),
        *,
        of_one: bool = False,
    ) -> None:
        self._policy = policy
        self._infos = infos
        self._policy_of = policy_of
        self._caller = policy.caller
        own = policy.info.table.fullname
        read = computed_reads(policy.info)
        expressions = [*expressions]
        if expressions:
            read = read | tables_read(expressions, own)
        self._check_readable(read)
        self._names = read.tables | self._tables_in_text(read) if read.words else read.tables
        self._unlimited: dict[str, CTE] = {}
        has_arrays = infos.dialect != "sqlite" and not of_one
        self._predicates = Predicates(self._caller, self._source, has_arrays=has_arrays)

    def where(
        self, condition: Condition, row: RowColumns = own_columns
    ) -> tuple[ColumnElement[bool], ...]:
        """Return a condition as arguments of `where`: none if it holds for every row."""
        return () if isinstance(condition, Always) else (self._predicates.write(condition, row),)

    def restrict(self, statement: Statement) -> Statement:
        """Limit the tables that the application's expressions read.

        Called last: what conditions read must be known.
        """
        visible: list[CTE | None] = [self._visible_table(name) for name in sorted(self._names)]
        # Before those, which hide the tables that these read.
        for cte in (*self._unlimited.values(), *visible):
            if cte is not None:
                statement = statement.add_cte(cte)
        return statement

    def _source(self, of: Table) -> FromClause:
        """Return a table for a rule, which reads all of its rows, also where the statement has a
        common table expression of the same name."""
        if of.fullname not in self._names:
            return of.alias()
        columns = [column(each.name, each.type) for each in of.columns]
        if self._infos.dialect == "sqlite":
            return table(of.name, *columns, schema=of.schema or "main").alias()
        unlimited = self._unlimited.get(of.fullname)
        if unlimited is None:
            rows = select(table(of.name, *columns, schema=of.schema))
            unlimited = rows.cte(f"amphibase_all_{of.name}").prefix_with("NOT MATERIALIZED")
            self._unlimited[of.fullname] = unlimited
        return unlimited.alias()

    def _check_readable(self, read: TablesRead) -> None:
        if self._caller.role == "service_role":
            return
        info = self._policy.info
        own = [info.column_of[name] for name in info.hidden]
        if read.unseen:
            raise NotSupported(
                f"{min(read.unseen)} reads tables that cannot be seen in the expression, and so "
                "cannot be limited to what the caller may see; only the service uses it in a filter"
            )
        check_readable({*read.hidden, *(each for each in own if read.holds(each.name))})

    def _tables_in_text(self, read: TablesRead) -> set[str]:
        """Return the names of the tables that SQL text reads."""
        own = tables(self._infos.dialect)
        parts = (Base.metadata, own.auth, own.storage)
        names = {name for part in parts for name in part.tables}
        names |= {table.fullname for table in mappers_by_table()}
        found = {name for name in names if read.holds(name)}
        reached = [name for name in names if read.holds_behind_schema(name)]
        if reached and self._caller.role != "service_role":
            raise NotSupported(
                f"{min(reached)} stands behind its schema in SQL text, where its rows cannot be "
                "limited to those that the caller may see; leave the schema out"
            )
        return found

    def _visible_table(self, name: str) -> CTE | None:
        return visible_table(self._policies_of(name), self._infos.dialect, self._visible_rows)

    def _policies_of(self, name: str) -> list[AccessPolicy]:
        if name == self._policy.info.table.fullname:
            return [self._policy]
        models = self._infos.models_of(name)
        if self._caller.role == "service_role":
            models = [model for model in models if issubclass(model, SoftDelete)]
        elif not models:
            raise NotSupported(
                f"{name} has no model that declares its access, so only the service may filter "
                "by it; map a class to it, with an __access__"
            )
        return [self._policy_of(model) for model in models]

    def _visible_rows(
        self, policy: AccessPolicy, source: FromClause
    ) -> tuple[ColumnElement[bool], ...]:
        return self.where(policy.readable, columns_of(source))


def computed_reads(info: ModelInfo[Any]) -> TablesRead:
    """Return the tables that the computed columns of a model read."""
    if "computed reads" not in info.cache:
        info.cache["computed reads"] = tables_read(info.computed, info.table.fullname)
    read: TablesRead = info.cache["computed reads"]
    return read
