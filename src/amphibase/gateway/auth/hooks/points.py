"""The points at which hooks run: what each gets, and what its response does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import Row

from amphibase.backend import Claims
from amphibase.certificates import https_context
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.hooks.settings import HookSettings, HookTarget
from amphibase.gateway.auth.serializers import timestamp

if TYPE_CHECKING:
    import httpx

REJECT = "reject"
MFA_REJECTED = "Further MFA verification attempts will be rejected."
PASSWORD_REJECTED = "Further password verification attempts will be rejected."

CLAIM_TYPES: Mapping[str, tuple[type, ...]] = {
    "aud": (str, list),
    "exp": (int,),
    "jti": (str,),
    "iat": (int,),
    "iss": (str,),
    "nbf": (int,),
    "sub": (str,),
    "email": (str,),
    "phone": (str,),
    "app_metadata": (dict,),
    "user_metadata": (dict,),
    "role": (str,),
    "aal": (str,),
    "amr": (list,),
    "session_id": (str,),
}
REQUIRED_CLAIMS = (
    "aud",
    "exp",
    "iat",
    "sub",
    "email",
    "phone",
    "role",
    "aal",
    "session_id",
    "is_anonymous",
)
"""What Supabase Auth demands of the claims that a hook returns (its `v0hooks.go`)."""


@dataclass(frozen=True, slots=True)
class PasswordRejection:
    """What a hook says where it rejects a password that was checked.

    Attributes:
        ends_sessions: whether every session of the user ends.
    """

    message: str
    ends_sessions: bool


class AuthHooks:
    """The hooks of a project; each runs in the caller's transaction, where it is a function."""

    def __init__(self, settings: HookSettings) -> None:
        self._client: httpx.AsyncClient | None = None
        self._access_token = settings.hook("custom_access_token")
        self._before_user_created = settings.hook("before_user_created")
        self._after_user_created = settings.hook("after_user_created")
        self._send_email = settings.hook("send_email")
        self._send_sms = settings.hook("send_sms")
        self._password = settings.hook("password_verification_attempt")
        self._mfa = settings.hook("mfa_verification_attempt")

    async def close(self) -> None:
        """Close the connections to URLs."""
        if self._client is not None:
            await self._client.aclose()

    async def _call(
        self, target: HookTarget, payload: Mapping[str, Any], connection: SqlConnection
    ) -> dict[str, Any]:
        import httpx  # few projects have hooks

        from amphibase.gateway.auth.hooks.dispatch import call_hook

        if self._client is None:
            self._client = httpx.AsyncClient(verify=https_context())
        return await call_hook(target, payload, connection, self._client)

    async def _decision(
        self, target: HookTarget | None, payload: Mapping[str, Any], connection: SqlConnection
    ) -> Mapping[str, Any]:
        return {} if target is None else await self._call(target, payload, connection)

    @property
    def makes_claims(self) -> bool:
        """Whether a hook decides on the claims of access tokens."""
        return self._access_token is not None

    async def access_token_claims(
        self, connection: SqlConnection, claims: Claims, method: str
    ) -> Claims:
        """Return the claims of an access token.

        Args:
            claims: those that it would have.
            method: of the sign-in: `password`, `otp`, `token_refresh` …

        Raises:
            AuthError: the hook rejects the token, or a claim is missing or has the wrong type.
        """
        if self._access_token is None:
            return claims
        payload = {
            "user_id": claims["sub"],
            "claims": claims,
            "authentication_method": method,
        }
        response = await self._call(self._access_token, payload, connection)
        returned = response.get("claims")
        if faults := _faults(returned):
            message = "output claims do not conform to the expected schema: \n" + "".join(
                f"- {fault}\n" for fault in faults
            )
            raise AuthError(codes.UNEXPECTED_FAILURE, message)
        made: Claims = returned if isinstance(returned, dict) else {}
        return made

    @property
    def has_new_user_hooks(self) -> bool:
        """Whether a hook runs before or after a user is added."""
        return self._before_user_created is not None or self.reports_users

    @property
    def reports_users(self) -> bool:
        """Whether a hook runs after a user was added."""
        return self._after_user_created is not None

    async def before_user_created(
        self, connection: SqlConnection, user: Mapping[str, Any], ip: str | None
    ) -> None:
        """Ask whether a user may be added. Raises AuthError where not.

        Args:
            user: as clients get it, before it is stored.
        """
        if self._before_user_created is not None:
            payload = {"metadata": _metadata("before-user-created", ip), "user": user}
            await self._call(self._before_user_created, payload, connection)

    async def after_user_created(
        self, connection: SqlConnection, user: Mapping[str, Any], ip: str | None
    ) -> None:
        """Report a user who was added. Raises AuthError where the hook fails.

        Args:
            user: as clients get it.
        """
        if self._after_user_created is not None:
            payload = {"metadata": _metadata("after-user-created", ip), "user": user}
            await self._call(self._after_user_created, payload, connection)

    @property
    def sends_email(self) -> bool:
        """Whether a hook sends emails."""
        return self._send_email is not None

    async def send_email(
        self, connection: SqlConnection, user: Mapping[str, Any], data: Mapping[str, Any]
    ) -> None:
        """Let the hook send an email. Raises AuthError where it fails.

        Args:
            user: as clients get it.
            data: the tokens and where they lead.
        """
        if self._send_email is not None:
            await self._call(self._send_email, {"user": user, "email_data": data}, connection)

    @property
    def sends_sms(self) -> bool:
        """Whether a hook sends text messages."""
        return self._send_sms is not None

    async def send_sms(
        self,
        connection: SqlConnection,
        user: Mapping[str, Any],
        phone: str,
        code: str,
        *,
        kind: str = "",
    ) -> None:
        """Let the hook send a code. Raises AuthError where it fails.

        Args:
            user: as clients get it.
            kind: `mfa` for that of a second factor.
        """
        if self._send_sms is not None:
            sms = {"otp": code, "phone": phone, **({"sms_type": kind} if kind else {})}
            await self._call(self._send_sms, {"user": user, "sms": sms}, connection)

    async def after_password_attempt(
        self, connection: SqlConnection, user_id: UUID, *, valid: bool
    ) -> PasswordRejection | None:
        """Return the rejection of a password that was checked; None where it is allowed."""
        payload = {"user_id": str(user_id), "valid": valid}
        response = await self._decision(self._password, payload, connection)
        if response.get("decision") != REJECT:
            return None
        message = str(response.get("message") or PASSWORD_REJECTED)
        return PasswordRejection(message, bool(response.get("should_logout_user")))

    @property
    def checks_passwords(self) -> bool:
        """Whether a hook decides on passwords that were checked."""
        return self._password is not None

    @property
    def checks_factors(self) -> bool:
        """Whether a hook decides on codes of second factors."""
        return self._mfa is not None

    async def after_mfa_attempt(
        self, connection: SqlConnection, factor: Row[Any], *, valid: bool
    ) -> str | None:
        """Return the message of a rejection; None where the attempt is allowed."""
        payload = {
            "user_id": str(factor.user_id),
            "factor_id": str(factor.id),
            "factor_type": factor.factor_type,
            "valid": valid,
        }
        response = await self._decision(self._mfa, payload, connection)
        if response.get("decision") != REJECT:
            return None
        return str(response.get("message") or MFA_REJECTED)


def _metadata(name: str, ip: str | None) -> dict[str, str]:
    return {
        "uuid": str(uuid4()),
        "time": timestamp(utc_now()),
        "name": name,
        "ip_address": ip or "",
    }


def _faults(claims: object) -> list[str]:
    if not isinstance(claims, dict):
        return ["(root): Invalid type. Expected: object, given: null"]
    missing = [f"(root): {name} is required" for name in REQUIRED_CLAIMS if name not in claims]
    wrong = [
        f"{name}: Invalid type"
        for name, types in CLAIM_TYPES.items()
        if name in claims
        and (isinstance(claims[name], bool) or not isinstance(claims[name], types))
    ]
    return [*missing, *wrong]
