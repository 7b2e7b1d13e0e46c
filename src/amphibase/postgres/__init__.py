"""A Postgres server of our own: finds one, and starts it on a folder."""

from amphibase.postgres.binaries import find_binaries
from amphibase.postgres.server import PortTaken, Server, is_port_taken, start

__all__ = ["PortTaken", "Server", "find_binaries", "is_port_taken", "start"]
