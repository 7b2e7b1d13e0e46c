"""/users: oneself, and for administrators everybody."""

from datetime import timedelta
from functools import cache
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import Depends, Query, Request, Response

from amphibase.backend import FOREVER, SERVICE
from amphibase.errors import Unauthenticated
from amphibase.http.dependencies import (
    CurrentUser,
    Mounted,
    admin_user,
    amphibase_of,
    bearer,
    current_user,
)
from amphibase.http.routes.fast_path import FastPathRouter
from amphibase.http.routes.route import built_in_router
from amphibase.http.row_serializer import RowSerializer
from amphibase.http.schemas import (
    Ban,
    CreateUser,
    Cursor,
    Email,
    Invite,
    ListOf,
    UpdateMe,
    UpdateUser,
)
from amphibase.models import User
from amphibase.records.derived import read_model
from amphibase.records.input import PlainText
from amphibase.records.profile import own_values, with_own_columns

FOR_ADMINS = [Depends(admin_user)]


@cache
def routes(user: type[User]) -> FastPathRouter:
    """Return the routes, whose responses have the fields of the profile's class; one router for all
    apps."""
    router = built_in_router("/users", "users")
    _add_own_profile(router, user)
    _add_administration(router, user)
    return router


def _add_own_profile(router: FastPathRouter, user: type[User]) -> None:
    user_read: Any = read_model(user)
    serializer = RowSerializer(user)
    update_me_body: Any = with_own_columns(user, UpdateMe, partial=True)

    @router.get("/me", response_model=user_read, summary="My profile")
    async def me(user: CurrentUser) -> Any:
        return user

    @router.fast_path(me)
    async def me_on_fast_path(request: Request) -> Response:
        token = await bearer(request)
        if token is None:
            raise Unauthenticated
        backend = amphibase_of(request).state.backend
        profiles = backend.repository(user, SERVICE)
        rows = profiles.json_rows(serializer.names) or profiles
        caller, profile = await backend.identify(token, rows)
        if profile is None or not _is_active(profile):
            profile = await current_user(request, caller)
        return serializer.response(profile)

    @router.patch("/me", response_model=user_read, summary="Change my profile")
    async def update_me(changes: update_me_body, db: Mounted, me: CurrentUser) -> Any:
        return await db.state.users.update(
            me.id, name=changes.name, columns=own_values(user, changes)
        )

    @router.delete("/me", status_code=204, summary="Delete my account")
    async def delete_me(db: Mounted, user: CurrentUser) -> None:
        await db.state.users.delete(user.id)


def _add_administration(router: FastPathRouter, user: type[User]) -> None:
    user_read: Any = read_model(user)
    list_of_users: Any = ListOf[user_read]

    @router.get(
        "",
        response_model=list_of_users,
        dependencies=FOR_ADMINS,
        summary="All users, newest first",
    )
    async def list_users(
        db: Mounted,
        email: Annotated[Email | None, Query(description="The whole address")] = None,
        name: Annotated[PlainText | None, Query(description="A part of the name")] = None,
        is_active: bool | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Cursor | None = None,
    ) -> Any:
        where = []
        if email is not None:
            where.append(user.email == email.lower())
        if name is not None:
            where.append(user.name.icontains(name, autoescape=True))
        if is_active is not None:
            where.append(user.is_active.is_(is_active))
        page = await db.state.users.page(*where, cursor=cursor, limit=limit)
        return list_of_users(
            items=[user_read.model_validate(item) for item in page.items],
            next_cursor=page.next_cursor,
        )

    @router.post(
        "",
        status_code=201,
        response_model=user_read,
        dependencies=FOR_ADMINS,
        summary="Make a user",
    )
    async def create_user(new: CreateUser, db: Mounted) -> Any:
        return await db.state.users.create(
            new.email, password=new.password, name=new.name, admin=new.admin
        )

    @router.post(
        "/invitations",
        status_code=202,
        dependencies=FOR_ADMINS,
        summary="Invite a user by email",
    )
    async def invite(new: Invite, db: Mounted) -> None:
        await db.state.users.invite(new.email, name=new.name, admin=new.admin)

    @router.get("/{id}", response_model=user_read, dependencies=FOR_ADMINS, summary="One user")
    async def get_user(id: UUID, db: Mounted) -> Any:
        return await db.state.users.get(id)

    @router.patch(
        "/{id}", response_model=user_read, dependencies=FOR_ADMINS, summary="Change a user"
    )
    async def update_user(id: UUID, changes: UpdateUser, db: Mounted) -> Any:
        return await db.state.users.administrate(
            id,
            name=changes.name,
            email=changes.email,
            password=changes.password,
            admin=changes.admin,
        )

    @router.delete("/{id}", status_code=204, dependencies=FOR_ADMINS, summary="Delete a user")
    async def delete_user(id: UUID, db: Mounted) -> None:
        await db.state.users.delete(id)

    @router.post(
        "/{id}/ban",
        response_model=user_read,
        dependencies=FOR_ADMINS,
        summary="Ban a user, which ends their sessions",
    )
    async def ban(id: UUID, body: Ban, db: Mounted) -> Any:
        duration = FOREVER if body.seconds is None else timedelta(seconds=body.seconds)
        return await db.state.users.ban(id, duration)

    @router.delete(
        "/{id}/ban", response_model=user_read, dependencies=FOR_ADMINS, summary="Lift a ban"
    )
    async def lift_ban(id: UUID, db: Mounted) -> Any:
        return await db.state.users.ban(id, None)


def _is_active(profile: Any) -> bool:
    """Whether a profile, as an object or as a document, may act."""
    if isinstance(profile, str):
        profile = orjson.loads(profile)
        return bool(profile["is_active"])
    return bool(profile.is_active)
