"""Users: profiles, kept in step with their accounts whatever homes the two live in."""

from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement

from amphibase.backend import FOREVER, SERVICE, Account, Backend, Page, Repository
from amphibase.errors import Conflict, NotFound
from amphibase.models import User, utc_now

Profile = TypeVar("Profile", bound=User)


class UserService(Generic[Profile]):
    """What can be done with users.

    Args:
        model: the profile's class, `User` or a subclass of it.
    """

    def __init__(self, backend: Backend, model: type[Profile]) -> None:
        self._accounts = backend.accounts
        self._model = model
        self._profiles: Repository[Profile] = backend.repository(model, SERVICE)

    async def of(self, account: Account) -> Profile:
        """The profile of an account, made now if there is none, and brought in step with it.

        Safe to call at any time and any number of times.
        """
        row = self._model(
            id=account.id,
            email=account.email,
            name=_name(account),
            is_active=not account.is_banned(utc_now()),
        )
        try:
            profile = await self._profiles.upsert(row)
        except Conflict:
            await self._drop_leftover(account.email)
            profile = await self._profiles.upsert(row)
        return await self._in_step(profile, account)

    async def get(self, id: UUID) -> Profile:
        """The profile with that id; made from its account if only that exists. Raises NotFound."""
        profile = await self._profiles.get(id)
        if profile is not None:
            return profile
        account = await self._accounts.get(id)
        if account is None:
            raise NotFound("There is no such user")
        return await self.of(account)

    async def page(
        self, *where: ColumnElement[bool], cursor: str | None = None, limit: int = 100
    ) -> Page[Profile]:
        """Profiles that match, newest first."""
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
        return await self.of(account)

    async def update(self, id: UUID, *, name: str | None = None) -> Profile:
        """Change what a user may change of their profile. Raises NotFound."""
        profile = await self.get(id)
        if name is None or name == profile.name:
            return profile
        await self._accounts.update(id, user_metadata={"name": name})
        return await self._changed(id, name=name)

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
        return await self._changed(id, name=name)

    async def ban(self, id: UUID, duration: timedelta | None = FOREVER) -> Profile:
        """Ban a user for that long, or lift the ban with None. Raises NotFound."""
        return await self.of(await self._accounts.ban(id, duration))

    async def delete(self, id: UUID) -> None:
        """Delete account and profile. Raises NotFound when neither exists."""
        # The account goes first: if the second step fails, nobody can sign in any more, and
        # calling this again finishes the work.
        account = await self._accounts.delete(id)
        profile = await self._profiles.delete(id)
        if not (account or profile):
            raise NotFound("There is no such user")

    async def _in_step(self, profile: Profile, account: Account) -> Profile:
        active = not account.is_banned(utc_now())
        if profile.email == account.email and profile.is_active == active:
            return profile
        return await self._changed(profile.id, email=account.email, is_active=active)

    async def _changed(self, id: UUID, **values: Any) -> Profile:
        profile = await self._profiles.update(id, **values)
        if profile is None:
            raise NotFound("There is no such user")
        return profile

    async def _drop_leftover(self, email: str) -> None:
        """Remove a profile that has the address but no account, left by a deletion cut short."""
        other = await self._profiles.first(self._model.email == email)
        if other is not None and await self._accounts.get(other.id) is None:
            await self._profiles.delete(other.id)


def _name(account: Account) -> str:
    name = account.user_metadata.get("name")
    return name[:100] if isinstance(name, str) else ""
