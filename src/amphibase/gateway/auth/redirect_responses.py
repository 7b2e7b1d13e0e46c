"""Redirects that hand a session, a code or an error to the application."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from amphibase.errors import AmphibaseError
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.errors import AuthError, as_auth_error

OAUTH_ERRORS = {
    400: "invalid_request",
    401: "unauthorized_client",
    403: "access_denied",
    500: "server_error",
    503: "temporarily_unavailable",
}
"""What OAuth calls the kinds of errors (RFC 6749, section 4.1.2.1), by status."""

SESSION_FIELDS = ("access_token", "expires_at", "expires_in", "refresh_token", "token_type")
"""What a fragment says of a session."""

_DENIALS = {codes.SIGNUP_DISABLED.code, codes.SIGN_IN_BANNED.code} | {
    codes.PROVIDER_EMAIL_UNVERIFIED.code
}


def redirect_error(
    error: AuthError | AmphibaseError, redirect_to: str, *, has_flow: bool
) -> Response:
    """Redirect with an error; one that nobody expected is raised.

    Args:
        has_flow: whether the flow ends with a code (PKCE), whose client reads the query.
    """
    rejection = as_auth_error(error)
    if rejection.status >= 500 and rejection is not error:
        raise error
    name = OAUTH_ERRORS.get(rejection.status)
    fields = {
        **({"error": name} if name else {}),
        "error_code": rejection.code,
        "error_description": rejection.message,
    }
    return redirect(redirect_to, query=fields if has_flow else None, fragment=fields)


def redirect_callback_error(
    error: AuthError | AmphibaseError, redirect_to: str, *, names_flow: bool = True
) -> Response:
    """Redirect from `/callback` with an error; one that nobody expected is raised.

    Args:
        names_flow: whether the state names a flow; without one, the error is in the query alone.
    """
    rejection = as_auth_error(error)
    if rejection.status >= 500 and rejection is not error:
        raise error
    denied = rejection.code in _DENIALS
    fields = {
        "error": "access_denied" if denied else OAUTH_ERRORS.get(rejection.status, "server_error"),
        "error_code": rejection.code,
        "error_description": rejection.message,
    }
    if not names_flow:
        return redirect(redirect_to, query=fields)
    return redirect(redirect_to, query=fields, fragment=fields, status=302)


def redirect(
    url: str,
    *,
    status: int = 303,
    query: Mapping[str, Any] | None = None,
    fragment: Mapping[str, Any] | None = None,
) -> Response:
    """Redirect with fields in the query, or in the fragment, which no server sees."""
    # By hand, since to take a URL apart and write it anew makes `app:` of `app://`.
    target = url.partition("#")[0]
    if query:
        target += f"{'&' if '?' in target else '?'}{urlencode(query)}"
    if fragment:
        # By `sb`, as from Supabase Auth, clients recognize their own among other fragments.
        target += f"#{urlencode(sorted({**fragment, 'sb': ''}.items()))}"
    return RedirectResponse(target, status, {"cache-control": "no-store"})
