"""A source's own table of users, which knows nothing of Amphibase: which columns mean what."""

from collections.abc import Sequence

from amphibase.move.catalog import CatalogTable
from amphibase.move.plan import UserColumns

TABLE_NAMES = ("users", "user", "accounts", "account", "members", "people", "auth_user")
"""As frameworks and people call it; the last is Django's."""

EMAIL = ("email", "email_address", "mail", "username", "login")
PASSWORD_HASH = (
    "password_hash", "hashed_password", "encrypted_password", "password_digest", "passwd_hash",
    "pwd_hash", "passhash", "password",
)  # fmt: skip
IS_ACTIVE = ("is_active", "active", "enabled", "is_enabled")
CREATED_AT = ("created_at", "date_joined", "joined_at", "created", "created_on", "registered_at")
CONFIRMED_AT = ("email_confirmed_at", "confirmed_at", "email_verified_at", "verified_at")
IS_CONFIRMED = (
    "is_verified", "email_verified", "is_email_verified", "email_confirmed", "is_confirmed",
    "verified", "confirmed",
)  # fmt: skip
IS_ADMIN = ("is_superuser", "is_admin", "superuser", "admin")
NAME = ("name", "full_name", "display_name")


def find_users_table(tables: Sequence[CatalogTable]) -> tuple[CatalogTable, UserColumns] | None:
    """Find the table that has an address and a password for each person.

    Args:
        tables: of the source.

    Returns:
        The table and its columns; None where no table looks so.
    """
    by_name = {table.name.name.lower(): table for table in tables}
    for name in TABLE_NAMES:
        table = by_name.get(name)
        columns = table and read_user_columns(table)
        if table and columns:
            return table, columns
    return None


def read_user_columns(table: CatalogTable) -> UserColumns | None:
    """Return which columns of a table are an account's; None where a needed one is missing."""
    email, password_hash = _first(table, EMAIL), _first(table, PASSWORD_HASH)
    if len(table.key) != 1 or email is None or password_hash is None:
        return None
    return UserColumns(
        id=table.key[0],
        email=email,
        password_hash=password_hash,
        is_active=_first(table, IS_ACTIVE),
        created_at=_first(table, CREATED_AT),
        confirmed_at=_first(table, CONFIRMED_AT),
        is_confirmed=_first(table, IS_CONFIRMED),
    )


def profile_columns(
    table: CatalogTable, columns: UserColumns, profiles: CatalogTable
) -> dict[str, str]:
    """Return which columns of a table of users go into which of the target's profiles."""
    there = {column.name for column in profiles.columns}
    same = {name: name for name in (column.name for column in table.columns) if name in there}
    meant = {
        columns.id: "id",
        columns.email: "email",
        columns.is_active: "is_active",
        columns.created_at: "created_at",
        _first(table, NAME): "name",
    }
    renamed = {name: other for name, other in meant.items() if name and other in there}
    taken = {*renamed.values()}
    kept = {name: other for name, other in same.items() if other not in taken}
    return {**kept, **renamed}


def _first(table: CatalogTable, names: Sequence[str]) -> str | None:
    columns = {column.name.lower(): column.name for column in table.columns}
    return next((columns[name] for name in names if name in columns), None)
