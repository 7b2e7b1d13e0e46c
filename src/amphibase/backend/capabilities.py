"""What a backend can do beside the rest of the contract."""

from dataclasses import dataclass, replace
from typing import Literal

from amphibase.errors import NotSupported

Capability = Literal[
    "instant_revocation",
    "session_list",
    "transactions",
    "sessions",
    "row_level_security",
    "stored_functions",
    "supabase_client",
    "hooks",
    "sql_expressions",
    "related_rows_in_writes",
    "long_filters",
    "snapshots",
    "bound_signed_urls",
    "file_sweep",
    "change_log",
    "messages",
]

PURPOSES: dict[Capability, str] = {
    "instant_revocation": "a ban or the end of a session holds for tokens that are out already",
    "session_list": "where a user is signed in, and the end of one of these sessions",
    "transactions": "`transaction()` and `in_transaction()`",
    "sessions": "SQLAlchemy sessions: `session()`, the dependency `Session`",
    "row_level_security": "`RLS=true`",
    "stored_functions": "`call()`",
    "supabase_client": "Supabase's own client: `supabase()`, `db.supabase()`",
    "hooks": "`before_sign_up`, `after_sign_up` and `before_token`",
    "sql_expressions": (
        "subqueries, functions, arithmetic and SQL text in filters, orders, values and computed "
        "columns"
    ),
    "related_rows_in_writes": "`has()` and `any()` in `update_where` and `delete_where`",
    "long_filters": "filters of more than 8,000 bytes, such as of a thousand keys",
    "snapshots": "`stream` yields all rows as of one point in time",
    "bound_signed_urls": "a signed URL does not open what another user stores there later",
    "file_sweep": "`amphibase files sweep`: bytes and rows are apart",
    "change_log": "`changes()`, `/changes` of generated routes",
    "messages": (
        "`publish()`, `subscribe()` and `presence()`; not through a pooler that gives out "
        "transactions"
    ),
}
"""What each capability is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do; the rest raises `NotSupported` before anything is sent.

    Args:
        backend: its name for people, such as `SQLite`.
    """

    backend: str
    instant_revocation: bool
    session_list: bool
    transactions: bool
    sessions: bool
    row_level_security: bool
    stored_functions: bool
    supabase_client: bool
    hooks: bool
    sql_expressions: bool
    related_rows_in_writes: bool
    long_filters: bool
    snapshots: bool
    bound_signed_urls: bool
    file_sweep: bool
    change_log: bool
    messages: bool

    def require(self, capability: Capability) -> None:
        """Check a capability before it is used.

        Raises:
            NotSupported: the backend does not have it; names both, and what it is for.
        """
        if not getattr(self, capability):
            name = capability.replace("_", " ")
            raise NotSupported(f"{self.backend} has no {name} ({PURPOSES[capability]})")


def combined_capabilities(
    records: Capabilities, accounts: Capabilities, files: Capabilities
) -> Capabilities:
    """Return what three backends can do as one."""
    return replace(
        records,
        instant_revocation=accounts.instant_revocation,
        session_list=accounts.session_list,
        supabase_client=any(each.supabase_client for each in (records, accounts, files)),
        hooks=accounts.hooks and records.transactions,
        bound_signed_urls=files.bound_signed_urls,
        file_sweep=files.file_sweep,
    )
