"""The gateway as a process: everything from the folder to the socket, served until a signal."""

import asyncio
import gc
import importlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from socket import socket
from types import FrameType
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp

from amphibase.allocator import use_one_arena
from amphibase.errors import AmphibaseError, ConfigurationError
from amphibase.gateway.config_names import NAMES
from amphibase.gateway.config_toml import CONFIG, SUPABASE, ProjectConfig, read_config
from amphibase.gateway.data_dir import POSTGRES, DataDir, RunningGateway
from amphibase.gateway.listeners import (
    ADMIN,
    API,
    DATABASE,
    INBOX,
    LOOPBACK,
    Listeners,
    listen,
    port_of,
)
from amphibase.gateway.settings import GatewaySettings, revealed
from amphibase.redaction import redacted_logger

if TYPE_CHECKING:
    from amphibase.accounts.jwt.key import Key
    from amphibase.gateway.build import Project
    from amphibase.gateway.service_roles import RoleUrls
    from amphibase.postgres import Server

logger = redacted_logger("amphibase.gateway")

GRACEFUL_SECONDS = 5
STOP_SECONDS = 45

Ready = Callable[[RunningGateway], None]


class AlreadyRunning(Exception):
    """Raised where a gateway runs on the data folder; `state` is None while it is not ready."""

    def __init__(self, state: RunningGateway | None) -> None:
        self.state = state


@contextmanager
def claim(settings: GatewaySettings) -> Iterator[tuple[DataDir, Listeners]]:
    """Take the data folder and the ports, for the block and for processes that it forks.

    Raises:
        AlreadyRunning: another gateway has the folder.
        ConfigurationError: the folder or a port cannot be used.
    """
    folder = DataDir(settings.data_dir)
    folder.create()
    lock = folder.lock()
    if lock is None:
        raise AlreadyRunning(folder.running())
    try:
        with (
            listen(settings.host, settings.port, API) as api,
            listen(LOOPBACK, settings.inbox_port, INBOX) as inbox,
            _listen_for_admin(settings) as admin,
        ):
            yield folder, Listeners(api, inbox, admin)
    finally:
        os.close(lock)


def _listen_for_admin(settings: GatewaySettings) -> AbstractContextManager[socket | None]:
    if settings.admin_port is None:
        return nullcontext()
    return listen(settings.admin_host or settings.host, settings.admin_port, ADMIN)


def serve(settings: GatewaySettings, folder: DataDir, listeners: Listeners, ready: Ready) -> None:
    """Serve on the data folder and the sockets, until a signal ends it.

    Args:
        ready: called once, with how to reach it.

    Raises:
        ConfigurationError: it cannot start; says why.
        Unavailable: the database cannot be reached.
    """
    use_one_arena()
    gc.disable()  # what is made from now on stays; `freeze` enables it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_on_signal)
    folder.write_process()
    with ExitStack() as stack:
        server = None
        if settings.database_url is None:
            server = stack.enter_context(_start_postgres(settings, folder))
        else:
            _check_services(settings)
        from amphibase.server import loop_factory

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            owner_url = server.url if server else revealed(settings.database_url)
            password = _password_of_roles(settings, folder, owner_url)
            from amphibase.gateway.project import needs_revisions
            from amphibase.gateway.setup import set_up

            if runner.run(needs_revisions(owner_url)):
                from amphibase.gateway.upgrade import upgrade

                upgrade(owner_url, password)
            config = read_config()
            roles = runner.run(set_up(settings, config, owner_url, password))
            if server:
                server.wait_until_durable()
            _warn_of_other_ports(settings, listeners, server)
            runner.run(_serve(settings, config, folder, listeners, owner_url, roles, ready))


def _warn_of_other_ports(
    settings: GatewaySettings, listeners: Listeners, server: "Server | None"
) -> None:
    """Log each port of the Supabase CLI that is taken, and the next one that is used for it."""
    used = [
        ("the API", API, settings.port, port_of(listeners.api)),
        ("the inbox", INBOX, settings.inbox_port, port_of(listeners.inbox)),
    ]
    if server and server.started:  # one that was left over keeps its port
        used.append(("Postgres", DATABASE, settings.db_port, server.port))
    for service, default, named, port in used:
        if named is None and port != default.port:
            key = next(key for key, variable in NAMES.items() if variable == default.setting)
            logger.warning(
                "Port %d is taken, and %s listens on %d; %s or %s in %s names another",
                default.port,
                service,
                port,
                default.option,
                key,
                CONFIG,
            )


def _password_of_roles(settings: GatewaySettings, folder: DataDir, owner_url: str) -> str:
    """Return what the roles of the services sign in with."""
    from amphibase.gateway.service_roles import AUTHENTICATOR, derive_password

    own = unquote(urlsplit(revealed(settings.authenticator_url)).password or "")
    return folder.password(own or derive_password(owner_url, AUTHENTICATOR))


async def _serve(
    settings: GatewaySettings,
    config: ProjectConfig,
    folder: DataDir,
    listeners: Listeners,
    owner_url: str,
    roles: "RoleUrls",
    ready: Ready,
) -> None:
    from amphibase.background import Background
    from amphibase.gateway import buckets
    from amphibase.gateway.build import WEBSOCKET_OPTIONS, admin, behind_proxies, build
    from amphibase.gateway.http_protocol import HttpProtocol
    from amphibase.server import freeze, local_url, server

    url = settings.external_url or local_url(settings.host, port_of(listeners.api))
    project = _project(settings, folder, roles, url)
    gateway = build(project)
    inbox_url = local_url(LOOPBACK, port_of(listeners.inbox))
    values = _status(settings, url, owner_url, inbox_url)
    state = RunningGateway(os.getpid(), settings.database_url is None, values)

    work = Background()
    loop = asyncio.get_running_loop()

    def listening() -> None:
        if any(bucket.objects for bucket in config.buckets):
            work.run("The files of the buckets", fill_buckets())
        else:
            ready(state)
        # The first request need not wait for what is imported and read only once.
        work.run("The start of the services", warm_up())

    async def fill_buckets() -> None:
        try:
            await buckets.upload(url, settings.keys.service_role, config.buckets, gateway)
        except AmphibaseError as error:
            logger.error("%s", error.detail)
        finally:
            ready(state)

    async def warm_up() -> None:
        try:
            await gateway.start()
        except AmphibaseError as error:
            logger.error("%s", error.detail)
        finally:
            freeze()

    loop.add_signal_handler(
        signal.SIGUSR1,
        lambda: work.run("The closing of the services", gateway.close(folder.has_reopened)),
    )

    beside: list[tuple[ASGIApp, socket]] = [(project.inbox, listeners.inbox)]
    if listeners.admin is not None:
        beside.append((admin(gateway), listeners.admin))
    async with _serving_beside(beside):
        with folder.state(state):
            await server(
                behind_proxies(gateway, settings.trusted_proxies),
                ready=listening,
                freezes=False,  # when its services have started
                graceful_seconds=GRACEFUL_SECONDS,
                http=HttpProtocol,
                proxy_headers=False,
                lifespan="on",
                **WEBSOCKET_OPTIONS,
            ).serve(sockets=[listeners.api])


def _project(settings: GatewaySettings, folder: DataDir, roles: "RoleUrls", url: str) -> "Project":
    """Return what is served at the URL. Raises ConfigurationError for a key that is wrong."""
    from amphibase.gateway.build import Project

    return Project(
        roles=roles,
        url=url,
        folder=folder.path,
        keys=settings.keys,
        signs_with_secret=settings.signs_with_secret,
        jwt_keys=revealed(settings.jwt_keys),
        foreign_keys=_foreign_keys(settings.keys_of_others),
        body_seconds=settings.body_timeout,
        s3=settings.s3,
    )


def _foreign_keys(jwks: str) -> "list[Key]":
    if not jwks:  # most projects: what reads keys takes a while to import
        return []
    from amphibase.accounts.jwt.key_file import read_jwks

    return read_jwks(jwks)


@asynccontextmanager
async def _serving_beside(apps: Sequence[tuple[ASGIApp, socket]]) -> AsyncIterator[None]:
    """Serve applications on sockets of their own for the block."""
    from amphibase.gateway.build import WEBSOCKET_OPTIONS
    from amphibase.server import server

    servers = [
        server(
            app,
            freezes=False,
            graceful_seconds=GRACEFUL_SECONDS,
            handles_signals=False,
            lifespan="off",
            **WEBSOCKET_OPTIONS,
        )
        for app, _ in apps
    ]
    async with asyncio.TaskGroup() as tasks:
        for each, (_, listener) in zip(servers, apps, strict=True):
            tasks.create_task(each.serve(sockets=[listener]))
        yield
        for each in servers:
            each.should_exit = True


def stop(folder: DataDir) -> bool:
    """End the gateway that runs or starts on the folder, and wait until it has.

    Returns:
        False where there is none.

    Raises:
        ConfigurationError: it does not end.
    """
    process = folder.process()
    if process is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
    if not folder.wait_until_free(STOP_SECONDS):
        raise ConfigurationError(
            f"The gateway (process {process}) did not end within {STOP_SECONDS} seconds"
        )
    return True


def _status(settings: GatewaySettings, url: str, owner_url: str, inbox_url: str) -> dict[str, str]:
    """Return what `status` prints, by the names of the Supabase CLI."""
    keys = settings.keys
    values = {
        "API_URL": url,
        "REST_URL": f"{url}/rest/v1",
        "DB_URL": owner_url,
        "INBOX_URL": f"{url}/inbox",
        "MAILPIT_URL": inbox_url,
        "INBUCKET_URL": inbox_url,
        "PUBLISHABLE_KEY": keys.publishable,
        "SECRET_KEY": keys.secret_key,
        "JWT_SECRET": keys.secret,
        "ANON_KEY": keys.anon,
        "SERVICE_ROLE_KEY": keys.service_role,
    }
    s3 = settings.s3
    if s3 is not None:
        values |= {
            "STORAGE_S3_URL": f"{url}/storage/v1/s3",
            "S3_PROTOCOL_ACCESS_KEY_ID": s3.access_key_id,
            "S3_PROTOCOL_ACCESS_KEY_SECRET": s3.secret,
            "S3_PROTOCOL_REGION": "local",
        }
    return {name: value for name, value in values.items() if value is not None}


def _check_services(settings: GatewaySettings) -> None:
    from amphibase.gateway.build import check

    check()
    _foreign_keys(settings.keys_of_others)


def _start_postgres(settings: GatewaySettings, folder: DataDir) -> "Server":
    """Start Postgres, and meanwhile check the settings of the services and import what is needed
    next."""
    from amphibase.gateway.postgres import choose_password, start_on_free_port

    place = folder.path / POSTGRES
    needs = None
    if not place.exists():
        from amphibase.gateway.migrations import server_needs

        needs = server_needs(SUPABASE, read_config())
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(start_on_free_port, place, settings.db_port, needs)
        try:
            _check_services(settings)
            for module in ("amphibase.gateway.setup", "amphibase.server"):
                importlib.import_module(module)
        except BaseException:
            with suppress(AmphibaseError):
                starting.result().stop()
            raise
        server = starting.result()
    choose_password(server, settings)
    return server


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    # uvicorn ends first, and sends itself the signal again when it has.
    raise SystemExit(0)
