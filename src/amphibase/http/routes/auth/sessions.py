"""Where a user is signed in, and how that ends."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query

from amphibase.backend import SignOutScope
from amphibase.http.dependencies import Mounted, SignedInCaller
from amphibase.http.routes.route import built_in_router
from amphibase.http.schemas import ListOf, SessionRead

router = built_in_router()


@router.post("/sign-out", status_code=204, summary="End this session, the others, or all")
async def sign_out(
    db: Mounted,
    caller: SignedInCaller,
    scope: Annotated[SignOutScope, Query()] = "local",
) -> None:
    await db.state.backend.accounts.sign_out(caller, scope)


@router.get("/sessions", response_model=ListOf[SessionRead], summary="Where I am signed in")
async def sessions(db: Mounted, caller: SignedInCaller) -> Any:
    open_sessions = await db.state.backend.accounts.sessions(caller)
    return ListOf[SessionRead](
        items=[
            SessionRead(
                id=session.id,
                user_agent=session.user_agent,
                ip=session.ip,
                created_at=session.created_at,
                refreshed_at=session.refreshed_at,
                current=session.id == caller.session_id,
            )
            for session in open_sessions
        ]
    )


@router.delete("/sessions/{id}", status_code=204, summary="End one of my sessions")
async def end_session(id: UUID, db: Mounted, caller: SignedInCaller) -> None:
    await db.state.backend.accounts.end_session(caller, id)
