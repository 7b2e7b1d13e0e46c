"""The policy for new passwords."""

from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.errors import AuthError, PasswordViolation, invalid
from amphibase.gateway.auth.pwned_passwords import LeaksUnknown, has_leaked
from amphibase.gateway.auth.settings import AuthSettings
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.auth")

MAX_NEW_PASSWORD_BYTES = 72
"""What bcrypt takes, so that an account can be moved to Supabase with its password."""


async def violation(settings: AuthSettings, password: str) -> PasswordViolation | None:
    """Return how a password violates the policy; None where it does not.

    Raises:
        AuthError: whether it has leaked is unknown, and that counts.
    """
    reasons, messages = [], []
    if _size(password) < settings.password_min_length:
        reasons.append("length")
        messages.append(f"Password should be at least {settings.password_min_length} characters.")
    missing = [
        characters
        for characters in required_characters(settings)
        if not set(characters) & set(password)
    ]
    if missing:
        reasons.append("characters")
        messages.append(
            "Password should contain at least one character of each: "
            + ", ".join(required_characters(settings))
            + "."
        )
    if settings.password_hibp_enabled and await _has_leaked(settings, password):
        reasons.append("pwned")
        messages.append(
            "Password is known to be weak and easy to guess, please choose a different one."
        )
    return PasswordViolation(" ".join(messages), reasons) if messages else None


async def check_password(settings: AuthSettings, password: str) -> None:
    """Raise AuthError for a password that the policy does not allow."""
    if is_too_long(password):
        raise invalid(f"Password cannot be longer than {MAX_NEW_PASSWORD_BYTES} characters")
    if error := await violation(settings, password):
        raise error


async def _has_leaked(settings: AuthSettings, password: str) -> bool:
    try:
        return await has_leaked(password)
    except LeaksUnknown as error:
        if settings.password_hibp_fail_closed:
            raise AuthError(
                codes.UNEXPECTED_FAILURE,
                "Unable to perform password strength check with HaveIBeenPwned.org.",
            ) from None
        logger.warning("It is unknown whether a new password has leaked: %s", error)
        return False


def is_too_long(password: str) -> bool:
    """Return whether Supabase Auth could not hash a new password."""
    return _size(password) > MAX_NEW_PASSWORD_BYTES


def _size(password: str) -> int:
    """Return how many bytes a password has, which Supabase Auth counts."""
    return len(password.encode("utf-8", "surrogatepass"))


def required_characters(settings: AuthSettings) -> list[str]:
    r"""Return the sets of which a password needs one character each.

    The setting divides them by `:`; the character itself is written `\:`.
    """
    marked = settings.password_required_characters.replace(r"\:", "\0")
    return [part.replace("\0", ":") for part in marked.split(":") if part]
