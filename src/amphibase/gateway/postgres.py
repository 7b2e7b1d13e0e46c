"""The Postgres server that a gateway starts in its data folder, where none is named."""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_toml import setting_name
from amphibase.gateway.listeners import DATABASE
from amphibase.gateway.settings import PORTS_TRIED, GatewaySettings
from amphibase.postgres import PortTaken, Server, ServerNeeds, is_port_taken, start
from amphibase.settings.published_secrets import has_published_password

MINIMUM_MAJOR = 15

SERVER_SETTINGS: Mapping[str, str] = MappingProxyType(
    {"wal_level": "logical", "wal_writer_delay": "10ms"}
)
"""Of a server that is started for projects: Realtime reads what is committed. A commit that does
not wait for the disk (`synchronous_commit`) is in the stream after that delay, not after 200 ms."""

CLI_DATABASE_PASSWORD = "postgres"


def start_on_free_port(folder: Path, named: int | None, needs: ServerNeeds | None = None) -> Server:
    """Start Postgres on the port that is named, else on the default one or the next that is free.

    Args:
        folder: of the data, made where it is missing.
        named: 0 chooses any free port.
        needs: as `postgres.start` takes them.

    Raises:
        ConfigurationError, Unavailable: as `postgres.start` does.
    """

    def begin(port: int | None) -> Server:
        return start(
            folder,
            port=port,
            settings=SERVER_SETTINGS,
            least=MINIMUM_MAJOR,
            needs=needs,
        )

    if named is not None:
        try:
            return begin(named or None)
        except PortTaken as error:
            setting = setting_name(DATABASE.setting, str(named))
            raise ConfigurationError(
                f"{setting}: cannot listen on 127.0.0.1:{named}: address already in use; "
                f"name another ({DATABASE.option})"
            ) from error
    for port in range(DATABASE.port, DATABASE.port + PORTS_TRIED):
        if not is_port_taken(port):
            with suppress(PortTaken):  # by another program just now
                return begin(port)
    raise ConfigurationError(f"{DATABASE.setting}: no port is free from {DATABASE.port} on")


def choose_password(server: Server, settings: GatewaySettings) -> None:
    """Give the superuser the password of a project with these settings.

    Raises:
        Unavailable: the server does not respond.
    """
    from amphibase.postgres.password import use_password  # brings the driver

    password = None
    if not settings.signs_with_secret:
        # Tools and projects have the CLI's password written in. It listens on 127.0.0.1 alone.
        password = CLI_DATABASE_PASSWORD
    elif has_published_password(server.url):
        password = secrets.token_urlsafe(24)
    use_password(server, password)
