"""The Supabase backend as a whole: accounts, records and files of one project, over its API."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.backend import (
    ANONYMOUS,
    ATTEMPTS,
    SERVICE,
    AccountHooks,
    Caller,
    Capabilities,
    Isolation,
    Item,
    Model,
    Result,
    RowSource,
    TopicAddress,
    Transaction,
    Where,
)
from amphibase.background import Background
from amphibase.database.engine import PoolOptions
from amphibase.database.functions import result_of
from amphibase.errors import InvalidValue, Unavailable
from amphibase.messages.hub import MessageHub, Subscription
from amphibase.messages.presence_stream import PresenceStream
from amphibase.models import Base
from amphibase.records.change_log import LogTrimmer
from amphibase.records.change_stream import ChangeStream, open_changes, require_log
from amphibase.records.cursors import Cursors
from amphibase.records.log_reader import LogReader
from amphibase.records.model_infos import ModelInfos
from amphibase.schema.change_log import logged_tables
from amphibase.settings.application import PARTS, Settings, Verify
from amphibase.supabase.accounts import SupabaseAccounts
from amphibase.supabase.auth_database import AuthDatabase
from amphibase.supabase.auth_settings import check_auth_settings
from amphibase.supabase.change_log import ProjectLog, ProjectLoggedRows
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.files import SupabaseFiles
from amphibase.supabase.messages import ProjectMessages
from amphibase.supabase.presence import ProjectPresences
from amphibase.supabase.project import SupabaseProject
from amphibase.supabase.records.max_rows import MaxRows
from amphibase.supabase.records.repository import SupabaseRepository
from amphibase.supabase.records.request_builder import Records, RequestBuilder
from amphibase.supabase.storage_api import StorageApi
from amphibase.supabase.token_check import (
    DatabaseTokenCheck,
    LocalTokenCheck,
    ProjectTokenCheck,
    RemoteTokenCheck,
)

if TYPE_CHECKING:
    from supabase import AsyncClient


def supabase_capabilities(
    *, verify: Verify | None = None, has_database: bool = False
) -> Capabilities:
    """Return what a backend on a Supabase project can do.

    Args:
        verify: whether the project is asked about each token (`VERIFY`); by default where its
            database can be asked.
        has_database: whether `SUPABASE_DB_URL` names the project's database.
    """
    return Capabilities(
        backend="Supabase",
        instant_revocation=verify == "remote" or (has_database and verify is None),
        session_list=has_database,
        transactions=False,
        sessions=False,
        row_level_security=True,
        stored_functions=True,
        supabase_client=True,
        hooks=False,
        sql_expressions=False,
        related_rows_in_writes=False,
        long_filters=False,
        snapshots=False,
        bound_signed_urls=False,
        file_sweep=False,
        change_log=True,
        messages=True,
    )


DATABASE_POOL = PoolOptions(size=4, pipelined=2)
"""For Auth's tables, beside the pool of the records."""


class SupabaseBackend:
    """Accounts, records and files of a Supabase project.

    Args:
        keys: sign the cursors of lists; the project's own keys sign tokens.
        client: another client, in tests.

    Raises:
        ConfigurationError: a setting of the project is missing or wrong.
    """

    def __init__(
        self, settings: Settings, keys: KeyRing, client: SupabaseClient | None = None
    ) -> None:
        self._settings = settings
        self.client = client or SupabaseClient(SupabaseProject.of(settings))
        cursors = Cursors(keys.derive("cursor"))
        self._records = Records(
            self.client,
            ModelInfos("postgresql"),
            cursors,
            MaxRows(),
            settings.max_page_bytes,
        )
        log = ProjectLog(self.client, settings.max_page_bytes)
        self._changes = LogReader(log, cursors)
        self._trimmer = LogTrimmer(log, settings.change_log_hours)
        self._messages = MessageHub(
            ProjectMessages(self.client, f"amphibase:{keys.derive('messages').hex()}"),
            ProjectPresences(self.client),
            self,
            settings.max_queued_messages,
        )
        url = settings.supabase_database
        pool = replace(DATABASE_POOL, by_transaction=settings.pool_options.by_transaction)
        self._database = AuthDatabase(url, pool) if url else None
        self._token_check = _build_token_check(self.client, self._database, settings.verify)
        self.background = Background()
        self.capabilities = supabase_capabilities(
            verify=settings.verify, has_database=self._database is not None
        )
        self.accounts = SupabaseAccounts(
            self.client,
            self._token_check,
            cursors,
            self.background,
            self.capabilities,
            settings,
            self._database,
        )
        self.files = SupabaseFiles(StorageApi(self.client), cursors, self.capabilities)

    def repository(self, model: type[Model], caller: Caller) -> SupabaseRepository[Model]:
        """Return the rows of a model as that caller may see and change them."""
        info = self._records.infos.of(model, caller)
        return SupabaseRepository(info, RequestBuilder(info, caller, self._records))

    def transaction(
        self, caller: Caller, *, isolation: Isolation | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """Raise NotSupported: each request to a project is a transaction of its own."""
        self.capabilities.require("transactions")
        raise AssertionError("a capability that is not declared")

    async def in_transaction(
        self,
        caller: Caller,
        work: Callable[[Transaction], Awaitable[Result]],
        *,
        isolation: Isolation = "serializable",
        attempts: int = ATTEMPTS,
    ) -> Result:
        """Raise NotSupported, as `transaction`."""
        async with self.transaction(caller, isolation=isolation) as transaction:
            return await work(transaction)

    async def call(
        self, function: str, caller: Caller, *, returns: Any = Any, **arguments: Any
    ) -> Any:
        """Call a stored function of the database (RPC), and commit."""
        try:
            body = TypeAdapter(dict[str, Any]).dump_python(arguments, mode="json")
        except ValueError as error:
            raise InvalidValue(
                f"{function}(): an argument is not of its parameter's type"
            ) from error
        path = f"/rpc/{quote(function, safe='')}"
        response = await self.client.request("rest", "POST", path, caller, json=body)
        try:
            return result_of(function, response.content or b"null", returns)
        except JSONDecodeError:
            raise Unavailable("The Supabase project sent a response that is not JSON") from None

    def session(
        self, caller: Caller, *, writes: bool = True
    ) -> AbstractAsyncContextManager[AsyncSession]:
        """Raise NotSupported: a project is reached over its API."""
        self.capabilities.require("sessions")
        raise AssertionError("a capability that is not declared")

    def supabase(self, caller: Caller) -> "AsyncClient":
        """Return the official client, for calls of one's own as that caller."""
        return self.client.official(caller)

    @asynccontextmanager
    async def changes(
        self, model: type[Model], caller: Caller, *where: Where, after: str | None = None
    ) -> AsyncIterator[ChangeStream[Model]]:
        """Open the stream of the changes of a model's rows, of everything that commits from now on.

        The log is in the project, as `amphibase supabase sql` writes it, and is read every half
        second while somebody follows it.
        """
        require_log(model)
        info = self._records.infos.of(model, caller)
        rows = ProjectLoggedRows(info, RequestBuilder(info, caller, self._records), where)
        async with open_changes(rows, self._changes, after) as changes:
            yield changes

    async def publish(self, topic: TopicAddress, payload: Any, caller: Caller) -> None:
        """Send a message to everyone who is subscribed to a topic now, in every process."""
        await self._messages.publish(topic, payload, caller)

    def subscribe(
        self, topic: TopicAddress, caller: Caller
    ) -> AbstractAsyncContextManager[Subscription]:
        """Open the stream of what is published on a topic from now on."""
        return self._messages.subscribe(topic, caller)

    def presence(
        self, topic: TopicAddress, caller: Caller
    ) -> AbstractAsyncContextManager[PresenceStream]:
        """Open the presence of a topic: who is there now, and who comes and goes."""
        return self._messages.presence(topic, caller)

    async def identify(
        self, access_token: str, rows: RowSource[Item]
    ) -> tuple[Caller, Item | None]:
        """Return the caller behind a token and their row: one request, with `VERIFY=local`."""
        caller = await self.accounts.authenticate(access_token)
        return caller, await rows.get(caller.user_id)

    def use_hooks(self, hooks: AccountHooks) -> None:
        """Raise NotSupported: clients may sign up with the project, past the application."""
        self.capabilities.require("hooks")

    async def start(self) -> None:
        """Reach the project and fetch what every request needs.

        Raises:
            ConfigurationError: a setting protects something that the project leaves open.
            Unavailable: the project cannot be reached.
        """
        await self._token_check.start()
        await check_auth_settings(self.client, self._settings)
        if self._settings.database_of("records") is None and logged_tables(Base.metadata):
            self._trimmer.start()

    async def check(self) -> None:
        """Reach the services that keep a part of the data. Raises Unavailable."""
        kept = {part for part in PARTS if self._settings.backend_of(part) == "supabase"}
        if "accounts" in kept:
            await self.client.request("auth", "GET", "/health", ANONYMOUS)
        if "records" in kept and self._settings.database_of("records") is None:
            # As the service: hosted projects show the root of the Data API to nobody else.
            await self.client.request("rest", "HEAD", "/", SERVICE)
        if "files" in kept:
            await self.client.request("storage", "GET", "/status", ANONYMOUS)

    async def close(self) -> None:
        """Finish the work that goes on after responses, then close the connections, the others too
        where one fails."""
        async with AsyncExitStack() as stack:  # ends with what it was given first
            if self._database is not None:
                stack.push_async_callback(self._database.close)
            stack.push_async_callback(self.client.close)
            stack.push_async_callback(self.background.close)
            stack.push_async_callback(self._trimmer.close)
            stack.push_async_callback(self._changes.close)
            stack.push_async_callback(self._messages.close)


def _build_token_check(
    client: SupabaseClient, database: AuthDatabase | None, verify: Verify | None
) -> ProjectTokenCheck:
    if database is not None and verify != "local":
        return DatabaseTokenCheck(client, database)
    return RemoteTokenCheck(client) if verify == "remote" else LocalTokenCheck(client)
