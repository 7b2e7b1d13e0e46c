"""Full text search on SQLite: functions that compare words, as Postgres does with `simple`.

A word is made of letters and digits, and capitals are no difference. Queries are read as by
Postgres's `websearch_to_tsquery`.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from amphibase.search import MATCHES_FUNCTION, RANK_FUNCTION

Words = Sequence[str]

_WORD = re.compile(r"[^\W_]+")
_PART = re.compile(r'(?P<minus>-)|"(?P<phrase>[^"]*)"?|(?P<word>[^\s"!&|()-][^\s"!&|()]*)')
_OR = "or"


class Phrase(NamedTuple):
    """Words that follow one another, or must not be there so."""

    words: Words
    negated: bool


Alternatives = Sequence[Sequence[Phrase]]
"""A query: one of these, of which each phrase has to hold."""


def add_search(connection: Any) -> None:
    """Give a connection of SQLAlchemy's adapted driver the functions of `amphibase.search`."""
    connection.create_function(MATCHES_FUNCTION, -1, matches_query, deterministic=True)
    connection.create_function(RANK_FUNCTION, -1, rank_of, deterministic=True)


def matches_query(query: str | None, *texts: str | None) -> bool | None:
    """Return whether texts, read as one, match a query; None where a single text is."""
    if query is None or texts == (None,):
        return None
    words = _words_of(texts)
    return any(
        all(_contains(words, phrase.words) != phrase.negated for phrase in phrases)
        for phrases in parse_query(query)
    )


def rank_of(query: str | None, *texts: str | None) -> float:
    """Return how many times phrases of a query occur in texts."""
    words = _words_of(texts)
    wanted = {tuple(phrase.words) for phrase in _wanted(parse_query(query or ""))}
    return float(sum(_count(words, phrase) for phrase in wanted))


@lru_cache(maxsize=256)
def parse_query(query: str) -> Alternatives:
    """Read a query; one without words has no alternatives."""
    alternatives: list[list[Phrase]] = [[]]
    after_operand = negated = False
    for part in _PART.finditer(query):
        text = part["phrase"] or part["word"] or ""
        if part["minus"]:
            after_operand, negated = False, not negated
        elif after_operand and text.lower() == _OR and query[part.end() :].strip():
            alternatives.append([])
            after_operand = False
        else:
            words = _words(text)
            if words:
                alternatives[-1].append(Phrase(words, negated))
            after_operand, negated = True, False
    return [phrases for phrases in alternatives if phrases]


def _wanted(alternatives: Alternatives) -> Iterator[Phrase]:
    return (phrase for phrases in alternatives for phrase in phrases if not phrase.negated)


def _words(text: str) -> Words:
    return tuple(_WORD.findall(text.lower()))


def _words_of(texts: Sequence[str | None]) -> Words:
    return _words(" ".join(text for text in texts if text))


def _contains(words: Words, phrase: Words) -> bool:
    return phrase[0] in words if len(phrase) == 1 else _count(words, phrase) > 0


def _count(words: Words, phrase: Words) -> int:
    length = len(phrase)
    return sum(words[place : place + length] == phrase for place in range(len(words) - length + 1))
