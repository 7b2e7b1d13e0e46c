"""From settings to a gateway with all services."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.data_dir import STORAGE
from amphibase.gateway.inbox import Inbox
from amphibase.gateway.keys import ApiKeys, S3Credentials
from amphibase.request_body import BODY_SECONDS
from amphibase.settings.loading import load

if TYPE_CHECKING:  # each service is imported at its first request
    from amphibase.accounts.jwt.key import Key
    from amphibase.accounts.jwt.key_ring import KeyRing
    from amphibase.gateway.service import Service
    from amphibase.gateway.service_roles import RoleUrls

DATA_API = "/rest/v1"

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of a request to the Data API, whose bodies are held in memory."""

MAX_AUTH_BODY_BYTES = 1024 * 1024

MAX_BROADCAST_BODY_BYTES = 16 * 1024 * 1024


def websocket_protocol(**arguments: Any) -> asyncio.Protocol:
    """Build uvicorn's protocol of a connection that becomes a WebSocket; its library is imported
    for the first one, since many projects have none."""
    from amphibase.gateway.websocket_protocol import WebSocketProtocol

    return WebSocketProtocol(**arguments)


WEBSOCKET_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "ws": websocket_protocol,
        "ws_max_size": 5_000_000,
        "ws_per_message_deflate": False,
    }
)
"""Of uvicorn. The largest frame is that of Supabase Realtime. Compression would take twice the time
and 30 kB more of each connection (measured), on a machine where bytes cost nothing."""


@dataclass(frozen=True)
class Project:
    """A project, as far as its gateway needs to know it.

    Args:
        roles: the URLs of the database, as the roles of the services.
        url: where clients find the gateway.
        folder: for the bytes of files and the key of users' tokens.
        keys: the API keys.
        signs_with_secret: whether the shared secret signs users' tokens too.
        jwt_keys: keys of which one signs users' tokens, as `read_signing_keys` takes them; empty
            for the shared secret or the key of the folder.
        foreign_keys: keys of others, whose tokens are taken.
        body_seconds: how long a client may send nothing in the middle of a body.
        s3: the access key of Storage's S3 protocol; None leaves it out.
    """

    roles: "RoleUrls"
    url: str
    folder: Path
    keys: ApiKeys
    signs_with_secret: bool = False
    jwt_keys: str = field(default="", repr=False)
    foreign_keys: "Sequence[Key]" = field(default=(), repr=False)
    body_seconds: int = BODY_SECONDS
    s3: S3Credentials | None = None

    @cached_property
    def inbox(self) -> Inbox:
        """The emails of a project without a mail server; with its own secret they need a key."""
        return Inbox(self.keys.service_role if self.signs_with_secret else None)

    @cached_property
    def tokens(self) -> "KeyRing":
        """The keys that issue and verify the project's tokens."""
        from amphibase.accounts.jwt.key import Key
        from amphibase.accounts.jwt.key_file import (
            KEY_FILE,
            ROOT_FILE,
            read_key_file_later,
            read_root_file,
        )
        from amphibase.accounts.jwt.key_ring import KeyRing

        root = Key.from_secret(self.keys.secret)
        own = [root]
        if not self.signs_with_secret:
            key_file = self.folder / KEY_FILE
            root = read_root_file(self.folder / ROOT_FILE, key_file)
            own = [*read_key_file_later(key_file), *own]
        if not self.jwt_keys:
            return KeyRing([*own, *self.foreign_keys], published=own, root=root)
        from amphibase.accounts.jwt.signing_keys import read_signing_keys  # few have them

        # What signed before goes on verifying, and what was derived from it stays what it was.
        rotated = read_signing_keys(self.jwt_keys)
        return KeyRing([*rotated, *own, *self.foreign_keys], published=rotated, root=root)


def build(project: Project) -> Gateway:
    """Build the gateway of a project; it opens nothing until it is started or called."""
    from amphibase.gateway.rest.settings import RestSettings

    origins = load(RestSettings).server_cors_allowed_origins
    mounts = {
        DATA_API: Mount(
            lambda: _rest(project), MAX_BODY_BYTES, takes_origin=True, allowed_origins=origins
        ),
        "/auth/v1": Mount(lambda: _auth(project), MAX_AUTH_BODY_BYTES, takes_api_key=False),
        "/storage/v1": Mount(lambda: _storage(project)),
        # Many projects have no channels, and need neither its memory nor its connection.
        "/realtime/v1": Mount(
            lambda: _realtime(project), MAX_BROADCAST_BODY_BYTES, starts_early=False
        ),
        "/inbox": Mount(lambda: project.inbox),
    }
    return Gateway(mounts, project.keys, project.body_seconds)


def behind_proxies(gateway: Gateway, proxies: Sequence[str]) -> ASGIApp:
    """Return the gateway with the client's address and scheme as proxies report them.

    Args:
        proxies: the addresses and networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are
            believed; none believes nobody.
    """
    if not proxies:
        return gateway
    # Uvicorn and Starlette describe the same interface by different types.
    return cast(ASGIApp, ProxyHeadersMiddleware(cast(Any, gateway), list(proxies)))


def admin(gateway: Gateway) -> ASGIApp:
    """Return the application that says whether the gateway's Data API is ready."""
    from amphibase.gateway.rest.admin import AdminApp
    from amphibase.gateway.rest.service import RestApp

    def is_ready() -> bool:
        service = gateway.service(DATA_API)
        return isinstance(service, RestApp) and service.is_ready

    return AdminApp(is_ready)


def check() -> None:
    """Check the settings of all services.

    Raises:
        ConfigurationError: one line for each wrong value.
    """
    from amphibase.gateway.auth.settings import load_auth_settings
    from amphibase.gateway.realtime.settings import RealtimeSettings
    from amphibase.gateway.rest.settings import RestSettings
    from amphibase.gateway.storage.settings import load_storage_settings

    load(RestSettings)
    load(RealtimeSettings)
    load_auth_settings()
    load_storage_settings()


def exposed_schemas() -> tuple[str, ...]:
    """Return the schemas that the Data API exposes, as the settings name them."""
    from amphibase.gateway.rest.settings import RestSettings

    return load(RestSettings).db_schemas


def settings_without_effect() -> list[str]:
    """Return the names of settings of Supabase's services that are set, and that nothing reads."""
    from amphibase.gateway.auth.settings import AuthSettings
    from amphibase.gateway.realtime.settings import RealtimeSettings
    from amphibase.gateway.rest.settings import RestSettings
    from amphibase.gateway.settings import GatewaySettings
    from amphibase.gateway.storage.settings import StorageSettings
    from amphibase.gateway.unsupported import ignored, read_environment

    read = (AuthSettings, GatewaySettings, RealtimeSettings, RestSettings, StorageSettings)
    return [*ignored(read_environment(), *read)]


def _rest(project: Project) -> "Service":
    from amphibase.gateway.rest.service import RestApp
    from amphibase.gateway.rest.settings import RestSettings

    return RestApp(load(RestSettings), project.roles.authenticator, project.tokens)


def _auth(project: Project) -> "Service":
    from amphibase.gateway.auth.service import AuthApp
    from amphibase.gateway.auth.settings import load_auth_settings

    settings = load_auth_settings(api_external_url=project.url)
    return AuthApp(settings, project.roles.auth_admin, project.tokens, project.inbox)


def _storage(project: Project) -> "Service":
    from amphibase.gateway.storage.service import StorageApp
    from amphibase.gateway.storage.settings import load_storage_settings

    settings = load_storage_settings(project.folder / STORAGE)
    role = project.roles.storage_admin
    return StorageApp(settings, role, project.tokens, project.body_seconds, project.s3)


def _realtime(project: Project) -> "Service":
    from amphibase.gateway.realtime.service import RealtimeApp
    from amphibase.gateway.realtime.settings import RealtimeSettings

    return RealtimeApp(load(RealtimeSettings), project.roles.realtime_admin, project.tokens)
