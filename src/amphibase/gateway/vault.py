"""The secrets of `[db.vault]` in `supabase/config.toml`, kept as the Supabase CLI keeps them."""

from collections.abc import Mapping
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_toml import CONFIG


async def store(connection: AsyncConnection, secrets: Mapping[str, str]) -> None:
    """Create the secrets that the vault has not, and change the others.

    Args:
        connection: as the owner of the project's database; what is stored is committed.
        secrets: by their names.

    Raises:
        ConfigurationError: the database has no vault, and the server cannot make one.
    """
    if not secrets:
        return
    try:
        cursor = await connection.execute("SELECT to_regclass('vault.secrets') IS NULL")
        if (await cursor.fetchall())[0][0]:
            await connection.execute("CREATE EXTENSION supabase_vault CASCADE")
        cursor = await connection.execute(
            "SELECT name, id FROM vault.secrets WHERE name = ANY(%s)", [list(secrets)]
        )
        ids: dict[str, UUID] = dict(await cursor.fetchall())
        for name, secret in secrets.items():
            if name in ids:
                await connection.execute("SELECT vault.update_secret(%s, %s)", [ids[name], secret])
            else:
                await connection.execute("SELECT vault.create_secret(%s, %s)", [secret, name])
        await connection.commit()
    except (psycopg.OperationalError, psycopg.errors.InsufficientPrivilege):
        raise  # of the connection and its owner, which have messages of their own
    except psycopg.DatabaseError as error:
        reason = error.diag.message_primary or type(error).__name__
        raise ConfigurationError(f"{CONFIG}: db.vault: cannot be stored: {reason}") from None
