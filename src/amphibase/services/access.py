"""What the models of an application declare, and why a caller may do something with a row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, MetaData, Table, and_, case, func, literal, select
from sqlalchemy import inspect as inspect_model
from sqlalchemy.ext.asyncio import AsyncSession

from amphibase.access import Operation, Rule, declaration_of
from amphibase.access.conditions import Always, Condition, InScope, Never
from amphibase.access.rules import AndRule, OrRule, ThroughRule
from amphibase.backend import Caller
from amphibase.errors import NotFound
from amphibase.models import SoftDelete
from amphibase.records.adoption import mappers_by_table
from amphibase.records.column_access import column_access
from amphibase.records.joins import equal_columns
from amphibase.records.model_access import access_of, condition_of
from amphibase.records.predicates import Predicates, fold


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule admits a caller to a row.

    Args:
        rule: as it is declared.
        reason: what of the row or the caller decided it; empty where the rule says so itself.
        parts: of the rules that it is made of, or that it leads to.
    """

    rule: str
    admits: bool
    reason: str = ""
    parts: tuple["Verdict", ...] = ()


@dataclass(frozen=True, slots=True)
class OperationVerdict:
    """Whether a caller may do something with a row: all of the rules have to admit them.

    Args:
        operation: in words, such as `change (the row as it is)`.
    """

    operation: str
    rules: tuple[Verdict, ...]

    @property
    def admits(self) -> bool:
        """Whether the caller may."""
        return all(verdict.admits for verdict in self.rules)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a caller may do with a row, and why.

    Args:
        is_deleted: whether the row is softly deleted: then it exists for `with_deleted()` alone.
    """

    model: type[Any]
    is_deleted: bool
    operations: tuple[OperationVerdict, ...]


async def explain(
    session: AsyncSession, model: type[Any], key: Sequence[Any], caller: Caller
) -> Explanation:
    """Explain what a caller may do with a row.

    Args:
        session: the service's, which reads rows whoever may see them.
        key: the values of its primary key.
        caller: anonymous or a user; claims that the application adds to tokens are not known
            unless they are among the caller's.

    Raises:
        NotFound: there is no such row.
    """
    mapper = inspect_model(model)
    row = and_(*(column == value for column, value in zip(mapper.primary_key, key, strict=True)))
    explainer = _Explainer(session, caller)
    if not await explainer.exists(model, row):
        raise NotFound(f"There is no such {model.__name__}")
    deleted = await explainer.is_deleted(model, row)
    return Explanation(model, deleted, await explainer.operations(model, row))


class _Explainer:
    """Decides rules for one caller, by statements of the service."""

    def __init__(self, session: AsyncSession, caller: Caller) -> None:
        self._session = session
        self._caller = caller

    async def operations(
        self, model: type[Any], row: ColumnElement[bool]
    ) -> tuple[OperationVerdict, ...]:
        access = declaration_of(model)
        read = await self._rule(model, access.read, "read", row)
        change = await self._rule(model, access.change.old, "change", row)
        delete = await self._rule(model, access.delete, "delete", row)
        verdicts = [
            OperationVerdict("read", (read,)),
            OperationVerdict("add (a row like this one)", await self._added(model, read, row)),
            OperationVerdict("change", _distinct(read, change)),
            OperationVerdict("delete", _distinct(read, delete)),
        ]
        if access.change.new is not None:
            changed = await self._rule(model, access.change.new, "change", row)
            verdicts.insert(
                3, OperationVerdict("leave it as it is by a change", _distinct(read, changed))
            )
        return tuple(verdicts)

    async def _added(
        self, model: type[Any], read: Verdict, row: ColumnElement[bool]
    ) -> tuple[Verdict, ...]:
        """Decide about a new row that holds what a stored one does."""
        add = declaration_of(model).add
        rules = [read] if add.visible else []
        rules.append(await self._rule(model, add.new, "add", row))
        admits = all(rule.admits for rule in rules)
        if admits and not await self._holds(model, access_of(model).add, row):
            rules.append(Verdict("what is added", False, "a new row is the caller's own"))
        for reference in access_of(model).references:
            if not await self._holds(model, reference, row):
                names = ", ".join(column.name for column in reference.columns)
                reason = f"{names} refers to a row that the caller does not see"
                rules.append(Verdict('{"references": "visible"}', False, reason))
        return _distinct(*rules)

    async def _rule(
        self, model: type[Any], rule: Rule, operation: Operation, row: ColumnElement[bool]
    ) -> Verdict:
        match rule:
            case OrRule(parts) | AndRule(parts):
                verdicts = [await self._rule(model, part, operation, row) for part in parts]
                decide = any if isinstance(rule, OrRule) else all
                word = "any of" if isinstance(rule, OrRule) else "all of"
                return Verdict(word, decide(each.admits for each in verdicts), "", (*verdicts,))
            case ThroughRule():
                return await self._through(model, rule, operation, row)
        condition = condition_of(model, rule, operation)
        admits = await self._holds(model, condition, row)
        reason = await self._scope(model, condition, row) if isinstance(condition, InScope) else ""
        return Verdict(str(rule), admits, reason)

    async def _through(
        self, model: type[Any], rule: ThroughRule, operation: Operation, row: ColumnElement[bool]
    ) -> Verdict:
        admits = await self._holds(model, condition_of(model, rule, operation), row)
        relationship = inspect_model(model).relationships[rule.relationship]
        here, there = equal_columns(relationship.primaryjoin, relationship)
        values = (await self._session.execute(select(*here).where(row))).one()
        related, name = relationship.mapper.class_, relationship.mapper.class_.__name__
        if None in values:
            return Verdict(str(rule), admits, f"the row has no {rule.relationship}")
        related_row = and_(*(far == value for far, value in zip(there, values, strict=True)))
        if not await self.exists(related, related_row):
            return Verdict(str(rule), admits, f"there is no such {name}")
        if await self.is_deleted(related, related_row):
            return Verdict(str(rule), admits, f"the {name} is softly deleted")
        rules = declaration_of(related)
        needed: dict[Operation, Rule] = {"read": rules.read}
        if rule.operation != "read":
            needed[rule.operation] = (
                rules.change.old if rule.operation == "change" else rules.delete
            )
        parts = [
            Verdict(f"{name}: {each}", verdict.admits, verdict.reason, verdict.parts or (verdict,))
            for each, related_rule in needed.items()
            for verdict in [await self._rule(related, related_rule, each, related_row)]
        ]
        return Verdict(str(rule), admits, "", (*parts,))

    async def _holds(
        self, model: type[Any], condition: Condition, row: ColumnElement[bool]
    ) -> bool:
        if self._caller.role == "service_role":
            return True
        folded = fold(condition, self._caller)
        if isinstance(folded, Always | Never):
            return isinstance(folded, Always)
        return await self.is_true(model, Predicates(self._caller).write(folded), row)

    async def _scope(self, model: type[Any], condition: InScope, row: ColumnElement[bool]) -> str:
        """Say what the row's column has, and how much is in the caller's scope."""
        column, query = condition.column, condition.query
        value = await self._session.scalar(select(column).where(row))
        if self._caller.user_id is None:
            return f"{column.name} is {value}; the caller is not signed in"
        own = (query.user == self._caller.user_id, query.column == value)
        rows = await self._count(query.table, *own)
        reason = (
            f"{column.name} is {value}; the caller has {rows or 'no'} "
            f"{'row' if rows == 1 else 'rows'} of {query.table.name} with it"
        )
        if not (rows and query.where):
            return reason
        filtered = await self._count(query.table, *own, *query.where)
        return f"{reason}, {filtered or 'none'} within the filter"

    async def _count(self, table: Table, *where: ColumnElement[bool]) -> int:
        counted = select(func.count()).select_from(table).where(*where)
        return await self._session.scalar(counted) or 0

    async def exists(self, model: type[Any], row: ColumnElement[bool]) -> bool:
        """Return whether there is a row, softly deleted or not."""
        return await self.is_true(model, literal(1) == literal(1), row)

    async def is_deleted(self, model: type[Any], row: ColumnElement[bool]) -> bool:
        """Return whether a row is softly deleted."""
        if not issubclass(model, SoftDelete):
            return False
        deleted_at = inspect_model(model).columns["deleted_at"]
        return await self.is_true(model, deleted_at.is_not(None), row)

    async def is_true(
        self, model: type[Any], condition: ColumnElement[bool], row: ColumnElement[bool]
    ) -> bool:
        """Return whether a condition is true of a row: neither false nor NULL."""
        table = inspect_model(model).local_table
        held = select(case((condition, 1), else_=0)).select_from(table).where(row)
        return bool(await self._session.scalar(held))


def _distinct(*verdicts: Verdict) -> tuple[Verdict, ...]:
    """Return each verdict once: a rule for reading is often that of another operation too."""
    return tuple(dict.fromkeys(verdicts))


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What a model declares.

    Args:
        rules: of read, add, change and delete, in this order.
        columns: what single columns leave to the service, or refer to, by name.
    """

    model: str
    table: str
    rules: tuple[str, str, str, str]
    columns: dict[str, str]


def declared_rules(metadata: MetaData) -> Iterator[ModelRules]:
    """Yield what each model of an application declares, in the order of the names.

    Raises:
        TypeError: a declaration is wrong.
    """
    mappers = [
        mapper
        for table, mappers in mappers_by_table().items()
        if table.metadata is metadata
        for mapper in mappers
    ]
    for mapper in sorted(mappers, key=lambda mapper: mapper.class_.__name__):
        access = declaration_of(mapper.class_)
        rules = (str(access.read), str(access.add), str(access.change), str(access.delete))
        visible = {
            column for each in access_of(mapper.class_).references for column in each.columns
        }
        columns: dict[str, str] = {}
        for attribute in mapper.column_attrs:
            left = column_access(attribute.columns[0])
            words = [name for name in ("read", "add", "change") if getattr(left, name)]
            declared = [f"{', '.join(words)}: service"] if words else []
            declared += ["references: visible"] if attribute.columns[0] in visible else []
            if declared:
                columns[attribute.key] = "; ".join(declared)
        name = getattr(mapper.local_table, "name", "")
        yield ModelRules(mapper.class_.__name__, name, rules, columns)


def model_named(metadata: MetaData, name: str) -> type[Any]:
    """Return the model of an application by the name of its class or of its table.

    Raises:
        NotFound: there is none, or several; names those that there are.
    """
    models = {
        mapper.class_: table.name
        for table, mappers in mappers_by_table().items()
        if table.metadata is metadata
        for mapper in mappers
    }
    named = [model for model, table in models.items() if name in (model.__name__, table)]
    if len(named) == 1:
        return named[0]
    known = ", ".join(sorted(model.__name__ for model in models))
    what = f"Several models have the name {name}" if named else f"There is no model {name}"
    raise NotFound(f"{what}; the application has {known}")
