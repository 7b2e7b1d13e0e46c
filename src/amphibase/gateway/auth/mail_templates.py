"""The letters of Auth, and how they get to people."""

from email.message import EmailMessage
from typing import Protocol
from urllib.parse import quote, urlsplit

from amphibase.accounts.mail.mailer import Mailer, Smtp, compose
from amphibase.background import Background
from amphibase.gateway.auth.codes import Secret
from amphibase.gateway.auth.settings import AuthSettings

NOT_YOU = "If you did not ask for this, there is nothing you need to do."


class Post(Protocol):
    """Takes letters."""

    def put(self, message: EmailMessage) -> None:
        """Take a letter; whether it arrives is not waited for."""


class MailServer:
    """Sends letters after the answer, so that its time tells nobody whether there was one."""

    def __init__(self, mailer: Mailer, background: Background) -> None:
        self._mailer = mailer
        self._background = background

    def put(self, message: EmailMessage) -> None:
        self._background.run("A letter", self._mailer.send(message))


def build_post(settings: AuthSettings, background: Background, outbox: Post) -> Post:
    """The mail server where one is configured, else the outbox."""
    return MailServer(Smtp(settings.smtp_url), background) if settings.smtp_url else outbox


class Letters:
    """Writes the letters; each holds a link, and the code that means the same."""

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings

    def link(self, kind: str, token: str, redirect_to: str) -> str:
        """The link that verifies a token.

        Args:
            kind: of the verification: `signup`, `invite`, `recovery`, `magiclink`, `email_change`.
        """
        settings = self._settings
        path = {
            "signup": settings.mailer_urlpaths_confirmation,
            "invite": settings.mailer_urlpaths_invite,
            "recovery": settings.mailer_urlpaths_recovery,
            "magiclink": settings.mailer_urlpaths_recovery,
            "email_change": settings.mailer_urlpaths_email_change,
        }[kind]
        return (
            f"{settings.verify_url(path)}?token={quote(token)}&type={kind}"
            f"&redirect_to={quote(redirect_to, safe=':/')}"
        )

    def confirmation(self, email: str, secret: Secret, redirect_to: str) -> EmailMessage:
        """Asks to confirm the address of a sign-up."""
        lead = "Follow this link to confirm your email address:"
        return self._letter(email, "Confirm your signup", lead, "signup", secret, redirect_to)

    def invitation(self, email: str, secret: Secret, redirect_to: str) -> EmailMessage:
        """Invites somebody."""
        host = urlsplit(self._settings.site_url).hostname
        lead = f"You have been invited to {host}. Follow this link to accept:"
        return self._letter(email, "You have been invited", lead, "invite", secret, redirect_to)

    def recovery(self, email: str, secret: Secret, redirect_to: str) -> EmailMessage:
        """Lets the reader in to choose a new password."""
        lead = "Follow this link to choose a new password:"
        return self._letter(email, "Reset your password", lead, "recovery", secret, redirect_to)

    def magic_link(self, email: str, secret: Secret, redirect_to: str) -> EmailMessage:
        """Lets the reader in."""
        lead = "Follow this link to sign in:"
        return self._letter(email, "Your magic link", lead, "magiclink", secret, redirect_to)

    def email_change(
        self, email: str, old: str, new: str, secret: Secret, redirect_to: str
    ) -> EmailMessage:
        """Asks to confirm another address; goes to the new one and, if so set, to the old one."""
        change = f"from {old} to {new}" if old else f"to {new}"
        lead = f"Follow this link to change your email address {change}:"
        subject = "Confirm your new email address"
        return self._letter(email, subject, lead, "email_change", secret, redirect_to)

    def reauthentication(self, email: str, secret: Secret) -> EmailMessage:
        """Holds the code that a new password asks for."""
        return self._compose(
            email,
            "Confirm that it is you",
            f"Enter this code:\n\n{secret.code}\n\n{NOT_YOU}\n",
        )

    def _letter(
        self, email: str, subject: str, lead: str, kind: str, secret: Secret, redirect_to: str
    ) -> EmailMessage:
        return self._compose(
            email,
            subject,
            f"{lead}\n\n{self.link(kind, secret.token, redirect_to)}\n\n"
            f"Or enter this code: {secret.code}\n\n{NOT_YOU}\n",
        )

    def _compose(self, email: str, subject: str, text: str) -> EmailMessage:
        host = urlsplit(self._settings.site_url).hostname
        return compose(self._settings.sender, email, subject, text, host=host)
