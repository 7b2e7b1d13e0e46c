"""The subscriptions of one channel: what its client wants, as far as it can have it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.gateway.realtime.changes.binding import Binding
from amphibase.gateway.realtime.changes.check import TableNotPublished, check_binding
from amphibase.gateway.realtime.changes.filters import InvalidBinding


class Subscriptions(NamedTuple):
    """Bindings, and why others are not there.

    Attributes:
        bindings: those that fit, and those of a table that is not published: its changes come as
            soon as it is.
        errors, notices: for the client; a notice says why nothing is to be delivered so far.
    """

    bindings: Sequence[Binding]
    errors: Sequence[str]
    notices: Sequence[str]

    @classmethod
    async def read(
        cls, database: PipelineDatabase, role: str, contents: Sequence[Mapping[str, Any]]
    ) -> Self:
        """Read what a client wants, and check it against the database."""
        bindings, errors, notices = [], [], []
        seen: set[Binding] = set()
        for content in contents:
            try:
                binding = Binding.read(content)
                if binding in seen:
                    continue
                seen.add(binding)
                try:
                    checked = await check_binding(database, role, binding)
                    bindings.append(checked.binding)
                    if checked.notice is not None:
                        notices.append(checked.notice)
                except TableNotPublished as error:
                    bindings.append(binding)
                    errors.append(str(error))
            except InvalidBinding as error:
                errors.append(str(error))
        return cls(bindings, errors, notices)
