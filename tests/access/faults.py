"""Faults that are seeded into what turns a declaration into SQL."""

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from amphibase.records import model_access

PREDICATES = "amphibase.records.predicates"
ACCESS = "amphibase.records.model_access"
CONDITIONS = "amphibase.access.conditions"
CALLER = "amphibase.access.caller"
NEW_ROWS = "amphibase.sql.records.new_rows"
CHANGES = "amphibase.sql.records.changes"
TABLES = "amphibase.sql.records.statement_tables"

FAULTS: dict[str, tuple[str, str, str]] = {
    "anonymous callers count as signed in": (
        PREDICATES, "return _ALWAYS if signed_in else _NEVER", "return _ALWAYS",
    ),
    "users count as administrators": (
        PREDICATES, "_ALWAYS if signed_in and caller.is_admin", "_ALWAYS if signed_in",
    ),
    "users own every row": (
        PREDICATES, "return condition if is_own is None else _ALWAYS", "return _ALWAYS",
    ),
    "the owner of a row owns what it relates to": (
        PREDICATES, "there = fold(related, caller)", "there = fold(related, caller, is_own=is_own)",
    ),
    "| means &": (PREDICATES, "return or_(*(", "return and_(*("),
    "& means |": (PREDICATES, "return and_(*(", "return or_(*("),
    "deleted related rows count": (
        ACCESS, "all_of(related.alive(), condition)", "condition",
    ),
    "memberships of others count": (
        PREDICATES, ".where(is_own, *where)", ".where(*where)",
    ),
    "memberships of any role count": (
        PREDICATES, ".where(is_own, *where)", ".where(is_own)",
    ),
    "deleted memberships count": (ACCESS, "where.append(alive.column.is_(None))", "pass"),
    "related rows of any rule count": (
        PREDICATES, "found.where(*joined, self.write(condition.condition, own))",
        "found.where(*joined)",
    ),
    "rows relate to all rows": (
        PREDICATES, "found.where(*joined, self.write(condition.condition, own))",
        "found.where(self.write(condition.condition, own))",
    ),
    "subqueries see all rows": (
        PREDICATES, "return found.where(*where)", "return found",
    ),
    "rows refer to any row": (
        PREDICATES, "found.where(*same, self.write(condition.condition, own))",
        "found.where(*same)",
    ),
    "new rows refer to any row": (NEW_ROWS, "raise ForeignKeyViolation", "pass"),
    "changed rows refer to any row": (
        CHANGES, "*self._is_left(tables, changes), *self._refers(tables, changes)",
        "*self._is_left(tables, changes)",
    ),
    "claims are missing": (CALLER, "value: Any = claims", "value: Any = {}"),
    "a change may end in what its author does not see": (
        ACCESS, "return all_of(self.read(), changed)", "return changed",
    ),
    "the rule after a change is that of before": (ACCESS, "change.new or change.old", "change.old"),
    "new rows need not be seen": (
        ACCESS, "visible = self.read() if self.access.add.visible else Always()",
        "visible = Always()",
    ),
    "what is deleted need not be seen": (
        ACCESS, 'return all_of(self.read(), self._bind(self.access.delete, "delete"))',
        'return self._bind(self.access.delete, "delete")',
    ),
    "administrators add rows of others wherever they may add": (
        ACCESS, "return any_of(is_own, IsAdmin()) if by_admin else is_own",
        "return any_of(is_own, IsAdmin())",
    ),
    "| drops the wider part": (
        CONDITIONS, "kept = _without_redundant(kept, lambda part, other: implies(other, part))",
        "kept = _without_redundant(kept, implies)",
    ),
    "& drops the narrower part": (
        CONDITIONS, "kept = _without_redundant(kept, implies)",
        "kept = _without_redundant(kept, lambda part, other: implies(other, part))",
    ),
    "what a change reads is not compared with what it sets": (
        NEW_ROWS, "or not changed.isdisjoint(read)", "or False",
    ),
    "a change is checked as if it were not made": (
        NEW_ROWS, "if column.name in values else row(column)", "if False else row(column)",
    ),
    "new rows are not checked": (
        NEW_ROWS, "if result.scalar_one() < len(some)", "if result.scalar_one() < 0",
    ),
    "who changes may delete softly": (
        CHANGES, "any_of(stays, deletable)", "any_of(stays, changeable)",
    ),
    "a rule sees what the filters beside it see": (
        TABLES, "if of.fullname not in self._names:", "if True:",
    ),
}  # fmt: skip


def source_of(fault: str) -> str:
    """Return the source of the module that a fault is seeded into, which has its place once."""
    name, right, _ = FAULTS[fault]
    source = inspect.getsource(importlib.import_module(name))
    assert source.count(right) == 1, f"{fault}: {right} stands in {name} once"
    return source


@contextmanager
def seeded(fault: str) -> Iterator[None]:
    """Run the block with a fault in the functions of a module."""
    name, right, wrong = FAULTS[fault]
    module = importlib.import_module(name)
    source = source_of(fault)
    faulty = {"__name__": name}
    exec(compile(source.replace(right, wrong), name, "exec"), faulty)
    changed = [
        (function, function.__code__, _functions(faulty)[path].__code__)
        for path, function in _functions(vars(module)).items()
    ]
    model_access._scope_queries.clear()
    for function, _, code in changed:
        function.__code__ = code
    try:
        yield
    finally:
        for function, code, _ in changed:
            function.__code__ = code
        model_access._scope_queries.clear()


def _functions(namespace: dict[str, Any]) -> dict[str, FunctionType]:
    """Return the functions of a module, and of its classes, without closures."""
    functions = {}
    for name, value in namespace.items():
        if getattr(value, "__module__", None) != namespace["__name__"]:
            continue
        inner = vars(value) if isinstance(value, type) else {"": value}
        for path, each in inner.items():
            function = each.fget if isinstance(each, property) else each
            if isinstance(function, FunctionType) and not function.__code__.co_freevars:
                functions[f"{name}.{path}"] = function
    return functions
