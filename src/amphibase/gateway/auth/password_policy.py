"""What a new password must be like."""

from amphibase.accounts.passwords import MAX_PASSWORD_BYTES
from amphibase.gateway.auth.errors import WeakPassword
from amphibase.gateway.auth.settings import AuthSettings

TOO_LONG = f"Password cannot be longer than {MAX_PASSWORD_BYTES} bytes."


def weakness(settings: AuthSettings, password: str) -> WeakPassword | None:
    """What is wrong with a password; None where it is good enough."""
    reasons, faults = [], []
    if len(password) < settings.password_min_length:
        reasons.append("length")
        faults.append(f"Password should be at least {settings.password_min_length} characters.")
    elif _is_too_long(password):
        reasons.append("length")
        faults.append(TOO_LONG)
    missing = [
        characters
        for characters in required_characters(settings)
        if not set(characters) & set(password)
    ]
    if missing:
        reasons.append("characters")
        faults.append(
            "Password should contain at least one character of each: "
            + ", ".join(required_characters(settings))
        )
    return WeakPassword(" ".join(faults), reasons) if faults else None


def check_strength(settings: AuthSettings, password: str) -> None:
    """Raise WeakPassword unless the password is good enough."""
    if fault := weakness(settings, password):
        raise fault


def check_length(password: str) -> None:
    """Raise WeakPassword for one so long that nobody could sign in with it."""
    if _is_too_long(password):
        raise WeakPassword(TOO_LONG, ["length"])


def required_characters(settings: AuthSettings) -> list[str]:
    r"""The sets of which a password needs one character each: divided by `:`, which itself is
    written `\:`."""
    marked = settings.password_required_characters.replace(r"\:", "\0")
    return [part.replace("\0", ":") for part in marked.split(":") if part]


def _is_too_long(password: str) -> bool:
    return len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES
