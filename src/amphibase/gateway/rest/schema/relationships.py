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


def relate(
    foreign_keys: Iterable[ForeignKey],
    keys: Keys,
    views: Mapping[Name, Sequence[ViewColumn]],
    schemas: Collection[str],
) -> dict[Name, tuple[Relationship, ...]]:
    """Derive all relationships, by the relation they start from.

    Args:
        schemas: the exposed ones, in which junctions have to be.
    """
    by_source: dict[Name, list[Relationship]] = defaultdict(list)
    shown_by = _by_column(views)
    known = [
        shown
        for key in foreign_keys
        for shown in _with_views(_with_uniqueness(key, keys), shown_by)
    ]
    for key in known:
        for relationship in _both_directions(key):
            by_source[relationship.source].append(relationship)
    exposed = [key for key in known if key.source.schema in schemas]
    for relationship in _over_junctions(exposed, keys):
        by_source[relationship.source].append(relationship)
    return {name: tuple(relationships) for name, relationships in by_source.items()}


def _with_uniqueness(key: ForeignKey, keys: Keys) -> ForeignKey:
    columns = {source for source, _ in key.columns}
    unique = any(each and set(each) == columns for each in keys.get(key.source, ()))
    return ForeignKey(key.constraint, key.source, key.target, key.columns, unique)


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


def _over_junctions(keys_known: Iterable[ForeignKey], keys: Keys) -> Iterator[Relationship]:
    """Two foreign keys of one relation, whose columns are all in its primary key."""
    by_source: dict[Name, list[ForeignKey]] = defaultdict(list)
    for key in keys_known:
        primary = keys.get(key.source, ((),))[0]
        if not key.is_unique and all(source in primary for source, _ in key.columns):
            by_source[key.source].append(key)
    for table, candidates in by_source.items():
        for one, other in product(candidates, candidates):
            if one.constraint != other.constraint:
                junction = Junction(
                    table, one.constraint, other.constraint, one.columns, other.columns
                )
                yield Relationship(
                    one.target, other.target, "many-to-many", one.constraint, (), junction
                )
