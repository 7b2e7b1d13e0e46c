"""Brings the database of a project up to date: at a start, and when it is created anew."""

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import replace

import psycopg

from amphibase.gateway import buckets, migration_roles, migrations, project
from amphibase.gateway.build import exposed_schemas, settings_without_effect
from amphibase.gateway.config_toml import CONFIG, SUPABASE, ProjectConfig, read_config
from amphibase.gateway.data_dir import STORAGE, DataDir, RunningGateway
from amphibase.gateway.edge_functions import edge_functions
from amphibase.gateway.grants import tables_without_grants
from amphibase.gateway.service_roles import RoleUrls
from amphibase.gateway.settings import GatewaySettings, revealed
from amphibase.redaction import redacted_logger
from amphibase.replication.outbox import remove_unused
from amphibase.settings.published_secrets import CLI_JWT_SECRET

logger = redacted_logger("amphibase.gateway")


async def set_up(
    settings: GatewaySettings, config: ProjectConfig, owner_url: str, password: str
) -> RoleUrls:
    """Bring the database up to date for a start: the project, its migrations and its buckets; log
    what of the settings and of the project has no effect.

    Args:
        owner_url: of the database, as its owner.
        password: of the roles of the services.

    Returns:
        The database's URLs for the services.

    Raises:
        ConfigurationError: a migration failed; says where.
        Unavailable: the database cannot be reached.
    """
    for name in settings_without_effect():
        logger.warning("%s is not read by the local Supabase, and has no effect", name)
    own_url = revealed(settings.authenticator_url)
    exposes_new_tables = settings.auto_expose_new_tables
    roles = await project.prepare(
        owner_url,
        password,
        exposes_new_tables=exposes_new_tables,
        app_settings=_app_settings(settings.keys.secret, config),
    )
    if own_url:
        roles = replace(roles, authenticator=own_url)
    if config.unknown:
        logger.warning("%s: has no effect here: %s", CONFIG, ", ".join(config.unknown))
    if config.unset:
        logger.warning("%s: not set in the environment: %s", CONFIG, ", ".join(config.unset))
    if names := edge_functions(SUPABASE):
        logger.warning(
            "The local Supabase runs no edge functions; requests to these get 404: %s",
            ", ".join(names),
        )
    for name in await migrations.apply(owner_url, SUPABASE, config):
        logger.info("Applied %s", name)
    if closed := await tables_without_grants(owner_url, exposed_schemas()):
        logger.warning(
            "No role of the Data API has grants on %s; `amphibase supabase grants` prints those "
            "that open them",
            ", ".join(table.name for table in closed),
        )
    await buckets.create(owner_url, config.buckets)
    if settings.database_url is not None:
        await remove_unused_triggers(roles.realtime_admin)
    return roles


async def reset(
    folder: DataDir, state: RunningGateway, *, exposes_new_tables: bool | None = None
) -> list[str]:
    """Create the database of a running gateway anew, with migrations and seed; delete its files.

    A server that the gateway started also loses the roles that migrations created.

    Args:
        exposes_new_tables: as `prepare` takes it.

    Returns:
        The names of the migrations and the seed that were applied.

    Raises:
        ConfigurationError: a migration failed; says where.
        Unavailable: the database cannot be reached.
    """
    config, values = read_config(), state.values
    url = values["DB_URL"]
    await project.recreate(url)
    if state.embedded:
        await migration_roles.remove(url)
    try:
        await project.prepare(
            url,
            folder.password(),
            exposes_new_tables=exposes_new_tables,
            app_settings=_app_settings(values["JWT_SECRET"], config),
        )
        done = await migrations.apply(url, SUPABASE, config)
        await buckets.create(url, config.buckets)
    finally:
        shutil.rmtree(folder.path / STORAGE, ignore_errors=True)
        await asyncio.to_thread(folder.reopen, state)
    await buckets.upload(values["API_URL"], values["SERVICE_ROLE_KEY"], config.buckets)
    return done


def _app_settings(secret: str, config: ProjectConfig) -> Mapping[str, str]:
    """Return what the Supabase CLI lets SQL read of a project (its `internal/db/start/templates/
    schema.sql`): the secret only where it is the published one."""
    if secret != CLI_JWT_SECRET:
        return {}
    return {"jwt_secret": secret, "jwt_exp": config.values.get("GOTRUE_JWT_EXP", "3600")}


async def remove_unused_triggers(url: str) -> None:
    """Remove what Realtime has left on tables where its process was killed."""
    try:
        tables = await remove_unused(url)
    except psycopg.Error as error:
        logger.warning("Triggers that Realtime may have left cannot be looked up: %s", error)
        return
    if tables:
        logger.info(
            "Removed the triggers of Realtime on %s: a gateway that was killed had left them",
            ", ".join(tables),
        )
