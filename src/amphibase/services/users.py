"""Users: profiles, synchronised with their accounts, whatever backends store the two."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement

from amphibase.backend import (
    FOREVER,
    NO_CLAIMS,
    SERVICE,
    Account,
    Backend,
    Page,
    Repository,
    Transaction,
)
from amphibase.errors import AmphibaseError, Conflict, ForeignKeyViolation, NotFound
from amphibase.models import User, utc_now
from amphibase.records.fields import fields_of
from amphibase.records.profile import from_metadata

MAX_KNOWN = 10_000
"""How many users a process remembers to have a profile."""

Profile = TypeVar("Profile", bound=User)


ACCOUNTS_AT_ONCE = 1000
FILES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Orphan:
    """A profile without an account.

    Args:
        deleted: whether it was deleted, with its files; else they are still there.
        files: how many files the account owned.
    """

    id: UUID
    deleted: bool
    files: int


class UserService(Generic[Profile]):
    """Makes, changes and deletes users: accounts with their profiles.

    Args:
        model: the profile's class, `User` or a subclass of it.
    """

    def __init__(self, backend: Backend, model: type[Profile]) -> None:
        self._backend = backend
        self._accounts = backend.accounts
        self._model = model
        self._profiles: Repository[Profile] = backend.repository(model, SERVICE)
        self._known: dict[UUID, None] = {}

    async def of(self, account: Account) -> Profile:
        """Return the profile of an account, synchronised with it; create a missing one.

        Safe to call at any time and any number of times.
        """
        try:
            return await self._in_step(self._profiles, account)
        except Conflict:
            await self._free(self._profiles, account.email)
            return await self._in_step(self._profiles, account)

    async def create_profile(self, account: Account, transaction: Transaction) -> Profile:
        """Create the profile of a new account in a transaction; see `of`."""
        profiles = transaction.repository(self._model)
        try:
            async with transaction.nested():
                return await self._in_step(profiles, account)
        except Conflict:
            await self._free(profiles, account.email, transaction.nested)
            return await self._in_step(profiles, account)

    async def of_new(self, account: Account) -> Profile:
        """Return the profile of a new account; where that fails, delete the account."""
        try:
            return await self.of(account)
        except AmphibaseError:
            with contextlib.suppress(AmphibaseError):
                await self.delete(account.id)
            raise

    async def get(self, id: UUID) -> Profile:
        """Return the profile with that id; create it for an account without. Raises NotFound."""
        profile = await self._profiles.get(id)
        if profile is not None:
            return profile
        return await self.refreshed(id)

    async def refreshed(self, id: UUID) -> Profile:
        """Return the profile with that id, in step with its account. Raises NotFound."""
        account = await self._accounts.get(id)
        if account is None:
            raise NotFound("There is no such user")
        return await self.of(account)

    async def ensure(self, id: UUID) -> None:
        """Make the profile of an account where it is missing, since rows refer to it.

        It is looked up once in a process. An id without an account passes: whatever authenticated
        the caller is responsible for it.
        """
        if id in self._known:
            return
        try:
            await self.get(id)
        except NotFound:
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.pop(next(iter(self._known)), None)
        self._known[id] = None

    async def page(
        self, *where: ColumnElement[bool], cursor: str | None = None, limit: int = 100
    ) -> Page[Profile]:
        """Return profiles that match, newest first."""
        return await self._profiles.page(*where, cursor=cursor, limit=limit)

    async def create(
        self, email: str, *, password: str | None = None, name: str = "", admin: bool = False
    ) -> Profile:
        """Make a user whose address counts as confirmed. Raises EmailAlreadyRegistered."""
        account = await self._accounts.create(
            email,
            password=password,
            user_metadata={"name": name} if name else {},
            app_metadata={"role": "admin"} if admin else {},
        )
        return await self.of_new(account)

    async def invite(self, email: str, *, name: str = "", admin: bool = False) -> Account:
        """Send an invitation; its account has no profile until it is accepted.

        Raises:
            EmailAlreadyRegistered: another user has confirmed the address.
        """
        return await self._accounts.invite(
            email,
            user_metadata={"name": name} if name else {},
            app_metadata={"role": "admin"} if admin else {},
        )

    async def update(
        self, id: UUID, *, name: str | None = None, columns: Mapping[str, Any] = NO_CLAIMS
    ) -> Profile:
        """Change what a user may change of their profile. Raises NotFound.

        Args:
            columns: values of the columns that the profile's own class adds.
        """
        profile = await self.get(id)
        values = dict(columns)
        if name is not None and name != profile.name:
            await self._accounts.update(id, user_metadata={"name": name})
            values["name"] = name
        return await self._changed(self._profiles, id, **values) if values else profile

    async def administrate(
        self,
        id: UUID,
        *,
        name: str | None = None,
        email: str | None = None,
        password: str | None = None,
        admin: bool | None = None,
    ) -> Profile:
        """Change what an administrator may change. Raises NotFound, EmailAlreadyRegistered."""
        role: dict[str, Any] | None = None
        if admin is not None:
            role = {"role": "admin" if admin else None}
        account = await self._accounts.update(
            id,
            email=email,
            password=password,
            user_metadata=None if name is None else {"name": name},
            app_metadata=role,
        )
        profile = await self.of(account)
        if name is None or name == profile.name:
            return profile
        return await self._changed(self._profiles, id, name=name)

    async def ban(self, id: UUID, duration: timedelta | None = FOREVER) -> Profile:
        """Ban a user for that long, or lift the ban with None. Raises NotFound."""
        return await self.of(await self._accounts.ban(id, duration))

    async def delete(self, id: UUID) -> None:
        """Delete profile and account.

        Raises:
            NotFound: neither exists.
            ForeignKeyViolation: rows refer to the profile; nothing has changed.
        """
        self._known.pop(id, None)
        # The profile goes first, since the database may reject that; if the second step fails,
        # calling this again finishes the work.
        profile = await self._profiles.delete(id)
        account = await self._accounts.delete(id)
        if not (profile or account):
            raise NotFound("There is no such user")

    async def sweep(self, *, delete: bool = False) -> AsyncGenerator[Orphan]:
        """Yield the profiles without an account, each before it is deleted.

        An account is gone without its profile where it was deleted by other means than these, such
        as another application that shares the accounts.

        Args:
            delete: whether to delete them with the rows that go with them (`ON DELETE CASCADE`)
                and the files that the accounts owned. A profile that other rows still refer to
                stays with its files, without its address and inactive.
        """
        present: set[UUID] = set()
        cursor = None
        while True:
            accounts = await self._accounts.list(cursor=cursor, limit=ACCOUNTS_AT_ONCE)
            present.update(account.id for account in accounts.items)
            cursor = accounts.next_cursor
            if cursor is None:
                break
        orphans = [row.id async for row in self._profiles.stream() if row.id not in present]
        files = await self._files_of(orphans)
        for id in orphans:
            if await self._accounts.get(id) is not None:  # created meanwhile
                continue
            deleted = False
            if delete:
                self._known.pop(id, None)
                try:
                    deleted = await self._profiles.delete(id)
                except ForeignKeyViolation:
                    await self._vacate(self._profiles, id)
            if deleted:
                for bucket, path in files[id]:
                    await self._backend.files.delete(SERVICE, bucket, path)
            yield Orphan(id, deleted, len(files[id]))

    async def _files_of(self, owners: Sequence[UUID]) -> dict[UUID, list[tuple[str, str]]]:
        """Return bucket and path of each file of these users."""
        paths: dict[UUID, list[tuple[str, str]]] = {id: [] for id in owners}
        files = self._backend.files
        for bucket in await files.buckets() if owners else ():
            cursor = None
            while True:
                page = await files.list(SERVICE, bucket.id, cursor=cursor, limit=FILES_AT_ONCE)
                for file in page.items:
                    if file.owner_id in paths:
                        paths[file.owner_id].append((file.bucket, file.path))
                cursor = page.next_cursor
                if cursor is None:
                    break
        return paths

    async def _vacate(self, profiles: Repository[Profile], id: UUID) -> None:
        """Take the address from a profile that stays."""
        await self._changed(profiles, id, email=f"deleted-{id}@invalid", is_active=False)

    def preview(self, account: Account) -> Profile:
        """Return the profile that an account will have, without storing it."""
        row = self._row(
            account,
            is_active=True,
            created_at=account.created_at,
            updated_at=account.updated_at,
        )
        for key, field in fields_of(self._model).items():
            default = field.column.default
            if getattr(row, key) is None and default is not None and default.is_scalar:
                setattr(row, key, default.arg)
        return row

    def _row(self, account: Account, **values: Any) -> Profile:
        own = from_metadata(self._model, account.user_metadata)
        return self._model(id=account.id, email=account.email, name=_name(account), **own, **values)

    async def _in_step(self, profiles: Repository[Profile], account: Account) -> Profile:
        active = not account.is_banned(utc_now())
        row = self._row(account, is_active=active)
        profile = await profiles.upsert(row, replace=False)
        if profile.email == account.email and profile.is_active == active:
            return profile
        values = {"email": account.email, "is_active": active}
        return await self._changed(profiles, profile.id, **values)

    async def _changed(self, profiles: Repository[Profile], id: UUID, **values: Any) -> Profile:
        profile = await profiles.update(id, **values)
        if profile is None:
            raise NotFound("There is no such user")
        return profile

    async def _free(
        self,
        profiles: Repository[Profile],
        email: str,
        nested: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Take the address from a profile that has no right to it any more.

        Either a deletion was cut short, or the address of its account has changed since.

        Args:
            nested: begins what may fail alone, in a transaction.
        """
        other = await profiles.first(self._model.email == email)
        if other is None:
            return
        account = await self._accounts.get(other.id)
        if account is not None and account.email == email:
            return
        if account is None:
            with contextlib.suppress(ForeignKeyViolation):
                async with nested():
                    await profiles.delete(other.id)
                return
        # Inactive, so that a living account's next request brings it in step (`current_user`).
        await self._vacate(profiles, other.id)


def _name(account: Account) -> str:
    name = account.user_metadata.get("name")
    return name[:100] if isinstance(name, str) else ""
