"""The policy for new passwords."""

from amphibase.gateway.auth.errors import PasswordViolation, invalid
from amphibase.gateway.auth.settings import AuthSettings

MAX_NEW_PASSWORD_BYTES = 72
"""What bcrypt takes, so that an account can be moved to Supabase with its password."""


def violation(settings: AuthSettings, password: str) -> PasswordViolation | None:
    """Return how a password violates the policy; None where it does not."""
    reasons, messages = [], []
    if len(password) < settings.password_min_length:
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
        )
    return PasswordViolation(" ".join(messages), reasons) if messages else None


def check_password(settings: AuthSettings, password: str) -> None:
    """Raise AuthError for a password that the policy does not allow."""
    check_length(password)
    if error := violation(settings, password):
        raise error


def check_length(password: str) -> None:
    """Raise AuthError for a new password that is too long."""
    if len(password.encode("utf-8", "surrogatepass")) > MAX_NEW_PASSWORD_BYTES:
        raise invalid(f"Password cannot be longer than {MAX_NEW_PASSWORD_BYTES} characters")


def required_characters(settings: AuthSettings) -> list[str]:
    r"""Return the sets of which a password needs one character each.

    The setting divides them by `:`; the character itself is written `\:`.
    """
    marked = settings.password_required_characters.replace(r"\:", "\0")
    return [part.replace("\0", ":") for part in marked.split(":") if part]
