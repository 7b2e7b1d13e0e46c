"""/auth/identities: through which third parties a user signs in."""

from typing import Any
from uuid import UUID

from fastapi import Response

from amphibase.backend import OAuthRequest, UserIdentity
from amphibase.http.dependencies import Mounted, SignedInCaller
from amphibase.http.routes.auth.oauth import Provider
from amphibase.http.routes.auth.responses import NO_STORE
from amphibase.http.routes.route import built_in_router
from amphibase.http.schemas import IdentityRead, LinkIdentity, ListOf, RedeemCode, RedirectUrl

router = built_in_router("/identities")


@router.get("", response_model=ListOf[IdentityRead], summary="How I sign in")
async def identities(db: Mounted, caller: SignedInCaller) -> Any:
    linked = await db.state.backend.accounts.identities.list(caller)
    return ListOf[IdentityRead](items=[_read(identity) for identity in linked])


@router.post(
    "/{provider}",
    response_model=RedirectUrl,
    summary="Begin to sign in through a third party too",
    description="Send the browser to `url`; POST /auth/identities takes the code.",
)
async def begin_link(
    provider: Provider,
    body: LinkIdentity,
    db: Mounted,
    caller: SignedInCaller,
    response: Response,
) -> Any:
    response.headers.update(NO_STORE)
    request = OAuthRequest(
        provider=provider, redirect_to=body.redirect_to, code_challenge=body.code_challenge
    )
    url = await db.state.backend.accounts.identities.begin(caller, request)
    return RedirectUrl(url=url)


@router.post(
    "", status_code=201, response_model=IdentityRead, summary="Link the identity of a code"
)
async def link(body: RedeemCode, db: Mounted, caller: SignedInCaller) -> Any:
    linked = await db.state.backend.accounts.identities.link(caller, body.code, body.code_verifier)
    return _read(linked)


@router.delete("/{id}", status_code=204, summary="No longer sign in through a third party")
async def unlink(id: UUID, db: Mounted, caller: SignedInCaller) -> None:
    await db.state.backend.accounts.identities.unlink(caller, id)


def _read(identity: UserIdentity) -> IdentityRead:
    return IdentityRead.model_validate(identity, from_attributes=True)
