"""The emails of Auth, as its settings name them."""

EMAILS = (
    "invite",
    "confirmation",
    "recovery",
    "magic_link",
    "email_change",
    "reauthentication",
)
"""Those that a user or an administrator asks for."""

NOTIFICATIONS = (
    "password_changed",
    "email_changed",
    "phone_changed",
    "identity_linked",
    "identity_unlinked",
    "mfa_factor_enrolled",
    "mfa_factor_unenrolled",
)
"""What users are told of where a project wants it."""
