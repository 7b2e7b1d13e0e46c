"""The extras of the package, as far as the command needs what they bring."""

import importlib.util

from amphibase.errors import ConfigurationError

EXTRAS = {
    "cli": ("httptools", "rich", "typer", "uvloop", "websockets"),
    "gateway": ("google_crc32c", "httpx_oauth", "pyotp", "rapidfuzz", "segno"),
    "move": ("tomlkit",),
    "supabase": ("httpx", "supabase"),
}
"""Libraries of the command by the extra that brings them."""


def extra_of(library: str | None, command: str) -> str | None:
    """Return the extra that brings a library; None where none does.

    Args:
        command: the group of commands that misses it: `move` needs all of its own extra.
    """
    for extra, libraries in EXTRAS.items():
        if library in libraries:
            return "move" if command == "move" else extra
    return None


def require(extra: str) -> None:
    """Raise ConfigurationError unless all libraries of an extra are installed.

    For a service that imports them late: it would start, and fail at somebody's request.
    """
    for library in EXTRAS[extra]:
        if importlib.util.find_spec(library) is None:
            raise ConfigurationError(message(library, extra))


def message(library: str, extra: str) -> str:
    """Return what to do about a library that is missing."""
    return f"This needs {library}: pip install 'amphibase[{extra}]'"
