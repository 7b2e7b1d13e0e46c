"""What somebody who misspelt a name may have meant."""

from collections.abc import Iterable

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import extractOne

from amphibase.gateway.rest.errors import DatabaseError

_LEAST_LIKENESS = 0.33
_MOST_COMPARED = 5000


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like the name, if one is like it at all."""
    some = sorted(candidates)[:_MOST_COMPARED]
    found = extractOne(
        name,
        some,
        scorer=Levenshtein.normalized_similarity,
        processor=str.lower,
        score_cutoff=_LEAST_LIKENESS,
    )
    return found[0] if found else None


def undefined_column(relation: str, name: str, columns: Iterable[str]) -> DatabaseError:
    """What Postgres says of a column that is not there, with the hint it gives."""
    close: dict[int, list[str]] = {}
    for column in columns:
        distance = Levenshtein.distance(column, name)
        if distance <= min(3, len(name) // 2):
            close.setdefault(distance, []).append(f'the column "{relation}.{column}"')
    best = close[min(close)] if close else []
    hint = None
    if 0 < len(best) <= 2:
        hint = f"Perhaps you meant to reference {' or '.join(best)}."
    return DatabaseError(400, "42703", f"column {relation}.{name} does not exist", hint=hint)
