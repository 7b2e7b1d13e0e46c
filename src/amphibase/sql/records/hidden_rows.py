"""Tells an empty result that a rule of access caused from one without rows, in development."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Select, literal_column, select

from amphibase.access.conditions import Always
from amphibase.backend import Where
from amphibase.errors import AmphibaseError
from amphibase.records.predicates import fold
from amphibase.records.values import Row
from amphibase.redaction import redacted_logger
from amphibase.sql.records.limit import limited
from amphibase.sql.records.query_builder import QueryBuilder

logger = redacted_logger("amphibase.access")


async def log_hidden_rows(builder: QueryBuilder, where: Sequence[Where]) -> None:
    """Log that rows match which the caller may not read, where that is why there are none.

    Args:
        builder: of the model and the caller of a read that found nothing.
        where: its filters; their values are not logged.
    """
    if not builder.logs_hidden_rows or builder.caller.role == "service_role":
        return
    if isinstance(fold(builder.info.access.read, builder.caller), Always):
        return  # no rule hides anything
    service, model = builder.as_service(), builder.info.model.__name__
    any_: Select[Any] = select(literal_column("1")).select_from(service.info.table)
    query = service.selects.query(limited(service.visible(any_, *where), 1))
    hidden: Sequence[Row] = ()
    with suppress(AmphibaseError):  # a filter may fail for the values of rows that are hidden
        async with builder.executor.nested():
            hidden = await service.rows(query)
    if hidden:
        logger.info(
            "%s: rows match, but %s may read none of them (read: %s); see "
            "`amphibase access explain %s ID --as …`",
            model,
            builder.caller.user_id or "an anonymous caller",
            builder.info.access.declared.read,
            model,
        )
