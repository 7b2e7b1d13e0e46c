"""Suggests names that are like a misspelt one."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from amphibase.gateway.rest.errors.database import DatabaseError
from amphibase.gateway.rest.errors.schema_cache import NoTable
from amphibase.gateway.rest.schema.catalog import Catalog, Name

NAME_LIKENESS = 0.75
"""How alike a name has to be (1 is equal): what is less like it would only reveal what is there.
The same as of PostgREST 14.6 for tables and functions."""

PARAMETERS_LIKENESS = 0.33
"""The same for the parameters of a function whose name the request knows."""

RELATED_LIKENESS = 0.33
"""The same for a relation, of those that a relation which the request knows is related to."""

_MOST_COMPARED = 5000
_MOST_CLOSE = 50
_GRAM_SIZES = (3, 2)
_LONGEST_NAME = 200


def nearest(
    name: str, candidates: Iterable[str], *, min_likeness: float = NAME_LIKENESS
) -> str | None:
    """Return the candidate most like the name, None if none is as like as `min_likeness`.

    It is of those that share the most runs of letters the one that takes the fewest changes.
    """
    # Imported where a name is misspelt: it takes memory that most processes never need.
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import extractOne

    some = sorted(candidates)[:_MOST_COMPARED]
    name = name[:_LONGEST_NAME]  # clients choose it, and each candidate is compared to it
    for size in _GRAM_SIZES:
        wanted = _grams(name, size)
        by_likeness = [(_likeness(wanted, _grams(each, size)), each) for each in some]
        close = sorted((each for each in by_likeness if each[0] > 0), key=lambda each: -each[0])
        best = extractOne(
            name,
            [candidate for _, candidate in close[:_MOST_CLOSE]],
            scorer=Levenshtein.normalized_similarity,
            processor=str.lower,
            score_cutoff=min_likeness,
        )
        if best is not None:
            return best[0]
    return None


def _grams(text: str, size: int) -> Counter[str]:
    """How often each run of letters is in the text."""
    letters = "".join(char for char in text.lower() if char.isalnum() or char in " ,")
    padded = f"-{letters}-".ljust(size, "-")
    return Counter(padded[at : at + size] for at in range(len(padded) - size + 1))


def _likeness(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """The cosine of the angle between the two, as vectors."""
    shared = sum(number * other.get(gram, 0) for gram, number in one.items())
    return shared / (_length(one) * _length(other))


def _length(grams: Mapping[str, int]) -> float:
    return math.hypot(*grams.values())


def no_table(catalog: Catalog, name: Name) -> NoTable:
    """Make the error of a table that is not there, with the name it may be meant for."""
    meant = nearest(name.name, {each.name for each in catalog.tables if each.schema == name.schema})
    return NoTable(str(name), meant and f"{name.schema}.{meant}")


def undefined_column(relation: str, name: str, columns: Iterable[str]) -> DatabaseError:
    """Make Postgres's own error of an unknown column, with its hint."""
    from rapidfuzz.distance import Levenshtein

    close: dict[int, list[str]] = {}
    most = min(3, len(name) // 2)
    for column in columns:
        distance = Levenshtein.distance(column, name, score_cutoff=most)
        if distance <= most:
            close.setdefault(distance, []).append(f'the column "{relation}.{column}"')
    best = close[min(close)] if close else []
    hint = None
    if 0 < len(best) <= 2:
        hint = f"Perhaps you meant to reference {' or '.join(best)}."
    return DatabaseError(400, "42703", f"column {relation}.{name} does not exist", hint=hint)
