"""Which role of the database a caller's transactions have."""

import json
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.backend import ANONYMOUS, Caller
from amphibase.database.impersonation import Impersonation, impersonate


class CallerRoles:
    """Decides which callers the database runs transactions of as another role.

    Args:
        rls: whether its policies decide who sees what. Else access is a predicate of each
            statement, and every transaction is the connection's own user's.
    """

    def __init__(self, rls: bool) -> None:
        self.rls = rls
        self._anonymous = _impersonation(ANONYMOUS)

    def impersonation(self, caller: Caller) -> Impersonation | None:
        """Return whom a caller's transaction runs as; None for the connection's own user."""
        # The service is the connection's own user, whom the tables belong to.
        if not self.rls or caller.role == "service_role":
            return None
        return self._anonymous if caller is ANONYMOUS else _impersonation(caller)

    async def impersonate(self, caller: Caller, connection: AsyncConnection) -> None:
        """Run the rest of a transaction as the caller."""
        impersonation = self.impersonation(caller)
        if impersonation is not None:
            await impersonate(connection, impersonation)


def _impersonation(caller: Caller) -> Impersonation:
    claims: dict[str, Any] = {"role": caller.role, **caller.claims}
    if caller.user_id is not None:
        claims["sub"] = str(caller.user_id)
    try:
        text = orjson.dumps(claims, default=str).decode()
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        text = json.dumps(claims, default=str)
    return Impersonation(caller.role, text)
