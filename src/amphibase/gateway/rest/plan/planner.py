"""Plans requests against one catalog."""

from collections.abc import Sequence

from amphibase.gateway.rest.errors.database import DatabaseError
from amphibase.gateway.rest.plan.call import plan_call
from amphibase.gateway.rest.plan.mutate import plan_mutate, writes_columns
from amphibase.gateway.rest.plan.read import ReadPlanner
from amphibase.gateway.rest.plan.types import ActionPlan, PlanKey
from amphibase.gateway.rest.schema.catalog import Catalog
from amphibase.gateway.rest.schema.suggestions import no_table


class Planner:
    """Plans requests against one catalog; a new catalog has a new planner.

    Args:
        max_rows: the most rows of any relation in a response; None for all.
        aggregates: whether requests may use aggregates.
        extra_search_path: schemas after the request's own, in which computed fields are looked for.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        max_rows: int | None = None,
        aggregates: bool = False,
        extra_search_path: Sequence[str] = (),
    ) -> None:
        self.catalog = catalog
        self._max_rows = max_rows
        self._aggregates = aggregates
        self._extra_search_path = extra_search_path

    def plan(self, key: PlanKey) -> ActionPlan:
        """Resolve a request.

        Raises:
            RestError: something that it names is not there, or not allowed.
        """
        read_planner = ReadPlanner(
            self.catalog,
            (key.target.schema, *self._extra_search_path),
            self._max_rows,
            self._aggregates,
            represented=key.media.handler is None or key.media.handler.target is None,
        )
        plan = self._plan(key, read_planner)
        read_planner.check_columns()
        self._check_where(key)
        return plan

    def _plan(self, key: PlanKey, read_planner: ReadPlanner) -> ActionPlan:
        if key.action == "call":
            return plan_call(self.catalog, key, read_planner)
        table = self.catalog.tables.get(key.target)
        if table is None:
            raise no_table(self.catalog, key.target)
        if key.action != "read":
            return plan_mutate(self.catalog, key, table, read_planner)
        name = table.name
        root = read_planner.read(key.query, name, table, name, name.name)
        read_planner.restrict(root, key.query)
        return ActionPlan(key, root, max_rows=self._max_rows)

    def _check_where(self, key: PlanKey) -> None:
        """Reject what the module safeupdate would, by its words; it may not be installed."""
        is_filtered = any(not path for path, _ in key.query.conditions)
        changes = key.action == "delete" or (key.action == "update" and writes_columns(key))
        if self.catalog.requires_where and changes and not is_filtered:
            raise DatabaseError(400, "21000", f"{key.action.upper()} requires a WHERE clause")
