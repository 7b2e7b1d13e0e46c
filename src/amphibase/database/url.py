"""Database URLs: which are accepted, and how SQLAlchemy addresses what they name."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where they are needed, since every command reads the settings
    from sqlalchemy.engine import URL

POOLER_PORT = 6543
"""Where Supabase's pooler in transaction mode listens (its docs, "Connect to your database")."""

SSL_MODES = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
"""libpq's `sslmode` for the values that asyncpg takes for `ssl`."""

SQLITE_OPTIONS = {"timeout", "cached_statements", "uri", "mode", "cache", "immutable", "vfs"}

SECRET_OPTIONS = ("password", "sslpassword")
"""What a URL may have behind its question mark, besides the password before the @."""


def parse_url(text: str) -> "URL":
    """Parse a URL of a Postgres or SQLite database.

    Args:
        text: `postgresql://`, `postgres://`, with asyncpg's or psycopg's driver name or none, or
            `sqlite://` and the path of a file.

    Returns:
        The URL with the driver that Amphibase uses.

    Raises:
        ValueError: the URL is not of a supported database; the message never repeats it.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("is not a database URL") from None
    match url.drivername:
        case "postgres" | "postgresql" | "postgresql+asyncpg" | "postgresql+psycopg":
            return _postgres_url(url.set(drivername="postgresql+psycopg"))
        case "sqlite" | "sqlite+aiosqlite":
            if url.host:
                raise ValueError("names a host; the path of a file follows three slashes")
            if url.database in (None, "", ":memory:"):
                raise ValueError("must name a file; every connection would get its own memory")
            for name in url.query.keys() - SQLITE_OPTIONS:
                raise ValueError(f"has the option {name}, which SQLite does not know")
            return url.set(drivername="sqlite+aiosqlite")
    raise ValueError(f"{url.drivername}:// is not supported; use postgresql:// or sqlite:///")


def _postgres_url(url: "URL") -> "URL":
    import psycopg  # not at the top: an application on SQLite need not wait for it

    if "ssl" in url.query:  # asyncpg's name for libpq's sslmode
        mode = str(url.query["ssl"])
        url = url.difference_update_query(["ssl"]).update_query_dict(
            {"sslmode": SSL_MODES.get(mode.lower(), mode)}
        )
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    for name in url.query.keys() - known:
        raise ValueError(f"has the option {name}, which Postgres does not know")
    try:
        psycopg.conninfo.conninfo_to_dict(to_conninfo(url))
    except psycopg.ProgrammingError:
        raise ValueError("is not a URL that Postgres takes") from None
    return url


def to_conninfo(url: "URL") -> str:
    """Write the URL of a Postgres as libpq reads it, password included."""
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return text.replace(" ", "%20")  # SQLAlchemy leaves spaces of passwords, which libpq rejects


def database_address(url: "URL") -> str:
    """Write the URL of a database without its secrets."""
    bare = url.difference_update_query(SECRET_OPTIONS)
    # Not by `URL.set`, for which None is the value that stays.
    bare = bare._replace(drivername=url.get_backend_name(), password=None)
    return bare.render_as_string(hide_password=False)
