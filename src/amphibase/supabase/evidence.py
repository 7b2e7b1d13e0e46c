"""Reads from a Supabase project, over its API, what speaks for it or for a database of one's own
(docs/choosing.md)."""

import re
from typing import Any

from amphibase.backend import ANONYMOUS, SERVICE
from amphibase.schema.evidence import Evidence
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json

BUILT_IN = frozenset({"email", "anonymous_users"})
"""Ways to sign in that every backend has, or that no person signs in by."""

USER_TABLES = re.compile(r"(auth_)?(users?|accounts?)")


async def read_project(client: SupabaseClient) -> list[Evidence]:
    """Return what a project's API shows to its service; nothing is changed, and no row is read.

    Raises:
        ConfigurationError: the project does not accept a key.
        Unavailable: the project cannot be reached.
    """
    description = read_json(await client.request("rest", "GET", "/", SERVICE))
    tables: dict[str, Any] = description.get("definitions", {})
    functions = [path for path in description.get("paths", {}) if path.startswith("/rpc/")]
    settings = read_json(await client.request("auth", "GET", "/settings", ANONYMOUS))
    providers = sorted(
        name
        for name, is_on in settings.get("external", {}).items()
        if is_on and name not in BUILT_IN
    )
    users = await client.request("auth", "GET", "/admin/users", SERVICE, params={"per_page": "1"})
    buckets = read_json(await client.request("storage", "GET", "/bucket", SERVICE))
    public = sum(bool(bucket["public"]) for bucket in buckets)
    integer_keys = [name for name, table in sorted(tables.items()) if _counts_users(name, table)]
    return [
        Evidence("tables", f"{len(tables)} tables and views"),
        Evidence("procedures", f"{len(functions)} that clients may call"),
        Evidence("integer keys", ", ".join(integer_keys) or "no table of users has one"),
        Evidence(
            "sign-in by providers",
            ", ".join(providers) or "none",
            "Supabase" if providers else None,
        ),
        Evidence("accounts", f"{users.headers.get('x-total-count', 'an unknown number of')} users"),
        Evidence("files", f"{len(buckets)} buckets, {public} of them public"),
    ]


def _counts_users(name: str, table: dict[str, Any]) -> bool:
    """Return whether a table is one of users with an integer as its key."""
    return USER_TABLES.fullmatch(name) is not None and any(
        column.get("type") == "integer" and "<pk/>" in column.get("description", "")
        for column in table.get("properties", {}).values()
    )
