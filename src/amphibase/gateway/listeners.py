"""The sockets that a gateway listens on."""

import errno
import os
import socket
from typing import NamedTuple

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_toml import setting_name
from amphibase.gateway.settings import API_PORT, DATABASE_PORT, INBOX_PORT, PORTS_TRIED


class Listeners(NamedTuple):
    """The sockets of a gateway: the API's, the inbox's, which only this machine reaches, and the
    one that says whether the Data API is ready, if that is wanted."""

    api: socket.socket
    inbox: socket.socket
    admin: socket.socket | None = None


class DefaultPort(NamedTuple):
    """A port of the Supabase CLI, and by what another one is named."""

    port: int
    setting: str
    option: str


API = DefaultPort(API_PORT, "GATEWAY_PORT", "--port")
DATABASE = DefaultPort(DATABASE_PORT, "GATEWAY_DB_PORT", "--db-port")
INBOX = DefaultPort(INBOX_PORT, "GATEWAY_INBOX_PORT", "--inbox-port")
ADMIN = DefaultPort(3001, "PGRST_ADMIN_SERVER_PORT", "PGRST_ADMIN_SERVER_PORT")

LOOPBACK = "127.0.0.1"


def listen(host: str, named: int | None, default: DefaultPort) -> socket.socket:
    """Listen on the port that is named, else on the default one or the next that is free.

    Raises:
        ConfigurationError: the host is not known, or no port is free.
    """
    first = default.port if named is None else named
    reason = "no port is free"
    for port in range(first, first + (PORTS_TRIED if named is None else 1)):
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            created = socket.create_server((host, port), family=family, backlog=2048)
            # Opened again, it knows that its protocol is TCP. Else asyncio does not set
            # TCP_NODELAY, and the body of a response waits for the client to acknowledge its head.
            return socket.socket(fileno=created.detach())
        except socket.gaierror:
            raise ConfigurationError(f"GATEWAY_HOST: there is no host {host!r}") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ConfigurationError(
                    f"GATEWAY_HOST: this machine has no address {host}"
                ) from None
            reason = os.strerror(error.errno or 0).lower()
    raise ConfigurationError(
        f"{setting_name(default.setting, str(first))}: cannot listen on {host}:{first}: {reason}; "
        f"name another ({default.option})"
    )


def port_of(listener: socket.socket) -> int:
    """Return the port that a socket listens on."""
    port: int = listener.getsockname()[1]
    return port
