"""From a request to the statement that answers it; what was prepared once is kept."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from amphibase.database.connection import Call, Statement
from amphibase.gateway.rest.errors.schema_cache import NoTable
from amphibase.gateway.rest.plan.call import plan_call
from amphibase.gateway.rest.plan.mutate import plan_write
from amphibase.gateway.rest.plan.read import Reader
from amphibase.gateway.rest.plan.types import Demand, Plan
from amphibase.gateway.rest.request.query import Value
from amphibase.gateway.rest.schema.catalog import Catalog
from amphibase.gateway.rest.schema.suggestions import nearest
from amphibase.gateway.rest.sql.fragments import Bound
from amphibase.gateway.rest.sql.statement import Text, write, write_estimate

_KEPT = 1000
_LONGEST_KEPT = 20_000
_JSON_SHAPES = ("array", "object")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What answers all requests that differ in their values alone."""

    plan: Plan
    statement: Statement
    text: Text
    estimate: Text | None

    def call(self, values: Sequence[Value], body: Bound = None) -> Call:
        """The statement with a request's values; it gives one row, an `Answer`.

        Args:
            body: as JSON, or as it is where the function takes it whole.
        """
        return Call(self.statement, [each.read(values, body) for each in self.text.parameters])

    def estimate_call(self, values: Sequence[Value]) -> Call | None:
        """The statement that explains how many rows there may be; None where nobody asks."""
        if self.estimate is None:
            return None
        bound = [each.read(values, None) for each in self.estimate.parameters]
        return Call(Statement(self.estimate.sql), bound)


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
        self._kept: OrderedDict[Demand, Prepared] = OrderedDict()

    def prepare(self, demand: Demand) -> Prepared:
        """What answers a request, made now or kept from the last time.

        Raises:
            RestError: something that the request names is not there, or not allowed.
        """
        found = self._kept.get(demand)
        if found is not None:
            self._kept.move_to_end(demand)
            return found
        plan = self.plan(demand)
        text = write(plan)
        prepared = Prepared(plan, Statement(text.sql), text, write_estimate(plan))
        if len(text.sql) <= _LONGEST_KEPT:  # or strangers could fill the memory
            self._kept[demand] = prepared
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return prepared

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
