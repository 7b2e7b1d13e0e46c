"""Plans requests against one catalog."""

from amphibase.gateway.rest.errors.schema_cache import NoTable
from amphibase.gateway.rest.plan.call import plan_call
from amphibase.gateway.rest.plan.mutate import plan_write
from amphibase.gateway.rest.plan.read import Reader
from amphibase.gateway.rest.plan.types import Demand, Plan
from amphibase.gateway.rest.schema.catalog import Catalog
from amphibase.gateway.rest.schema.suggestions import nearest

_JSON_SHAPES = ("array", "object")


class Planner:
    """Plans requests against one catalog; a new catalog has a new planner.

    Args:
        max_rows: the most rows of any relation in an answer; None for all.
        aggregates: whether requests may use aggregates.
    """

    def __init__(
        self, catalog: Catalog, *, max_rows: int | None = None, aggregates: bool = False
    ) -> None:
        self.catalog = catalog
        self._max_rows = max_rows
        self._aggregates = aggregates

    def plan(self, demand: Demand) -> Plan:
        """Resolve a request.

        Raises:
            RestError: something that it names is not there, or not allowed.
        """
        reader = Reader(
            self.catalog,
            demand.target.schema,
            self._max_rows,
            self._aggregates,
            formatted=demand.media.shape in _JSON_SHAPES,
        )
        if demand.action == "call":
            return plan_call(self.catalog, demand, reader)
        table = self.catalog.tables.get(demand.target)
        if table is None:
            raise self._no_table(demand)
        if demand.action != "read":
            return plan_write(self.catalog, demand, table, reader)
        name = table.name
        root = reader.read(demand.query, name, table, name, name.name)
        reader.restrict(root, demand.query)
        return Plan(demand, root, max_rows=self._max_rows)

    def _no_table(self, demand: Demand) -> NoTable:
        schema = demand.target.schema
        known = {name.name for name in self.catalog.tables if name.schema == schema}
        meant = nearest(demand.target.name, known)
        return NoTable(str(demand.target), meant and f"{schema}.{meant}")
