"""A Postgres server of our own: finds one, and starts it on a folder."""

from amphibase.postgres.binaries import ServerNeeds, find_binaries
from amphibase.postgres.process import PortTaken, is_port_taken
from amphibase.postgres.server import Server, start

__all__ = ["PortTaken", "Server", "ServerNeeds", "find_binaries", "is_port_taken", "start"]
