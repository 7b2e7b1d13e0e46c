"""Derives relationships from foreign keys: in both directions, over junctions, through views."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from amphibase.gateway.rest.schema.catalog import Junction, Name, Relationship

Keys = Mapping[Name, tuple[tuple[str, ...], ...]]
"""The keys of each relation: the primary key first (perhaps empty), then the unique ones."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key, or one that a view shows.

    Attributes:
        columns: pairs of (column of source, column of target).
        is_unique: whether a row of target has at most one row of source.
    """

    constraint: str
    source: Name
    target: Name
    columns: tuple[tuple[str, str], ...]
    is_unique: bool = False


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of a view, and the table's column that it shows."""

    name: str
    table: Name
    column: str


class ForeignKeys:
    """The foreign keys of a database, and the relationships that they give a relation.

    Args:
        keys: of all relations.
        views: what they show.
        schemas: the exposed ones, in which junctions have to be.
    """

    def __init__(
        self,
        keys: Keys,
        views: Mapping[Name, Sequence[ViewColumn]],
        schemas: Collection[str],
    ) -> None:
        self._keys = keys
        self._schemas = schemas
        self._views = {view: {each.table for each in columns} for view, columns in views.items()}
        self._shown_by = _by_column(views)
        self._by_table: dict[Name, list[ForeignKey]] = defaultdict(list)

    def add(self, key: ForeignKey) -> None:
        """Add one; whether it is unique is found out here."""
        columns = {source for source, _ in key.columns}
        unique = any(each and set(each) == columns for each in self._keys.get(key.source, ()))
        key = ForeignKey(key.constraint, key.source, key.target, key.columns, unique)
        for table in {key.source, key.target}:
            self._by_table[table].append(key)

    @property
    def relations(self) -> Collection[Name]:
        """The tables with foreign keys from or to them, and the views that show columns of such."""
        tables = self._by_table.keys()
        views = [view for view, shown in self._views.items() if shown & tables]
        return dict.fromkeys([*tables, *views])

    def relationships(self, source: Name) -> tuple[Relationship, ...]:
        """Derive the relationships of a relation; those over junctions come last."""
        keys = [key for key in self._of(source) if source in (key.source, key.target)]
        ways = [each for key in keys for each in _both_directions(key) if each.source == source]
        return (*ways, *self._over_junctions(keys, source))

    def _of(self, relation: Name) -> Iterator[ForeignKey]:
        """The foreign keys of a table, or of the tables that a view shows; each as it is, and as it
        appears where a view stands for one of its sides, or for both."""
        keys = {
            id(key): key
            for table in self._views.get(relation, (relation,))
            for key in self._by_table.get(table, ())
        }
        for key in sorted(keys.values(), key=_constraint):
            yield from _with_views(key, self._shown_by)

    def _over_junctions(self, keys: Iterable[ForeignKey], source: Name) -> Iterator[Relationship]:
        """Two foreign keys of one relation, whose columns are all in its primary key."""
        leading = [key for key in keys if key.target == source and self._is_junction(key)]
        for table in dict.fromkeys(key.source for key in leading):
            others = [
                key for key in self._of(table) if key.source == table and self._is_junction(key)
            ]
            for one, other in product(leading, others):
                if one.source == table and one.constraint != other.constraint:
                    junction = Junction(
                        table, one.constraint, other.constraint, one.columns, other.columns
                    )
                    yield Relationship(
                        source, other.target, "many-to-many", one.constraint, (), junction
                    )

    def _is_junction(self, key: ForeignKey) -> bool:
        primary = self._keys.get(key.source, ((),))[0]
        return (
            not key.is_unique
            and key.source.schema in self._schemas
            and all(source in primary for source, _ in key.columns)
        )


def _constraint(key: ForeignKey) -> str:
    return key.constraint


_ShownBy = Mapping[tuple[Name, str], Mapping[Name, Sequence[str]]]
"""By a table and its column: the views that show it, each with its own names for it."""


def _by_column(views: Mapping[Name, Sequence[ViewColumn]]) -> _ShownBy:
    shown_by: dict[tuple[Name, str], dict[Name, list[str]]] = defaultdict(dict)
    for view, columns in views.items():
        for column in columns:
            names = shown_by[column.table, column.column].setdefault(view, [])
            names.append(column.name)
    return shown_by


def _with_views(key: ForeignKey, shown_by: _ShownBy) -> Iterator[ForeignKey]:
    """The key itself, and as it appears where a view stands for one of its sides, or for both."""
    sources = [(key.source, [source for source, _ in key.columns])]
    targets = [(key.target, [target for _, target in key.columns])]
    sources += _showing(*sources[0], shown_by)
    targets += _showing(*targets[0], shown_by)
    for (source, source_columns), (target, target_columns) in product(sources, targets):
        columns = tuple(zip(source_columns, target_columns, strict=True))
        yield ForeignKey(key.constraint, source, target, columns, key.is_unique)


def _showing(
    table: Name, columns: Sequence[str], shown_by: _ShownBy
) -> list[tuple[Name, list[str]]]:
    """The views that show all the columns, with their own names for them."""
    by_view = [shown_by.get((table, column), {}) for column in columns]
    return [
        (view, list(names))
        for view in by_view[0]
        for names in product(*(each.get(view, ()) for each in by_view))
    ]


def _both_directions(key: ForeignKey) -> tuple[Relationship, Relationship]:
    back = tuple((target, source) for source, target in key.columns)
    return (
        Relationship(
            key.source,
            key.target,
            "one-to-one" if key.is_unique else "many-to-one",
            key.constraint,
            key.columns,
            refers=True,
        ),
        Relationship(
            key.target,
            key.source,
            "one-to-one" if key.is_unique else "one-to-many",
            key.constraint,
            back,
        ),
    )
