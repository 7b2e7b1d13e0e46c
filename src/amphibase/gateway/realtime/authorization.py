"""Who may read and write a private channel: the policies of `realtime.messages`.

As in Supabase Realtime, a message that is undone is the question: whoever may see it may read the
channel, and whoever may insert it may write (https://supabase.com/docs/guides/realtime/authorization).
"""

import json
from collections.abc import Collection
from typing import Any

import psycopg
from sqlalchemy import text

from amphibase.database.impersonation import Impersonation, RoleNotAllowed
from amphibase.database.pipeline_connection import PipelineTransaction
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.errors import AmphibaseError, Forbidden, Unavailable
from amphibase.gateway.realtime.tokens import ChannelCaller
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.realtime")

BROADCAST, PRESENCE = "broadcast", "presence"

STATEMENT_MILLISECONDS = 5000

_INSERT = text("""
INSERT INTO realtime.messages (topic, extension, event, payload, private)
VALUES (:topic, :extension, '', '{}', true)
""")
_INSERT_KNOWN = text("""
INSERT INTO realtime.messages (topic, extension, event, payload, private)
VALUES (:topic, :extension, '', '{}', true) RETURNING id
""")
_VISIBLE = text("SELECT extension FROM realtime.messages WHERE id = ANY(:ids)")


class Authorization:
    """Asks the policies of a project.

    Args:
        database: as the owner of `realtime.messages`, who may become the roles of callers.
    """

    def __init__(self, database: PipelineDatabase) -> None:
        self._database = database

    async def readable(self, caller: ChannelCaller, topic: str) -> Collection[str]:
        """Return the extensions of a topic that the caller may read: broadcast, presence.

        A policy that raises an error admits nobody.

        Raises:
            Unavailable: the database cannot be reached.
        """
        try:
            async with self._database.write() as connection, connection.undone():
                values = [{"topic": topic, "extension": each} for each in (BROADCAST, PRESENCE)]
                added = await connection.fetch(*((_INSERT_KNOWN, each) for each in values))
                ids = [each.scalar_one() for each in added]
                await _become(connection, caller, topic)
                return {*await connection.scalars(_VISIBLE, {"ids": ids})}
        except RoleNotAllowed:
            return ()
        except Unavailable:
            raise
        except (AmphibaseError, psycopg.Error) as error:
            _log(error, topic)
            return ()

    async def may_write(self, caller: ChannelCaller, topic: str, extension: str) -> bool:
        """Return whether the caller may send messages of an extension to a topic.

        Raises:
            Unavailable: the database cannot be reached.
        """
        try:
            async with self._database.write() as connection, connection.undone():
                await _become(connection, caller, topic)
                await connection.execute(_INSERT, {"topic": topic, "extension": extension})
                return True
        except (Forbidden, RoleNotAllowed):
            return False
        except Unavailable:
            raise
        except (AmphibaseError, psycopg.Error) as error:
            _log(error, topic)
            return False


async def _become(connection: PipelineTransaction, caller: ChannelCaller, topic: str) -> None:
    claims: dict[str, Any] = json.loads(caller.claims)
    settings = {
        "realtime.topic": topic,
        "request.jwt.claim.sub": str(claims.get("sub") or ""),
        "request.jwt.claim.role": caller.role,
        "request.headers": "{}",
        "statement_timeout": str(STATEMENT_MILLISECONDS),
    }
    await connection.impersonate(Impersonation(caller.role, caller.claims, settings))


def _log(error: Exception, topic: str) -> None:
    logger.warning("The policies of realtime.messages cannot be asked for %r: %s", topic, error)
