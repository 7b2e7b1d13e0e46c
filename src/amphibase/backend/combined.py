"""Records, accounts and files of one application, stored by several backends."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from amphibase.backend import (
    ATTEMPTS,
    SERVICE,
    Account,
    AccountHooks,
    Backend,
    Caller,
    Changes,
    Claims,
    Isolation,
    Item,
    Messages,
    Model,
    Presences,
    Repository,
    Result,
    RowSource,
    SignUpAttempt,
    TopicAddress,
    Transaction,
    Where,
)
from amphibase.backend.capabilities import combined_capabilities

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from supabase import AsyncClient


class MessagesPart(Protocol):
    """What carries messages and presence apart from the records."""

    async def publish(self, topic: TopicAddress, payload: Any, caller: Caller) -> None: ...

    def subscribe(
        self, topic: TopicAddress, caller: Caller
    ) -> AbstractAsyncContextManager[Messages]: ...

    def presence(
        self, topic: TopicAddress, caller: Caller
    ) -> AbstractAsyncContextManager[Presences]: ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class CombinedBackend:
    """A backend whose records, accounts and files are those of three others.

    Two of the three may be the same. The profiles are records: they and the rows that refer to
    them are stored apart from the accounts, and what an account that was deleted by other means
    leaves there is removed by `amphibase users sweep`.

    Args:
        records: has the models' rows, transactions, sessions and functions.
        accounts: who signs in.
        files: buckets and files.
        messages: carries messages and presence; by default the backend of the records does.
    """

    def __init__(
        self,
        *,
        records: Backend,
        accounts: Backend,
        files: Backend,
        messages: MessagesPart | None = None,
    ) -> None:
        self._records = records
        self._messages: MessagesPart = messages or records
        self._accounts = accounts
        self._backends = list(dict.fromkeys((records, accounts, files)))
        self.accounts = accounts.accounts
        self.files = files.files
        self._with_client = next(
            (each for each in self._backends if each.capabilities.supabase_client), records
        )
        self.capabilities = combined_capabilities(
            records.capabilities, accounts.capabilities, files.capabilities
        )
        if messages is not None:
            self.capabilities = replace(self.capabilities, messages=True)

    def repository(self, model: type[Model], caller: Caller) -> Repository[Model]:
        """Return the rows of a model as that caller may see and change them."""
        return self._records.repository(model, caller)

    def transaction(
        self, caller: Caller, *, isolation: Isolation | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction of the records."""
        return self._records.transaction(caller, isolation=isolation)

    async def in_transaction(
        self,
        caller: Caller,
        work: Callable[[Transaction], Awaitable[Result]],
        *,
        isolation: Isolation = "serializable",
        attempts: int = ATTEMPTS,
    ) -> Result:
        """Run the work in a transaction of the records, several times if need be."""
        return await self._records.in_transaction(
            caller, work, isolation=isolation, attempts=attempts
        )

    async def call(
        self, function: str, caller: Caller, *, returns: Any = Any, **arguments: Any
    ) -> Any:
        """Call a stored function of the records' database."""
        return await self._records.call(function, caller, returns=returns, **arguments)

    def session(
        self, caller: Caller, *, writes: bool = True
    ) -> "AbstractAsyncContextManager[AsyncSession]":
        """Open a SQLAlchemy session on the records' database."""
        return self._records.session(caller, writes=writes)

    def supabase(self, caller: Caller) -> "AsyncClient":
        """Return the official client for the project that holds a part of the data."""
        return self._with_client.supabase(caller)

    def changes(
        self, model: type[Model], caller: Caller, *where: Where, after: str | None = None
    ) -> AbstractAsyncContextManager[Changes[Model]]:
        """Open the stream of the changes of a model's rows, which the records' backend has."""
        return self._records.changes(model, caller, *where, after=after)

    async def publish(self, topic: TopicAddress, payload: Any, caller: Caller) -> None:
        """Send a message by way of what carries messages."""
        await self._messages.publish(topic, payload, caller)

    def subscribe(
        self, topic: TopicAddress, caller: Caller
    ) -> AbstractAsyncContextManager[Messages]:
        """Open the stream of a topic's messages."""
        return self._messages.subscribe(topic, caller)

    def presence(
        self, topic: TopicAddress, caller: Caller
    ) -> AbstractAsyncContextManager[Presences]:
        """Open the presence of a topic."""
        return self._messages.presence(topic, caller)

    async def identify(
        self, access_token: str, rows: RowSource[Item]
    ) -> tuple[Caller, Item | None]:
        """Return the caller behind a token and their row: two round trips where accounts and
        records are in two backends."""
        if self._accounts is self._records:
            return await self._records.identify(access_token, rows)
        caller = await self.accounts.authenticate(access_token)
        if caller.user_id is None:
            return caller, None
        return caller, await rows.get(caller.user_id)

    def use_hooks(self, hooks: AccountHooks) -> None:
        """Call the hooks where the accounts are, with transactions of the records."""
        self.capabilities.require("hooks")
        apart = self._accounts is not self._records
        self._accounts.use_hooks(HooksOnRecords(hooks, self._records) if apart else hooks)

    async def start(self) -> None:
        """Get every backend ready, and what carries messages."""
        for part in dict.fromkeys((*self._backends, self._messages)):
            await part.start()

    async def check(self) -> None:
        """Reach every backend. Raises Unavailable."""
        for backend in self._backends:
            await backend.check()

    async def close(self) -> None:
        """Close every backend, the others too where one fails."""
        async with AsyncExitStack() as stack:
            for part in dict.fromkeys((*self._backends, self._messages)):
                stack.push_async_callback(part.close)


class HooksOnRecords:
    """Hooks of accounts that are stored apart from the records.

    A transaction of the records is committed inside that of the account: what fails in a hook
    leaves nothing in either. Where the commit of the account alone fails, the records keep rows
    without an account, which `amphibase users sweep` removes.
    """

    def __init__(self, hooks: AccountHooks, records: Backend) -> None:
        self._hooks = hooks
        self._records = records

    @property
    def adds_claims(self) -> bool:
        return self._hooks.adds_claims

    async def before_sign_up(self, attempt: SignUpAttempt) -> None:
        await self._hooks.before_sign_up(attempt)

    async def after_sign_up(self, account: Account, transaction: Transaction) -> None:
        async with self._records.transaction(SERVICE) as own:
            await self._hooks.after_sign_up(account, own)

    async def before_token(
        self, account: Account, claims: Claims, transaction: Transaction
    ) -> Claims:
        async with self._records.transaction(SERVICE) as own:
            return await self._hooks.before_token(account, claims, own)
