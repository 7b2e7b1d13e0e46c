"""A model's declared access, bound to its columns and relationships."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from sqlalchemy import Column, ForeignKeyConstraint, Table, Uuid
from sqlalchemy import inspect as inspect_model
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.visitors import iterate

from amphibase.access import Access, CallerRule, Operation, Rule, Scope, Who, declaration_of
from amphibase.access.conditions import (
    Always,
    Condition,
    HasRelated,
    InScope,
    IsAdmin,
    IsAlive,
    IsOwner,
    IsSignedIn,
    Matches,
    Never,
    RefersTo,
    ScopeQuery,
    Subquery,
    all_of,
    any_of,
    conjuncts,
    implies,
)
from amphibase.access.rules import (
    OWNER_COLUMN,
    AndRule,
    ExpressionRule,
    OrRule,
    ThroughRule,
)
from amphibase.access.scopes import ScopeRule
from amphibase.errors import NotSupported
from amphibase.models import Owned, SoftDelete
from amphibase.records.adoption import adopted, mappers_by_table
from amphibase.records.column_access import column_access
from amphibase.records.joins import equal_columns
from amphibase.records.predicates import row_columns_read
from amphibase.records.rule_expressions import expression_of, scope_condition, tables_of

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
REFERENCES = ("visible", "any")
"""What a foreign key may declare: that callers see the rows that it refers to, or need not."""
_SAME_TYPES = {"VARCHAR": "TEXT", "SMALLINT": "INTEGER", "BIGINT": "INTEGER"}

_scope_queries: WeakKeyDictionary[Scope, ScopeQuery] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """The conditions of a model's operations, for callers other than the service.

    Args:
        declared: what they come from.
        read: of rows that the caller may see. That a row is not softly deleted is no part of it,
            nor of the others.
        add: of new rows. Unless declared otherwise, it includes `read`; and a new row of a model
            with an owner is the caller's, unless an administrator may add it.
        change_old: of rows that the caller may change, as they are; includes `read`.
        change_new: of rows as the caller may leave them; includes `read`.
        delete: of rows that the caller may delete, softly or not, and restore; includes `read`.
        references: of new rows, and of changed ones whose foreign keys change: no part of the
            others.
    """

    model: type[Any]
    declared: Access
    read: Condition
    add: Condition
    change_old: Condition
    change_new: Condition
    delete: Condition
    references: tuple[RefersTo, ...]

    @property
    def is_writable(self) -> bool:
        """Whether any caller may add, change or delete rows."""
        return any(not isinstance(each, Never) for each in (self.add, self.change_old, self.delete))


def access_of(model: type[Any]) -> ModelAccess:
    """Return the access of a mapped class.

    Raises:
        TypeError: its declaration is wrong; says what of it, and why.
    """
    binding = _Binding(model)
    access = binding.access
    return ModelAccess(
        model,
        access,
        binding.read(),
        binding.add(),
        binding.change_old(),
        binding.change_new(),
        binding.delete(),
        binding.references(),
    )


def condition_of(model: type[Any], rule: Rule, operation: Operation) -> Condition:
    """Return the condition that one rule of a mapped class comes to.

    Args:
        operation: what the rule is declared for.

    Raises:
        TypeError: the rule is wrong; says what of it, and why.
    """
    return _Binding(model)._bind(rule, operation)


class _Binding:
    """Binds the rules of one model.

    Args:
        path: the models whose rules lead here, this one not among them.
    """

    def __init__(self, model: type[Any], path: tuple[type[Any], ...] = ()) -> None:
        self._path = (*path, model)
        if model in path:
            names = " → ".join(each.__name__ for each in self._path[path.index(model) :])
            raise TypeError(f"The access rules of {names} lead in a circle; declare one without it")
        self.model = model
        self.access = declaration_of(model)
        self._mapper: Mapper[Any] = inspect_model(model)
        # A rule that stands for several operations is one condition, which is seen to be the same.
        self._bound: dict[int, Condition] = {}

    def condition(self, operation: Operation) -> Condition:
        """Return the condition of an operation on a row that exists."""
        return {"read": self.read, "change": self.change_old, "delete": self.delete}[operation]()

    def read(self) -> Condition:
        return self._bind(self.access.read, "read")

    def add(self) -> Condition:
        added = self._bind(self.access.add.new, "add")
        visible = self.read() if self.access.add.visible else Always()
        return all_of(added, visible, self._is_own(added))

    def change_old(self) -> Condition:
        return all_of(self.read(), self._bind(self.access.change.old, "change"))

    def change_new(self) -> Condition:
        change = self.access.change
        changed = self._bind(change.new or change.old, "change")
        return all_of(self.read(), changed)

    def delete(self) -> Condition:
        return all_of(self.read(), self._bind(self.access.delete, "delete"))

    def alive(self) -> Condition:
        """Return the condition that a row is not softly deleted."""
        column = self._column("deleted_at") if issubclass(self.model, SoftDelete) else None
        return Always() if column is None else IsAlive(column)

    def references(self) -> tuple[RefersTo, ...]:
        """Return the conditions that the caller sees what a row refers to: by foreign keys to
        `Owned` models, and by those whose columns declare it."""
        table: Any = self._mapper.local_table
        for column in table.columns:
            self._check_reference(column)
        keys = adopted(table).foreign_key_constraints
        in_order = sorted(keys, key=lambda key: [*key.column_keys])
        return tuple(condition for key in in_order for condition in self._referred(table, key))

    def _check_reference(self, column: Column[Any]) -> None:
        declared = column.info.get("references")
        if declared is None or (declared in REFERENCES and column.foreign_keys):
            return
        raise TypeError(
            f'{self.model.__name__}.{column.key}: info={{"references": …}} is "visible" or "any", '
            f"for a foreign key, not {declared!r}"
        )

    def _referred(self, table: Table, key: ForeignKeyConstraint) -> Iterator[RefersTo]:
        """Yield the condition that the caller sees the row which a foreign key refers to, if this
        matters and not every row is seen."""
        by_name = {column.name: column for column in table.columns}
        columns = tuple(by_name[column.name] for column in key.columns)
        declared = {column.info.get("references") for column in columns}
        # The name alone: what it stands for may be missing where no condition needs it.
        name = key.elements[0].target_fullname.rpartition(".")[0]
        mappers = [
            mapper
            for other, mappers in mappers_by_table().items()
            for mapper in mappers
            if other.fullname == name and other.metadata is adopted(table).metadata
        ]
        is_owned = any(issubclass(mapper.class_, Owned) for mapper in mappers)
        if "any" in declared or not (is_owned or "visible" in declared):
            return
        where = f"{self.model.__name__}.{columns[0].key}"
        referred = tuple(element.column for element in key.elements)
        _check_readable(referred, where)
        condition = self._readable(key.referred_table, where)
        if not isinstance(condition, Always):
            yield RefersTo(columns, referred, condition)

    def _is_own(self, added: Condition) -> Condition:
        """Return the condition that a new row is the caller's own."""
        column = self._column(OWNER_COLUMN)
        if column is None or not isinstance(column.type, Uuid):
            return Always()
        anonymous_add = bool(column.nullable) and not implies(added, IsSignedIn())
        is_own: Condition = IsOwner(column, or_anonymous=anonymous_add)
        rules = self.access.add.new.walk()
        by_admin = any(isinstance(each, CallerRule) and each.who is Who.ADMIN for each in rules)
        return any_of(is_own, IsAdmin()) if by_admin else is_own

    def _bind(self, rule: Rule, operation: Operation) -> Condition:
        bound = self._bound.get(id(rule))
        if bound is None:
            bound = self._bound[id(rule)] = self._condition(rule, operation)
        return bound

    def _condition(self, rule: Rule, operation: Operation) -> Condition:
        match rule:
            case OrRule(parts):
                return any_of(*(self._bind(part, operation) for part in parts))
            case AndRule(parts):
                return all_of(*(self._bind(part, operation) for part in parts))
            case CallerRule(Who.EVERYONE):
                return Always()
            case CallerRule(Who.AUTHENTICATED):
                return IsSignedIn()
            case CallerRule(Who.ADMIN):
                return IsAdmin()
            case CallerRule(Who.OWNER):
                return IsOwner(self._owner())
            case CallerRule(Who.SERVICE):
                return Never()
            case ScopeRule():
                return self._in_scope(rule, operation)
            case ThroughRule():
                return self._related(rule, operation)
            case ExpressionRule():
                return self._matches(rule, operation)
        raise TypeError(f"{self.model.__name__}: {rule!r} is not a rule that Amphibase knows")

    def _owner(self) -> Column[Any]:
        column = self._column(OWNER_COLUMN)
        if column is None or not isinstance(column.type, Uuid):
            raise TypeError(
                f"{self.model.__name__} grants access to owners, but has no {OWNER_COLUMN} that is "
                "a UUID"
            )
        return column

    def _in_scope(self, rule: ScopeRule, operation: Operation) -> Condition:
        column = self._column(rule.column)
        if column is None:
            self._reject(operation, rule, f"{self.model.__name__} has no column {rule.column}")
        query = self._scope_query(rule, operation)
        if _type_name(column) != _type_name(query.column):
            self._reject(
                operation,
                rule,
                f"{rule.column} is {_type_name(column)}, and {query.table.name}."
                f"{query.column.name} is {_type_name(query.column)}",
            )
        return InScope(column, query)

    def _scope_query(self, rule: ScopeRule, operation: Operation) -> ScopeQuery:
        scope = rule.scope
        query = _scope_queries.get(scope)
        if query is None:
            members = _Binding(scope.model)
            column, user = members._column(scope.column.key), members._column(scope.of.key)
            table = members._mapper.local_table
            if column is None or user is None or not isinstance(table, Table):
                self._reject(operation, rule, "the scope is not made of columns of one table")
            if not isinstance(user.type, Uuid):
                self._reject(operation, rule, f"{scope.of} is not a UUID, as users' ids are")
            where = [scope_condition(each, table, f"{rule}") for each in scope.conditions]
            alive = members.alive()
            if isinstance(alive, IsAlive):
                where.append(alive.column.is_(None))
            query = ScopeQuery(table, column, user, tuple(where))
            _scope_queries[scope] = query
        return query

    def _related(self, rule: ThroughRule, operation: Operation) -> Condition:
        relationship = self._mapper.relationships.get(rule.relationship)
        if relationship is None:
            self._reject(
                operation, rule, f"{self.model.__name__} has no relationship {rule.relationship}"
            )
        if relationship.uselist or relationship.secondary is not None:
            self._reject(
                operation,
                rule,
                f"{rule.relationship} leads to many rows; say which of them count: "
                f"rule(lambda row: row.{rule.relationship}.any(…))",
            )
        try:
            equal_columns(relationship.primaryjoin, relationship)
        except NotSupported as error:
            self._reject(operation, rule, str(error))
        related = _Binding(relationship.mapper.class_, self._path)
        condition = related.condition(rule.operation)
        if isinstance(condition, Never):
            return condition
        there = [far for _, far in relationship.local_remote_pairs or ()]
        # The related table's own policy for SELECT reads what it needs.
        known = conjuncts(related.read())
        for part in conjuncts(condition):
            if part not in known:
                there += row_columns_read(part)
        _check_readable(there, f"{self.model.__name__}: {operation}={rule}")
        return HasRelated(relationship, relationship.mapper, all_of(related.alive(), condition))

    def _matches(self, rule: ExpressionRule, operation: Operation) -> Condition:
        where = f"{self.model.__name__}: {operation}={rule}"
        expression = expression_of(rule.build, self._mapper, where)
        subqueries = []
        for exists, tables in tables_of(expression, self._mapper, where):
            inside = [each for each in iterate(exists.element) if isinstance(each, Column)]
            _check_readable([each for each in inside if each.table in tables], where)
            conditions = [(table, self._readable(table, where, self._path)) for table in tables]
            subqueries.append(Subquery(exists, tuple(conditions)))
        return Matches(expression, tuple(subqueries))

    def _readable(self, table: Table, where: str, path: tuple[type[Any], ...] = ()) -> Condition:
        """Return the condition of the rows of another table that exist for the caller."""
        mappers = mappers_by_table().get(adopted(table), [])
        if not mappers:
            raise TypeError(
                f"{where} reads {table.name}, whose access no model declares; map a class to it"
            )
        others = [_Binding(mapper.class_, path) for mapper in mappers]
        return all_of(*(each for other in others for each in (other.alive(), other.read())))

    def _column(self, name: str) -> Column[Any] | None:
        column = self._mapper.columns.get(name)
        is_own = isinstance(column, Column) and column.table is self._mapper.local_table
        return column if is_own else None

    def _reject(self, operation: Operation, rule: Rule, reason: str) -> NoReturn:
        raise TypeError(f"{self.model.__name__}: {operation}={rule}: {reason}")


def _type_name(column: Column[Any]) -> str:
    name = column.type.compile(_DIALECT).partition("(")[0]
    return _SAME_TYPES.get(name, name)


def _check_readable(columns: Iterable[Any], where: str) -> None:
    """Check columns that policies read in other tables as the caller, whose privileges decide."""
    for column in columns:
        if column_access(column).read:
            raise TypeError(
                f"{where} reads {column}, which is left to the service, so policies of Postgres "
                "cannot read it for the caller; compare a column that callers may read, or keep "
                "what decides in a scope: memberships(…).where(…)"
            )
