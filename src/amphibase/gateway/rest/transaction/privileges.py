"""The hint of a request that a missing GRANT stopped, in the words of the platform's Postgres.

There the module supautils adds it (https://github.com/supabase/supautils, `permission_hints.c`).
"""

import re
from collections.abc import Iterator
from contextlib import suppress

import psycopg

from amphibase.database.pool import PipelinePool
from amphibase.database.statement import Call, Statement
from amphibase.gateway.rest.plan.types import Action, ActionPlan, Embed, ReadPlan
from amphibase.gateway.rest.schema.catalog import Name, Relationship
from amphibase.gateway.rest.sql.fragments import quoted

HINTED_ROLES = frozenset({"anon", "authenticated", "service_role"})

_DENIED = re.compile(r"permission denied for (?:table|view|materialized view|foreign table) (.+)")

_WRITES: dict[Action, tuple[str, ...]] = {
    "insert": ("INSERT",),
    "update": ("UPDATE",),
    "put": ("INSERT", "UPDATE"),
    "delete": ("DELETE",),
}
_ORDER = ("SELECT", "INSERT", "UPDATE", "DELETE")

_MISSING = Statement(
    "SELECT string_agg(privilege, ', ' ORDER BY place)"
    " FROM unnest($1::text[]) WITH ORDINALITY AS needed (privilege, place)"
    " WHERE NOT has_table_privilege($2::text, ("
    "SELECT pg_class.oid FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
    " WHERE nspname = $3 AND relname = $4), privilege)"
)


async def permission_hint(
    pool: PipelinePool, plan: ActionPlan, role: str, message: str
) -> str | None:
    """Return the GRANT that a role lacks for a plan.

    Args:
        message: what Postgres says is denied.

    Returns:
        None where the message is of something else than a table of the plan.
    """
    denied = _DENIED.fullmatch(message)
    if denied is None or role not in HINTED_ROLES:
        return None
    for table, privileges in _needed(plan):
        if table.name != denied[1]:
            continue
        needed = [each for each in _ORDER if each in privileges]
        with suppress(psycopg.Error):  # a response without a hint is a response
            call = Call(_MISSING, (needed, role, *table))
            [[row]] = await pool.run_raw(call, again=True)
            if missing := row[0]:
                return (
                    "Grant the required privileges to the current role with: "
                    f"GRANT {missing.decode()} ON {_readable(table)} TO {role};"
                )
    return None


def _needed(plan: ActionPlan) -> Iterator[tuple[Name, set[str]]]:
    """Yield the tables that a plan names, and the privileges that it takes of them."""
    if plan.mutate is not None:
        privileges = set(_WRITES[plan.key.action])
        if plan.key.resolution == "merge":
            privileges.add("UPDATE")
        if plan.mutate.returned != () or plan.mutate.conditions or plan.mutate.conflict:
            privileges.add("SELECT")
        yield plan.mutate.table.name, privileges
    yield from ((table, {"SELECT"}) for table in _read(plan.read))


def _read(plan: ReadPlan) -> Iterator[Name]:
    if plan.source is not None:
        yield plan.source
    for embed in plan.embeds:
        yield from _joined(embed)


def _joined(embed: Embed) -> Iterator[Name]:
    relationship = embed.relationship
    if isinstance(relationship, Relationship) and relationship.junction is not None:
        yield relationship.junction.table
    yield from _read(embed.node)


def _readable(name: Name) -> str:
    """Write a name as Postgres does: in quotation marks where it needs them."""
    return ".".join(
        part if re.fullmatch(r"[a-z_][a-z0-9_$]*", part) else quoted(part) for part in name
    )
