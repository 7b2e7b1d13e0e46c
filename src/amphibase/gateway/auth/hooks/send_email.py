"""What the hook `send_email` gets of an email."""

from collections.abc import Sequence
from typing import Any

from amphibase.gateway.auth.mail_templates import AuthEmail


def email_data(
    emails: Sequence[AuthEmail], current_address: str | None, site_url: str
) -> dict[str, Any]:
    """Return the member `email_data` of the hook's payload.

    Of a change of address that both addresses confirm, `token` belongs to the current address and
    `token_new` to the new one, and `token_hash` and `token_hash_new` the other way round, as
    Supabase documents it (https://supabase.com/docs/guides/auth/auth-hooks/send-email-hook).

    Args:
        emails: one, or the two of such a change.
        current_address: of the user.
    """
    first = emails[0]
    data = {
        "token": first.token.code,
        "token_hash": first.token.token,
        "redirect_to": first.redirect_to,
        "email_action_type": first.kind,
        "site_url": site_url,
        "token_new": "",
        "token_hash_new": "",
        "old_email": "",
        "old_phone": "",
        "provider": "",
        "factor_type": "",
        **first.details,
    }
    if len(emails) > 1:
        current, new = sorted(emails, key=lambda email: email.recipient != current_address)
        data |= {
            "token": current.token.code,
            "token_hash_new": current.token.token,
            "token_new": new.token.code,
            "token_hash": new.token.token,
        }
    return data
