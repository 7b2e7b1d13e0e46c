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
NAME = ("name", "full_name", "display_name")


def find_users_table(
    tables: Sequence[CatalogTable], profiles: CatalogTable | None
) -> tuple[CatalogTable, UserColumns] | None:
    """Find the table that has an address and a password for each person.

    Args:
        tables: of the source.
        profiles: of the target, whose columns the rest of the table's columns may fill.

    Returns:
        The table and its columns; None where no table looks so.
    """
    by_name = {table.name.name.lower(): table for table in tables}
    for name in TABLE_NAMES:
        table = by_name.get(name)
        columns = table and read_user_columns(table, profiles)
        if table and columns:
            return table, columns
    return None


def read_user_columns(table: CatalogTable, profiles: CatalogTable | None) -> UserColumns | None:
    """Return which columns of a table are an account's; None where a needed one is missing."""
    columns = {column.name.lower(): column.name for column in table.columns}

    def first(names: Sequence[str]) -> str | None:
        return next((columns[name] for name in names if name in columns), None)

    email, password_hash = first(EMAIL), first(PASSWORD_HASH)
    if len(table.key) != 1 or email is None or password_hash is None:
        return None
    used = {table.key[0], email, password_hash, first(IS_ACTIVE), first(CREATED_AT)}
    kept = {column.name for column in profiles.columns} if profiles else set()
    profile = {
        column.name: column.name
        for column in table.columns
        if column.name in kept and column.name not in used
    }
    name = first(NAME)
    if "name" in kept and "name" not in profile.values() and name is not None:
        profile[name] = "name"
    return UserColumns(
        id=table.key[0],
        email=email,
        password_hash=password_hash,
        is_active=first(IS_ACTIVE),
        created_at=first(CREATED_AT),
        confirmed_at=first(CONFIRMED_AT),
        profile=profile,
    )
