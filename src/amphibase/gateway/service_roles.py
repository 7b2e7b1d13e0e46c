"""Each service of a project signs in as a role of its own, with no more rights than it needs.

Roles are the server's, and so are their passwords: gateways on one server have to agree on them.
"""

import asyncio
import hashlib
import hmac
import random
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import psycopg
from psycopg import AsyncConnection, sql

from amphibase.errors import ConfigurationError
from amphibase.settings.published_secrets import has_published_password

AUTHENTICATOR = "authenticator"
AUTH_ADMIN = "supabase_auth_admin"
STORAGE_ADMIN = "supabase_storage_admin"
REALTIME_ADMIN = "supabase_realtime_admin"
SERVICE_ROLES = (AUTHENTICATOR, AUTH_ADMIN, STORAGE_ADMIN, REALTIME_ADMIN)

CONNECT_SECONDS = 10

UNGUESSABLE_BYTES = 32
"""Of a random password, such as that of an embedded Postgres."""

LET_IN_ATTEMPTS, SIGNED_IN_ATTEMPTS, LET_IN_PAUSE = 10, 3, 0.05
"""Gateways that start at the same moment try to sign in, and may give the same password."""

_SIGNED_IN = "SELECT usename FROM pg_stat_activity WHERE usename = ANY(%s) LIMIT 1"


@dataclass(frozen=True)
class RoleUrls:
    """The URLs of a project's database for the services, each as a role of its own.

    Attributes:
        authenticator: for the Data API, which becomes the roles of callers.
        auth_admin: for Auth, which owns the tables of `auth`.
        storage_admin: for Storage, which owns those of `storage` and becomes the roles of callers.
        realtime_admin: for Realtime, which owns those of `realtime`, becomes the roles of callers
            and reads what is committed.
    """

    authenticator: str = field(repr=False)
    auth_admin: str = field(repr=False)
    storage_admin: str = field(repr=False)
    realtime_admin: str = field(repr=False)


def role_urls(url: str, password: str) -> RoleUrls:
    """Return a database's URLs for the services.

    Args:
        url: of a database that `prepare` or `copy` created, as any user.
        password: of the services' roles.
    """
    return RoleUrls(
        url_of(url, AUTHENTICATOR, password),
        url_of(url, AUTH_ADMIN, password),
        url_of(url, STORAGE_ADMIN, password),
        url_of(url, REALTIME_ADMIN, password),
    )


async def _is_let_in(url: str) -> bool:
    """Whether the role of a URL signs in with its password."""
    try:
        await (await AsyncConnection.connect(url, connect_timeout=CONNECT_SECONDS)).close()
    except psycopg.OperationalError:
        return False
    return True


async def let_in(connection: AsyncConnection, urls: RoleUrls, password: str) -> None:
    """Give the services' roles the password, all or none; those that have it keep it.

    Raises:
        ConfigurationError: a service of another gateway is signed in, whose password it would
            change, or the user may not change it.
        psycopg.Error: others change them too, again and again.
    """
    for attempt in range(1, LET_IN_ATTEMPTS + 1):
        is_open = dict(
            zip(SERVICE_ROLES, await asyncio.gather(*map(_is_let_in, astuple(urls))), strict=True)
        )
        closed = [role for role in SERVICE_ROLES if not is_open[role]]
        if not closed:
            return
        cursor = await connection.execute(_SIGNED_IN, (list(SERVICE_ROLES),))
        signed_in = await cursor.fetchone()
        try:
            if signed_in is None:
                await _change_passwords(connection, closed, password)
                return
        except psycopg.errors.InternalError_:  # another gateway has changed one at this moment
            if attempt == LET_IN_ATTEMPTS:
                raise
        if signed_in is not None and attempt == SIGNED_IN_ATTEMPTS:
            raise ConfigurationError(
                f"Another gateway is connected to this server as {signed_in[0]}, by a password "
                "that would change: stop it, or give both the same user and password in "
                "--database-url"
            )
        await connection.rollback()
        await asyncio.sleep(random.uniform(0, attempt * LET_IN_PAUSE))  # noqa: S311 - no secret


async def _change_passwords(
    connection: AsyncConnection, roles: Sequence[str], password: str
) -> None:
    """Give roles the password in one transaction. Raises ConfigurationError."""
    for role in roles:
        # Hashed here: a log of statements must not hold the password.
        hashed = connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
        try:
            await connection.execute(statement.format(sql.Identifier(role), sql.Literal(hashed)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigurationError(
                f"The user {connection.info.user} cannot change the password of the role {role} "
                f"({error.diag.message_primary}), so nothing was changed. Start once as a "
                "superuser, and name the same password in PGRST_DB_URI both times: roles keep it"
            ) from None
    await connection.commit()


def derive_password(owner_url: str, role: str) -> str | None:
    """Derive the password of a role from that of the database's owner.

    A role's password is the server's. So each gateway on a server, whatever its data folder, has to
    give a role the same one, or it locks the others out.

    Returns:
        None where the URL has no password, and what everybody could derive would protect nothing.
    """
    password = unquote(urlsplit(owner_url).password or "").encode()
    if not password:
        return None
    if len(password) < UNGUESSABLE_BYTES and not has_published_password(owner_url):
        # The derived one must not reveal the first.
        password = hashlib.scrypt(password, salt=b"amphibase", n=2**14, r=8, p=1)
    return hmac.new(password, f"password of {role}".encode(), hashlib.sha256).hexdigest()


def url_of(url: str, user: str, password: str) -> str:
    """Return the URL of the same database as another user."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    options = [each for each in parse_qsl(parts.query) if each[0] not in ("user", "password")]
    return parts._replace(
        netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{place}",
        query=urlencode(options, quote_via=quote),
    ).geturl()
