"""Opens the accounts of an end of the move."""

from amphibase.move.accounts.admin_api import AdminApi
from amphibase.move.accounts.api import ApiAccounts
from amphibase.move.accounts.base import AccountSource, AccountTarget
from amphibase.move.accounts.own_table import OwnTableAccounts
from amphibase.move.accounts.postgres import PostgresAccounts
from amphibase.move.accounts.sqlite import SqliteAccounts
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Endpoint, SqlEndpoint, SupabaseEndpoint
from amphibase.move.project import client_of


def open_accounts(endpoint: Endpoint, *, identities: bool = True) -> AccountTarget:
    """Open the accounts of an end: by its database, else by the admin API.

    Args:
        identities: whether identities of other providers belong to the accounts.
    """
    if isinstance(endpoint, SqlEndpoint) and not endpoint.is_postgres:
        return SqliteAccounts(endpoint.database, identities=identities)
    if endpoint.database is not None:
        return PostgresAccounts(endpoint.database, identities=identities)
    assert isinstance(endpoint, SupabaseEndpoint)
    return ApiAccounts(AdminApi(client_of(endpoint)), identities=identities)


def open_source(context: MoveContext) -> AccountSource:
    """Open the accounts of the source, which may be a table of users of its own."""
    plan = context.plan.accounts
    if plan is not None and plan.table is not None:
        return OwnTableAccounts(context)
    return open_accounts(context.source, identities=plan is None or plan.identities)
