"""Finds the relationship that an embedded relation means.

Without a hint a relation is named by its table, by the constraint of a foreign key or its column;
a hint is a constraint, a column on either side, or the table between the two.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from amphibase.gateway.rest.errors.schema_cache import AmbiguousRelationship, NoRelationship
from amphibase.gateway.rest.schema.catalog import Catalog, ComputedRelationship, Name, Relationship
from amphibase.gateway.rest.schema.suggestions import RELATED_LIKENESS, nearest

_MOST_TRIED = 20
_CARDINALITIES = ("one-to-many", "many-to-one", "one-to-one", "many-to-many")


def find_relationship(
    catalog: Catalog, schema: str, origin: Name, target: str, hint: str | None
) -> Relationship | ComputedRelationship:
    """Find the one relationship from the origin that the target and the hint name.

    Args:
        schema: where the target is looked for, a computed relationship's function included.

    Raises:
        NoRelationship: there is none.
        AmbiguousRelationship: there are several.
    """
    for computed in catalog.computed_relationships.get(origin, ()):
        is_exposed = computed.target.schema in catalog.schemas
        if is_exposed and computed.function == Name(schema, target):
            return computed
    candidates = [
        each
        for each in catalog.relationships.get(origin, ())
        if each.target.schema == schema and _means(each, target, hint, catalog)
    ]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        candidates.sort(key=_rank)
        raise AmbiguousRelationship(
            origin.name,
            target,
            [_described(each) for each in candidates],
            f"Try changing '{target}' to one of the following: {', '.join(_choices(candidates))}. "
            "Find the desired relationship in the 'details' key.",
        )
    using = f" using the hint '{hint}'" if hint else ""
    raise NoRelationship(
        origin.name,
        target,
        f"Searched for a foreign key relationship between '{origin.name}' and '{target}'{using} in "
        f"the schema '{schema}', but no matches were found.",
        _hint(catalog, schema, origin, target),
    )


def _rank(each: Relationship) -> tuple[object, ...]:
    """The order in which PostgREST names several relationships."""
    junction = each.junction
    names: tuple[object, ...] = each.constraint, each.columns
    if junction is not None:
        names = str(junction.table), (junction.source_constraint, junction.target_constraint)
    return each.target.name, _CARDINALITIES.index(each.cardinality), *names


def _means(each: Relationship, target: str, hint: str | None, catalog: Catalog) -> bool:
    by_name = target == each.target.name
    near = [column for column, _ in each.columns]
    far = [column for _, column in each.columns]
    if each.is_self:
        # One foreign key leads both ways here. By convention the table's name means the many, the
        # column's the one. Over a junction nothing tells the two ways apart.
        if each.junction is not None:
            return False
        if each.cardinality == "one-to-many":
            return by_name and (hint in (None, each.constraint) or far == [hint])
        return hint is None and near == [target]
    if hint is None:
        if by_name:
            return True
        is_view = catalog.tables[each.target].is_view if each.target in catalog.tables else False
        return (
            not is_view
            and each.junction is None
            and (target == each.constraint or near == [target])
        )
    if not by_name:
        return False
    if each.junction is not None:
        return hint == each.junction.table.name
    return hint == each.constraint or near == [hint] or far == [hint]


def _described(each: Relationship) -> dict[str, str]:
    source, target = each.source.name, each.target.name
    if each.junction is not None:
        sides = (
            (each.junction.source_constraint, each.junction.source),
            (each.junction.target_constraint, each.junction.target),
        )
        ways = (
            f"{constraint}({', '.join(column for column, _ in columns)})"
            for constraint, columns in sides
        )
        way = f"{each.junction.table.name} using {' and '.join(ways)}"
    else:
        near = ", ".join(column for column, _ in each.columns)
        far = ", ".join(column for _, column in each.columns)
        way = f"{each.constraint} using {source}({near}) and {target}({far})"
    return {
        "cardinality": each.cardinality,
        "embedding": f"{source} with {target}",
        "relationship": way,
    }


def _choices(candidates: Sequence[Relationship]) -> Iterator[str]:
    for relationship in candidates:
        way = relationship.junction.table.name if relationship.junction else relationship.constraint
        yield f"'{relationship.target.name}!{way}'"


def _hint(catalog: Catalog, schema: str, origin: Name, target: str) -> str | None:
    if known := _related(catalog, schema, origin):
        instead = target
        meant = None if target in known else nearest(target, known, min_likeness=RELATED_LIKENESS)
    else:
        instead = origin.name
        meant = _nearest_related(catalog, schema, instead)
    return f"Perhaps you meant '{meant}' instead of '{instead}'." if meant else None


def _nearest_related(catalog: Catalog, schema: str, name: str) -> str | None:
    """Return the name most like another of the relations that are related to one in the schema.

    The relationships of a large database are derived only of those that are tried.
    """
    relations: dict[str, list[Name]] = defaultdict(list)
    for each in {*catalog.relationships, *catalog.computed_relationships}:
        if each.schema in catalog.schemas and each.name != name:
            relations[each.name].append(each)
    for _ in range(_MOST_TRIED):
        meant = nearest(name, relations, min_likeness=RELATED_LIKENESS)
        if meant is None:
            return None
        if any(_related(catalog, schema, each) for each in relations.pop(meant)):
            return meant
    return None


def _related(catalog: Catalog, schema: str, origin: Name) -> set[str]:
    """The names of the relations in the schema that an origin is related to."""
    computed = catalog.computed_relationships.get(origin, ())
    names = {each.target.name for each in computed if each.function.schema == schema}
    relationships = catalog.relationships.get(origin, ())
    return names | {each.target.name for each in relationships if each.target.schema == schema}
