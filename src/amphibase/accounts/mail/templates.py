"""The messages that the application sends to the owners of its accounts."""

from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import quote, urlsplit

MAX_LINE_BYTES = 998


class EmailTemplates:
    """Composes the messages.

    Args:
        public_url: where the links lead.
        sender: the From address.
        routes_prefix: where `/auth` is below the public URL.
    """

    def __init__(self, public_url: str, sender: str, routes_prefix: str = "") -> None:
        self._routes_prefix = routes_prefix
        self._public_url = public_url
        self._sender = sender

    def confirmation(self, email: str, token: str) -> EmailMessage:
        """Return the message with the link to confirm the address of a sign-up."""
        return self._link(
            email,
            "Confirm your email address",
            "Open this link to confirm your email address:",
            f"/auth/email/verify?token={quote(token)}",
            # Confirming another person's sign-up would make their password the account's.
            "If you did not sign up, do not open it: someone else entered your address.",
        )

    def account_exists(self, email: str) -> EmailMessage:
        """Return the message to the owner of an address that was used for another sign-up."""
        return compose(
            self._sender,
            email,
            "You have an account already",
            "Someone signed up with your email address, which has an account already. "
            "Nothing has changed.\n\n"
            f"If it was you, sign in, or ask for a new password:\n\n{self._public_url}\n",
            host=urlsplit(self._public_url).hostname,
        )

    def invitation(self, email: str, token: str) -> EmailMessage:
        """Return an invitation."""
        return self._link(
            email,
            "You have been invited",
            f"You have been invited to {urlsplit(self._public_url).hostname}. "
            "Open this link to accept:",
            f"/auth/invitations/accept?token={quote(token)}",
            "If you do not want to, there is nothing you need to do.",
            lifetime="one week",
        )

    def email_change(self, email: str, token: str) -> EmailMessage:
        """Return the message with the link to confirm a new address of an account."""
        return self._link(
            email,
            "Confirm your new email address",
            "Open this link to make this the email address of your account:",
            f"/auth/email/change/confirm?token={quote(token)}",
            "If you did not ask for it, do not open it: someone else entered your address.",
        )

    def email_change_notice(self, email: str, new: str, token: str) -> EmailMessage:
        """Return the message to the address that an account has, with a link of its own."""
        return self._link(
            email,
            "Your email address is about to change",
            f"Someone who is signed in to your account asked to change its address to {new}. "
            "If it was you, confirm the email that was sent there; where you are not signed in, "
            "open this link too:",
            f"/auth/email/change/confirm?token={quote(token)}",
            "If it was not you, change your password: that ends the change.",
        )

    def reset(self, email: str, token: str) -> EmailMessage:
        """Return the message that lets its reader choose a new password."""
        return self._link(
            email,
            "Reset your password",
            "Someone requested a new password for your account. Open this link to choose one:",
            f"/auth/password/reset?token={quote(token)}",
            "If you did not ask for it, there is nothing you need to do.",
        )

    def _link(
        self,
        email: str,
        subject: str,
        lead: str,
        path: str,
        caution: str,
        *,
        lifetime: str = "one hour",
    ) -> EmailMessage:
        return compose(
            self._sender,
            email,
            subject,
            f"{lead}\n\n{self._public_url}{self._routes_prefix}{path}\n\n"
            f"The link is valid for {lifetime} and works once. {caution}\n",
            host=urlsplit(self._public_url).hostname,
        )


def compose(sender: str, email: str, subject: str, text: str, *, host: str | None) -> EmailMessage:
    """Return a message of plain text.

    Args:
        host: the domain of its Message-ID.
    """
    email = _deliverable(email)
    from email import policy  # whose parser takes memory until the first email

    message = EmailMessage(policy.default if email.isascii() else policy.default.clone(utf8=True))
    message["From"] = sender
    message["To"] = email
    message["Subject"] = subject
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = make_msgid(domain=host)
    message.set_content(text, cte=transfer_encoding(text))
    return message


def transfer_encoding(text: str) -> str:
    """Return how a text is sent: as it is, unless a line is too long (RFC 5322, section 2.1.1).

    Mail servers break such a line, in the middle of a link too.
    """
    is_short = all(len(line) <= MAX_LINE_BYTES for line in text.encode().splitlines())
    return "8bit" if is_short else "quoted-printable"


def _deliverable(email: str) -> str:
    """Return the address with its domain as the DNS has it, which every mail server accepts."""
    from email_validator import EmailNotValidError, validate_email  # compiles its patterns

    try:
        address = validate_email(email, check_deliverability=False)
    except EmailNotValidError:
        return email
    return address.ascii_email or f"{address.local_part}@{address.ascii_domain}"
