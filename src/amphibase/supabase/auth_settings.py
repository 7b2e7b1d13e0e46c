"""Whether a project's Auth protects what the settings say is protected."""

from amphibase.backend import ANONYMOUS
from amphibase.errors import ConfigurationError
from amphibase.redaction import redacted_logger
from amphibase.settings.application import Settings
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json

logger = redacted_logger("amphibase.supabase")


async def check_auth_settings(client: SupabaseClient, settings: Settings) -> None:
    """Compare the settings about sign-up with the project's, which decide.

    The anonymous key signs up without this application, so that a rule which is checked here alone
    protects nothing.

    Raises:
        ConfigurationError: the project leaves open what a setting protects; says where to close it.
        Unavailable: the project cannot be reached.
    """
    if settings.confirmation_asks_password:
        raise ConfigurationError(
            "CONFIRMATION_ASKS_PASSWORD: a Supabase project confirms an address by the link alone"
        )
    response = await client.request("auth", "GET", "/settings", ANONYMOUS)
    project = read_json(response)
    if settings.email_confirmation == "required" and project.get("mailer_autoconfirm"):
        raise ConfigurationError(
            "EMAIL_CONFIRMATION: the project confirms addresses by itself; switch on "
            "'Confirm email' in its dashboard under Authentication, Sign In / Providers, Email"
        )
    if settings.sign_up != "open" and not project.get("disable_signup"):
        raise ConfigurationError(
            f"SIGN_UP: is {settings.sign_up}, and the project lets everybody sign up; switch off "
            "'Allow new users to sign up' in its dashboard under Authentication, Sign In / "
            "Providers"
        )
    if settings.sign_up_domains:
        logger.warning(
            "SIGN_UP_DOMAINS holds for this application's routes alone: whoever has the "
            "project's anonymous key signs up with any address, unless a hook of the project "
            "('before user created') rejects it"
        )
