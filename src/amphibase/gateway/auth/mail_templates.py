"""The messages of Auth, and the queue that takes them."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, Protocol
from urllib.parse import quote, urlsplit
from uuid import UUID

from amphibase.accounts.mail.mailer import Mailer, Smtp
from amphibase.accounts.mail.templates import compose, transfer_encoding
from amphibase.accounts.one_time_tokens import EmailToken
from amphibase.backend import NO_CLAIMS, Claims
from amphibase.background import Background
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.email_names import NOTIFICATIONS
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.go_expression import TemplateError
from amphibase.gateway.auth.go_template import Escape, GoTemplate
from amphibase.gateway.auth.remote_templates import RemoteTemplates
from amphibase.gateway.auth.settings import AuthSettings
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.auth")

_IS_URL = re.compile(r"https?://\S+")

NOT_YOU = "If you did not ask for this, there is nothing you need to do."
NOT_YOUR_CHANGE = (
    "If it was not you, choose another password and tell the people who run this site."
)
NOT_YOUR_SIGN_UP = (
    "If you did not sign up, do not follow the link: someone else entered your address."
)


class EmailQueue(Protocol):
    """Takes messages to send."""

    def put(self, message: EmailMessage) -> None:
        """Accept a message; the caller does not wait for its delivery."""


class BackgroundQueue:
    """Sends messages after the response, so that its time does not reveal whether one was sent."""

    def __init__(self, mailer: Mailer, background: Background) -> None:
        self._mailer = mailer
        self._background = background

    def put(self, message: EmailMessage) -> None:
        self._background.run("Sending an email", self._mailer.send(message))


def build_queue(settings: AuthSettings, background: Background, outbox: EmailQueue) -> EmailQueue:
    """Return a queue to the mail server where one is configured, else the outbox."""
    return BackgroundQueue(Smtp(settings.smtp_url), background) if settings.smtp_url else outbox


@dataclass(frozen=True, slots=True)
class AuthEmail:
    """An email of Auth, as a message and as what a hook sends instead of it.

    Attributes:
        kind: the type of the verification, `reauthentication` or a notification; empty for an
            email that leads to nothing.
        redirect_to: where its link leads to at last.
        user_id: whom a notification is about.
        details: what else a hook gets of a notification.
    """

    message: EmailMessage
    recipient: str
    kind: str = ""
    token: EmailToken = field(default_factory=lambda: EmailToken(""))
    redirect_to: str = ""
    user_id: UUID | None = None
    details: Mapping[str, str] = field(default_factory=lambda: NO_CLAIMS)


TEMPLATES: Mapping[str, str] = {
    "signup": "confirmation",
    "invite": "invite",
    "recovery": "recovery",
    "magiclink": "magic_link",
    "email_change": "email_change",
    "reauthentication": "reauthentication",
    **{f"{name}_notification": f"{name}_notification" for name in NOTIFICATIONS},
}
"""The names of subjects and templates, by the kind of the email."""

SENDS_EMAIL = frozenset(
    (
        ("POST", "/signup"),
        ("POST", "/otp"),
        ("POST", "/magiclink"),
        ("POST", "/recover"),
        ("POST", "/resend"),
        ("POST", "/invite"),
        ("GET", "/reauthenticate"),
        ("PUT", "/user"),
        ("GET", "/verify"),
        ("POST", "/verify"),
        ("GET", "/callback"),
        ("POST", "/callback"),
        ("DELETE", "/user/identities/{id}"),
        ("POST", "/factors/{id}/verify"),
        ("DELETE", "/factors/{id}"),
    )
)
"""Endpoints that send emails, with or without a user: the time of a response says nothing."""


class MailTemplates:
    """Composes the messages; each holds a link, and the code that stands for it.

    Beside its plain text, a message has the HTML of the project's own template, where there is one.

    Args:
        remote: templates at URLs, which come before those of the settings.
    """

    def __init__(self, settings: AuthSettings, remote: RemoteTemplates) -> None:
        self._settings = settings
        self._remote = remote

    def link(self, kind: str, token: str, redirect_to: str) -> str:
        """Return the link that verifies a token.

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

    def confirmation(
        self, email: str, token: EmailToken, redirect_to: str, data: Claims = NO_CLAIMS
    ) -> AuthEmail:
        """Return the message with the link to confirm the address of a sign-up."""
        lead = "Follow this link to confirm your email address:"
        return self._link_message(
            email,
            "Confirm your email address",
            lead,
            "signup",
            token,
            redirect_to,
            data,
            NOT_YOUR_SIGN_UP,
        )

    def account_exists(self, email: str) -> AuthEmail:
        """Return the message to the owner of an address that was used for another sign-up."""
        message = self._compose(
            email,
            "You have an account already",
            "Someone signed up with your email address, which has an account already. Nothing has "
            f"changed.\n\nIf it was you, sign in at {self._settings.site_url}\n",
        )
        return AuthEmail(message, email)

    def invitation(
        self, email: str, token: EmailToken, redirect_to: str, data: Claims = NO_CLAIMS
    ) -> AuthEmail:
        """Return an invitation."""
        host = urlsplit(self._settings.site_url).hostname
        lead = f"You have been invited to {host}. Follow this link to accept:"
        return self._link_message(
            email, "You've been invited", lead, "invite", token, redirect_to, data
        )

    def recovery(
        self, email: str, token: EmailToken, redirect_to: str, data: Claims = NO_CLAIMS
    ) -> AuthEmail:
        """Return the message whose link signs in to choose a new password."""
        lead = "Follow this link to choose a new password:"
        return self._link_message(
            email, "Reset your password", lead, "recovery", token, redirect_to, data
        )

    def magic_link(
        self, email: str, token: EmailToken, redirect_to: str, data: Claims = NO_CLAIMS
    ) -> AuthEmail:
        """Return the message whose link signs in."""
        lead = "Follow this link to sign in:"
        return self._link_message(
            email, "Your sign-in link", lead, "magiclink", token, redirect_to, data
        )

    def email_change(
        self,
        email: str,
        old: str,
        new: str,
        token: EmailToken,
        redirect_to: str,
        data: Claims = NO_CLAIMS,
    ) -> AuthEmail:
        """Return the message with the link to another address; the old one may get it too."""
        change = f"from {old} to {new}" if old else f"to {new}"
        lead = f"Follow this link to change your email address {change}:"
        subject = "Confirm your new email address"
        return self._link_message(
            email,
            subject,
            lead,
            "email_change",
            token,
            redirect_to,
            data,
            addresses={
                "Email": old or new,
                "OldEmail": old,
                "NewEmail": new,
                "SendingTo": email,
            },
        )

    def reauthentication(
        self, email: str, token: EmailToken, data: Claims = NO_CLAIMS
    ) -> AuthEmail:
        """Return the message with the code that a new password requires."""
        message = self._compose(
            email,
            f"{token.code} is your verification code",
            f"Enter this code:\n\n{token.code}\n\n{NOT_YOU}\n",
            "reauthentication",
            {"Email": email, "Token": token.code, "Data": data},
        )
        return AuthEmail(message, email, "reauthentication", token)

    def notification(
        self,
        kind: str,
        email: str,
        subject: str,
        text: str,
        values: Mapping[str, Any],
        **options: Any,
    ) -> AuthEmail:
        """Return the message that says what has changed of an account.

        Args:
            kind: the name of its template.
            values: of the template.
            options: of the `AuthEmail`.
        """
        message = self._compose(email, subject, f"{text}\n\n{NOT_YOUR_CHANGE}\n", kind, values)
        return AuthEmail(message, email, kind, **options)

    def _link_message(
        self,
        email: str,
        subject: str,
        lead: str,
        kind: str,
        token: EmailToken,
        redirect_to: str,
        data: Claims,
        caution: str = NOT_YOU,
        addresses: Mapping[str, str] = NO_CLAIMS,
    ) -> AuthEmail:
        link = self.link(kind, token.token, redirect_to)
        message = self._compose(
            email,
            subject,
            f"{lead}\n\n{link}\n\nOr enter the code: {token.code}\n\n{caution}\n",
            kind,
            {
                "ConfirmationURL": link,
                "Token": token.code,
                "TokenHash": token.token,
                "RedirectTo": redirect_to,
                "Email": email,
                "Data": data,
                **addresses,
            },
        )
        return AuthEmail(message, email, kind, token, redirect_to)

    def _compose(
        self,
        email: str,
        subject: str,
        text: str,
        kind: str = "",
        values: Mapping[str, Any] = NO_CLAIMS,
    ) -> EmailMessage:
        settings = self._settings
        values = {**values, "SiteURL": settings.site_url}
        content: str | None = None
        if name := TEMPLATES.get(kind):
            own_subject = _render(name, getattr(settings, f"mailer_subjects_{name}"), values)
            if own_subject is not None:
                # In one line, without control characters: a value of the user's adds no header.
                subject = "".join(filter(str.isprintable, " ".join(own_subject.split())))
            template = self._remote.get(name) or getattr(settings, f"mailer_template_{name}")
            content = _render(name, template, values, html.escape)
        host = urlsplit(settings.site_url).hostname
        message = compose(settings.sender, email, subject, text, host=host)
        content = _as_html(text) if content is None else content
        message.add_alternative(content, subtype="html", cte=transfer_encoding(content))
        return message


def _as_html(text: str) -> str:
    """Return the paragraphs of a text in HTML, those that are a URL as links."""
    paragraphs = (html.escape(paragraph) for paragraph in text.strip().split("\n\n"))
    return "\n".join(
        f'<p><a href="{each}">{each}</a></p>' if _IS_URL.fullmatch(each) else f"<p>{each}</p>"
        for each in paragraphs
    )


def _render(
    name: str,
    template: GoTemplate | str | None,
    values: Mapping[str, Any],
    escape: Escape = str,
) -> str | None:
    if template is None:
        return None
    try:
        template = GoTemplate(template) if isinstance(template, str) else template
        return template.render(values, escape)
    except TemplateError as error:
        logger.error("The template of the email %s cannot be written: %s", name, error)
        message = f"Error sending {name.replace('_', ' ')} email"
        raise AuthError(codes.UNEXPECTED_FAILURE, message) from None
