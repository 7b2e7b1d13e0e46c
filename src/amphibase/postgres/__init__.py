"""A Postgres server of our own: finds one, and starts it on a folder."""

from amphibase.postgres.binaries import find_binaries
from amphibase.postgres.server import Server, start

__all__ = ["Server", "find_binaries", "start"]
