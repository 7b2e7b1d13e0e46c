"""Which tables of the target refer to which: those of the plan, and all others."""

from collections import defaultdict
from collections.abc import Sequence

from amphibase.move.catalog import DatabaseCatalog, TableName
from amphibase.move.tables.base import Referrer
from amphibase.move.tables.moved_table import MovedTable


class Referrers:
    """The foreign keys of a side by the table that they refer to."""

    def __init__(self, catalog: DatabaseCatalog) -> None:
        self._by_table: dict[TableName, list[Referrer]] = defaultdict(list)
        for table in catalog.tables:
            for key in table.foreign_keys:
                referrer = Referrer(table.name, key.columns, key.target_columns)
                self._by_table[key.target].append(referrer)

    def of(self, table: MovedTable) -> list[Referrer]:
        """Return what refers to a table of the plan, also itself."""
        return self._by_table[table.pair.target.table.name]

    def of_others(self, table: MovedTable) -> list[Referrer]:
        """Return which other tables refer to a table of the plan."""
        name = table.pair.target.table.name
        return [each for each in self.of(table) if each.table != name]

    def beside(self, table: MovedTable, moved: Sequence[MovedTable]) -> list[Referrer]:
        """Return what refers to a table of the plan and is not in the plan itself."""
        names = {each.pair.target.table.name for each in moved}
        return [each for each in self.of(table) if each.table not in names]
