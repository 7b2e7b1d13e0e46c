"""What only the database can do with values of changes: compare some, and write some as JSON.

Statements of one round share round trips.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import orjson

from amphibase.gateway.realtime.changes.event import Composed
from amphibase.gateway.realtime.changes.filters import ChangeFilter
from amphibase.gateway.realtime.changes.jobs import RoleStatement, run_all
from amphibase.gateway.realtime.changes.session import QuestionSession

NO_CLAIMS = "{}"

FILTER_MILLISECONDS = 250
"""Of a filter over the values of one round: all subscribers wait for it."""


class FilterQuestion(NamedTuple):
    """Whether a value passes a filter; asked once for all who ask the same."""

    role: str
    sql_type: str
    filter: ChangeFilter


async def compose(session: QuestionSession, values: Collection[tuple[str, str, str]]) -> Composed:
    """Return the JSON of arrays and composites.

    Args:
        values: of each the role, the type as SQL writes it, and the text.
    """
    ordered = [*values]
    rows = await run_all(
        session,
        [
            RoleStatement(
                role,
                NO_CLAIMS,
                f"SELECT to_jsonb(CAST($1::text AS {sql_type}))::text",
                [text],
            )
            for role, sql_type, text in ordered
        ],
    )
    return {
        (sql_type, text): found[0][0] if found else orjson.dumps(text).decode()
        for (_, sql_type, text), found in zip(ordered, rows, strict=True)
    }


async def ask_filters(
    session: QuestionSession,
    questions: Mapping[FilterQuestion, Sequence[str | None]],
) -> Mapping[FilterQuestion, Mapping[str | None, bool] | None]:
    """Return for each filter which of the values pass it; None where that takes too long."""
    statements = [
        RoleStatement(
            role,
            NO_CLAIMS,
            # The type is the catalog's; what a client sends is bound.
            f"SELECT value, {condition.compile(sql_type)} FROM unnest($1::text[]) AS v (value)",  # noqa: S608
            [[*set(values)], *condition.parameters],
        )
        for (role, sql_type, condition), values in questions.items()
    ]
    rows = await run_all(session, statements, FILTER_MILLISECONDS)
    return {
        question: None if found is None else {row[0]: row[1] for row in found}
        for question, found in zip(questions, rows, strict=True)
    }
