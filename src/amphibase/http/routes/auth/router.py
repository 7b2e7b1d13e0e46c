"""/auth as a whole."""

from functools import cache

from amphibase.http.routes.auth import (
    email_addresses,
    identities,
    oauth,
    pages,
    passwords,
    sessions,
    sign_in,
    sign_up,
)
from amphibase.http.routes.auth.responses import SignInResponses
from amphibase.http.routes.fast_path import FastPathRouter
from amphibase.http.routes.route import built_in_router
from amphibase.models import User


@cache
def routes(user: type[User]) -> FastPathRouter:
    """Return the routes, with responses in the shape of the profile's class; one router for all
    apps."""
    responses = SignInResponses(user)
    router = built_in_router("/auth", "auth")
    router.include_router(sign_up.routes(user, responses))
    router.include_router(sign_in.routes(responses))
    for group in (sessions, passwords, email_addresses, oauth, identities, pages):
        router.include_router(group.router)
    return router
