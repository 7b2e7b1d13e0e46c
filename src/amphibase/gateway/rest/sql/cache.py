"""The statements of requests: those that differ in their values alone share one."""

from collections import OrderedDict
from dataclasses import dataclass

from amphibase.gateway.rest.plan.planner import Planner
from amphibase.gateway.rest.plan.types import ActionPlan, PlanKey
from amphibase.gateway.rest.sql.statement import (
    CompiledStatement,
    compile_estimate,
    compile_statement,
)

_MAX_CACHED = 1000
_MAX_CACHED_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """A plan and its SQL.

    Attributes:
        main: gives one row, the `ResultColumns` of `sql.statement`.
        estimate: explains how many rows there may be; None where the request does not ask for it.
    """

    plan: ActionPlan
    main: CompiledStatement
    estimate: CompiledStatement | None


class StatementCache:
    """Plans and compiles requests, and keeps the most recently used.

    Args:
        planner: of one catalog; a new catalog needs a new cache.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._compiled: OrderedDict[PlanKey, CompiledPlan] = OrderedDict()

    def get(self, key: PlanKey) -> CompiledPlan:
        """Return the plan and the statements of a request.

        Raises:
            RestError: something that the request names is missing, or not allowed.
        """
        cached = self._compiled.get(key)
        if cached is not None:
            self._compiled.move_to_end(key)
            return cached
        plan = self._planner.plan(key)
        compiled = CompiledPlan(plan, compile_statement(plan), compile_estimate(plan))
        # A longer one is compiled anew each time, so that clients cannot fill the memory.
        if len(compiled.main.statement.sql) <= _MAX_CACHED_CHARACTERS:
            self._compiled[key] = compiled
            if len(self._compiled) > _MAX_CACHED:
                self._compiled.popitem(last=False)
        return compiled
