"""A probe of the target: an account that is made, signed in and removed again."""

import secrets
from contextlib import suppress

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.passwords import hash_password
from amphibase.errors import AmphibaseError, MoveFailed
from amphibase.models import uuid7
from amphibase.move.accounts.admin_api import AdminApi
from amphibase.move.accounts.rows import Values
from amphibase.move.endpoints import Endpoint, SqlEndpoint
from amphibase.move.project import client_of
from amphibase.settings.application import load_settings
from amphibase.sql.backend import SqlBackend


async def probe(target: Endpoint) -> str | None:
    """Sign in with an account whose hash was brought in; return why that failed, or None.

    The account is removed, whatever happens.
    """
    password = secrets.token_urlsafe(18)
    email = f"amphibase-move-{secrets.token_hex(8)}@example.com"
    try:
        if isinstance(target, SqlEndpoint):
            await _probe_sql(target, email, password)
        else:
            client = client_of(target)
            try:
                await _probe_project(AdminApi(client), email, password)
            finally:
                await client.close()
    except AmphibaseError as error:
        return str(error)
    return None


async def _probe_sql(target: SqlEndpoint, email: str, password: str) -> None:
    settings = load_settings(
        environment="development",
        backend="sql",
        records="sql",
        accounts="sql",
        files="sql",
        database_url=target.database.render_as_string(hide_password=False),
        accounts_database_url="",
        files_database_url="",
        email_confirmation="off",
        rls=False,
    )
    backend = SqlBackend(settings, KeyRing([Key.generate()]))
    id = uuid7()
    try:
        await backend.accounts.create(email, password_hash=hash_password(password), id=id)
        await backend.accounts.sign_in(email, password)
    finally:
        with suppress(AmphibaseError):
            await backend.accounts.delete(id)
        await backend.close()


async def _probe_project(api: AdminApi, email: str, password: str) -> None:
    id = str(uuid7())
    user: Values = {
        "id": id,
        "email": email,
        "email_confirmed_at": "now",
        "encrypted_password": hash_password(password),
    }
    try:
        if reason := await api.create(user):
            raise MoveFailed(reason)
        await api.sign_in(email, password)
    finally:
        with suppress(AmphibaseError):
            await api.delete(id)
