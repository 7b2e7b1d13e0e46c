"""Auth as an ASGI application of its own."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.auth import (
    admin,
    admin_audit,
    admin_custom_providers,
    admin_links,
    admin_sso,
    features_off,
    mfa,
    otp,
    reauthenticate,
    recover,
    resend,
    settings_endpoint,
    sign_up,
    token,
    user,
    verify,
)
from amphibase.gateway.auth.captcha import PROTECTED, check_captcha
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import respond_to
from amphibase.gateway.auth.external import endpoints as external
from amphibase.gateway.auth.mail_templates import SENDS_EMAIL, EmailQueue
from amphibase.gateway.auth.new_users import report_new_user
from amphibase.gateway.auth.rate_limits import LIMITED, LimitedAction
from amphibase.gateway.auth.settings import AuthSettings
from amphibase.gateway.lifetime import Lifetime, check_rights
from amphibase.gateway.service import deny_websocket

Call = Callable[[Core, Request], Awaitable[Response]]

MOUNTED = (
    "/callback",
    "/sso",
    "/signup",
    "/reauthenticate",
    "/verify",
    "/user",
    "/factors",
    "/factors/{id}",
    "/admin/audit",
    "/admin/users",
    "/admin/users/{id}",
    "/admin/users/{id}/factors",
    "/admin/users/{id}/factors/{factor_id}",
    "/admin/users/{id}/passkeys",
    "/admin/sso/providers",
    "/admin/sso/providers/{id}",
    "/admin/custom-providers",
    "/admin/custom-providers/{identifier}",
)
"""Paths that may end with a slash, too: those of a router of their own in Supabase Auth."""

ENDPOINTS: tuple[tuple[str, str, Call], ...] = (
    ("GET", "/health", settings_endpoint.health),
    ("GET", "/settings", settings_endpoint.settings),
    ("GET", "/.well-known/jwks.json", settings_endpoint.jwks),
    ("GET", "/.well-known/openid-configuration", settings_endpoint.openid_configuration),
    ("GET", "/authorize", external.authorize),
    ("GET", "/callback", external.callback),
    ("POST", "/callback", external.callback),
    ("POST", "/sso", settings_endpoint.sso),
    ("GET", "/sso/saml/metadata", settings_endpoint.sso),
    ("POST", "/sso/saml/acs", settings_endpoint.sso),
    ("POST", "/signup", sign_up.sign_up),
    ("POST", "/token", token.token),
    ("POST", "/otp", otp.otp),
    ("POST", "/magiclink", otp.magic_link),
    ("POST", "/recover", recover.recover),
    ("POST", "/resend", resend.resend),
    ("GET", "/reauthenticate", reauthenticate.reauthenticate),
    ("GET", "/verify", verify.follow_link),
    ("POST", "/verify", verify.verify),
    ("GET", "/user", user.get),
    ("PUT", "/user", user.update),
    ("POST", "/logout", user.log_out),
    ("GET", "/user/identities/authorize", external.link_identity),
    ("DELETE", "/user/identities/{id}", user.unlink_identity),
    ("POST", "/factors", mfa.enroll),
    ("POST", "/factors/{id}/challenge", mfa.challenge),
    ("POST", "/factors/{id}/verify", mfa.verify),
    ("DELETE", "/factors/{id}", mfa.unenroll),
    ("POST", "/invite", admin_links.invite),
    ("POST", "/admin/generate_link", admin_links.generate_link),
    ("GET", "/admin/audit", admin_audit.list_entries),
    ("GET", "/admin/sso/providers", admin_sso.list_providers),
    ("POST", "/admin/sso/providers", admin_sso.reject_change),
    ("GET", "/admin/sso/providers/{id}", admin_sso.get_provider),
    ("PUT", "/admin/sso/providers/{id}", admin_sso.reject_change),
    ("DELETE", "/admin/sso/providers/{id}", admin_sso.delete_provider),
    ("GET", "/admin/custom-providers", admin_custom_providers.list_providers),
    ("POST", "/admin/custom-providers", admin_custom_providers.create),
    ("GET", "/admin/custom-providers/{identifier}", admin_custom_providers.get_provider),
    ("PUT", "/admin/custom-providers/{identifier}", admin_custom_providers.update),
    ("DELETE", "/admin/custom-providers/{identifier}", admin_custom_providers.delete),
    ("GET", "/admin/users", admin.list_users),
    ("POST", "/admin/users", admin.create),
    ("GET", "/admin/users/{id}", admin.get),
    ("PUT", "/admin/users/{id}", admin.update),
    ("DELETE", "/admin/users/{id}", admin.delete),
    ("GET", "/admin/users/{id}/factors", admin.list_factors),
    ("PUT", "/admin/users/{id}/factors/{factor_id}", admin.update_factor),
    ("DELETE", "/admin/users/{id}/factors/{factor_id}", admin.delete_factor),
    ("GET", "/admin/users/{id}/passkeys", admin.list_passkeys),
)


class AuthApp:
    """Sign-up, sign-in and users in the wire protocol of Supabase Auth; satisfies `Service`.

    Args:
        settings: from `load_auth_settings()`.
        database_url: of a Postgres with the schema `auth`, as a role that owns its tables.
        tokens: the project's keys.
        outbox: takes emails where no mail server is configured.
    """

    def __init__(
        self, settings: AuthSettings, database_url: str, tokens: KeyRing, outbox: EmailQueue
    ) -> None:
        self._core = Core(settings, database_url, tokens, outbox)
        self._lifetime = Lifetime(self._open, self._core.close)
        self._app = Starlette(
            routes=[
                self._route(method, written, call)
                for method, path, call in (*ENDPOINTS, *features_off.ENDPOINTS)
                for written in (path, *([f"{path}/"] if path in MOUNTED else ()))
            ],
            exception_handlers={HTTPException: self._not_found},
        )
        self._app.router.redirect_slashes = False

    async def start(self) -> None:
        await self._lifetime.start()

    async def close(self) -> None:
        await self._lifetime.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await deny_websocket(scope, receive, send)
            return
        with self._lifetime.request():
            await self._app(scope, receive, send)

    async def _open(self) -> None:
        await check_rights(self._core.database, "auth.users", "supabase_auth_admin")
        if not self._core.settings.mailer_autoconfirm:
            await self._core.sign_ups.report_unproven()

    def _route(self, method: str, path: str, call: Call) -> Route:
        name = path.removesuffix("/")
        needs_captcha = name in PROTECTED and self._core.settings.security_captcha_enabled
        endpoint = self._endpoint(
            call,
            LIMITED.get((method, name)),
            is_protected=needs_captcha,
            sends_email=(method, name) in SENDS_EMAIL,
        )
        route = Route(path, endpoint, methods=[method])
        # Starlette lets HEAD in with GET, and who looks at a link must not have followed it.
        route.methods = {method}
        return route

    def _endpoint(
        self, call: Call, limit: LimitedAction | None, *, is_protected: bool, sends_email: bool
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                await self.start()
                if limit is not None:
                    self._core.rate_limiter.check(limit, request)
                if is_protected:
                    await check_captcha(self._core, request)
                if sends_email:
                    await self._core.remote_templates.refresh()
                response = await call(self._core, request)
                await report_new_user(self._core, request)
                response.headers.update(getattr(request.state, "session_headers", {}))
                return response
            except ClientDisconnect:
                raise
            except Exception as error:
                return respond_to(request, error)

        return endpoint

    async def _not_found(self, request: Request, error: Exception) -> Response:
        """Respond as Go's routers do, once it is known that the caller may enter."""
        assert isinstance(error, HTTPException)
        try:
            await self.start()
            await features_off.check_entry(self._core, request)
        except Exception as rejection:
            return respond_to(request, rejection)
        if error.status_code == 405:
            return Response(status_code=405, headers=error.headers)
        headers = {"x-content-type-options": "nosniff"}
        return PlainTextResponse("404 page not found\n", 404, headers)
