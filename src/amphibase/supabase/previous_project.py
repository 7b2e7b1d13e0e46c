"""A Supabase project that accounts have moved away from, as it still knows their passwords."""

from contextlib import suppress
from uuid import UUID

from amphibase.backend import ANONYMOUS, Caller
from amphibase.errors import (
    AmphibaseError,
    EmailNotConfirmed,
    InvalidCredentials,
    Retryable,
    Unavailable,
    UserBanned,
)
from amphibase.redaction import redacted_logger
from amphibase.supabase.auth_responses import read_signed_in
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import ApiKey, SupabaseProject

logger = redacted_logger("amphibase.supabase")


class PreviousSupabaseProject:
    """Checks passwords by signing in; the session that comes of it ends at once.

    Args:
        url: of the project.
        key: its publishable or anonymous key.
    """

    def __init__(self, url: str, key: str) -> None:
        api_key = ApiKey("PREVIOUS_SUPABASE_KEY", key.strip())
        self._client = SupabaseClient(SupabaseProject(url, api_key, api_key))

    async def user_id(self, email: str, password: str) -> UUID | None:
        """Return whose address and password these are; None where they are nobody's, or those of a
        user who may not sign in.

        Raises:
            Unavailable: the project cannot be reached, or rejects all sign-ins, such as for want
                of a solved captcha.
            TooManyRequests: it rejects further attempts for a while.
        """
        try:
            response = await self._client.request(
                "auth",
                "POST",
                "/token",
                ANONYMOUS,
                params={"grant_type": "password"},
                json={"email": email, "password": password},
                idempotent=True,
            )
            signed_in = read_signed_in(response)
        except (InvalidCredentials, EmailNotConfirmed, UserBanned):
            return None
        except Retryable:
            raise
        except AmphibaseError as error:
            logger.error("The previous project (PREVIOUS_SUPABASE_URL) rejects sign-ins: %s", error)
            raise Unavailable("Nobody can sign in for the first time just now") from None
        if signed_in.tokens is not None:
            caller = Caller(
                "authenticated", signed_in.account.id, token=signed_in.tokens.access_token
            )
            with suppress(AmphibaseError):
                await self._client.request(
                    "auth", "POST", "/logout", caller, params={"scope": "local"}
                )
        return signed_in.account.id

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
