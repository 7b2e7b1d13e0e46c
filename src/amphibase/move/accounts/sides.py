"""Opens the accounts of an end of the move."""

from amphibase.move.accounts.admin_api import AdminApi
from amphibase.move.accounts.api import ApiAccounts
from amphibase.move.accounts.base import AccountSource, AccountTarget
from amphibase.move.accounts.own_table import OwnTableAccounts
from amphibase.move.accounts.postgres import PostgresAccounts
from amphibase.move.accounts.sqlite import SqliteAccounts
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Endpoint, SqlEndpoint
from amphibase.move.project import client_of


def open_accounts(endpoint: Endpoint) -> AccountTarget:
    """Open the accounts of an end: by its database, else by the admin API."""
    if isinstance(endpoint, SqlEndpoint):
        if endpoint.is_postgres:
            return PostgresAccounts(endpoint.database)
        return SqliteAccounts(endpoint.database)
    if endpoint.database is not None:
        return PostgresAccounts(endpoint.database)
    return ApiAccounts(AdminApi(client_of(endpoint)))


def open_source(context: MoveContext) -> AccountSource:
    """Open the accounts of the source, which may be a table of users of its own."""
    if context.plan.accounts is not None and context.plan.accounts.table is not None:
        return OwnTableAccounts(context)
    return open_accounts(context.source)
