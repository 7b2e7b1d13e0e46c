"""Who may sign up: everyone, invited users or no one; and with which addresses."""

from collections.abc import Sequence
from typing import Literal

from email_validator import EmailNotValidError, validate_email

from amphibase.errors import EmailDomainNotAllowed, SignUpClosed

SignUpMode = Literal["open", "invited", "closed"]


class SignUpPolicy:
    """Decides on sign-ups and invitations; an administrator can always make accounts.

    Args:
        mode: `open`, `invited` (only by an invitation) or `closed`.
        domains: the domains that addresses may have; none allows all.
    """

    def __init__(self, mode: SignUpMode, domains: Sequence[str] = ()) -> None:
        self._mode = mode
        self._domains = {canonical_domain(domain) for domain in domains}

    def check(self, email: str) -> None:
        """Raise SignUpClosed or EmailDomainNotAllowed for an address that may not sign up."""
        if self._mode != "open":
            raise SignUpClosed
        self.check_domain(email)

    def check_domain(self, email: str) -> None:
        """Raise EmailDomainNotAllowed for an address that users may not sign up with or take."""
        domain = canonical_domain(email.rpartition("@")[2])
        if self._domains and domain not in self._domains:
            raise EmailDomainNotAllowed

    def check_invitation(self) -> None:
        """Raise SignUpClosed where invitations are closed too."""
        if self._mode == "closed":
            raise SignUpClosed("Sign-up is closed here; an administrator creates the accounts")


def canonical_domain(domain: str) -> str:
    """Return a domain as the DNS has it: in lower case and ASCII (UTS 46, RFC 5891).

    A domain that has no such form is returned in lower case, and equals no other.
    """
    domain = domain.strip().rstrip(".")
    try:
        address = validate_email(
            f"anyone@{domain}", check_deliverability=False, globally_deliverable=False
        )
    except EmailNotValidError:
        return domain.casefold()
    return address.ascii_domain.lower()
