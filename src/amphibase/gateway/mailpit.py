"""The JSON of Mailpit's API, by which tests read the emails of a project
(https://mailpit.axllent.org/docs/api-v1/).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

SNIPPET_CHARACTERS = 250

_TERM = re.compile(r'(?P<no>[-!]?)(?:(?P<field>[a-z]+):)?(?:"(?P<quoted>[^"]*)"|(?P<plain>\S+))')


@dataclass
class StoredEmail:
    """An email of the inbox.

    Attributes:
        html: its own, or its text with links.
        is_read: whether somebody has opened it.
    """

    id: str
    message: EmailMessage
    created_at: datetime
    html: str
    is_read: bool = False

    @property
    def text(self) -> str:
        body = self.message.get_body(("plain",))
        return str(body.get_content()) if body else ""

    @property
    def subject(self) -> str:
        return str(self.message["Subject"] or "")


def summary_list(
    found: Sequence[StoredEmail], stored: Sequence[StoredEmail], start: int, limit: int
) -> dict[str, Any]:
    """Describe a page of emails.

    Args:
        found: those that are listed, newest first.
        stored: all of the inbox.
        start: how many of them come before the page.
    """
    page = found[start : start + limit]
    return {
        "total": len(stored),
        "unread": _unread(stored),
        "count": len(page),
        "messages_count": len(found),
        "messages_unread": _unread(found),
        "start": start,
        "tags": [],
        "messages": [_summary(email) for email in page],
    }


def _unread(emails: Iterable[StoredEmail]) -> int:
    return sum(not email.is_read for email in emails)


def _summary(email: StoredEmail) -> dict[str, Any]:
    return {
        **_envelope(email),
        "Read": email.is_read,
        "Created": email.created_at.isoformat(),
        "Attachments": 0,
        "Snippet": " ".join(email.text.split())[:SNIPPET_CHARACTERS],
    }


def detail(email: StoredEmail) -> dict[str, Any]:
    """Describe one email, with its text."""
    return {
        **_envelope(email),
        "ReturnPath": _addresses(email.message, "From")[0]["Address"],
        "ListUnsubscribe": {"Header": "", "Links": [], "Errors": "", "HeaderPost": ""},
        "Date": email.created_at.isoformat(),
        "Text": email.text,
        "HTML": email.html,
        "Inline": [],
        "Attachments": [],
    }


def _envelope(email: StoredEmail) -> dict[str, Any]:
    message = email.message
    return {
        "ID": email.id,
        "MessageID": str(message["Message-ID"] or "").strip("<>"),
        "From": _addresses(message, "From")[0],
        **{name: _addresses(message, name) for name in ("To", "Cc", "Bcc")},
        "ReplyTo": _addresses(message, "Reply-To"),
        "Subject": email.subject,
        "Username": "",
        "Tags": [],
        "Size": len(bytes(message)),
    }


def _addresses(message: EmailMessage, header: str) -> list[dict[str, str]]:
    values = [str(value) for value in message.get_all(header, [])]
    return [{"Name": name, "Address": address} for name, address in getaddresses(values)]


def headers(email: StoredEmail) -> dict[str, list[str]]:
    """Return the headers of an email, by name."""
    names = dict.fromkeys(email.message.keys())
    return {name: [str(each) for each in email.message.get_all(name, [])] for name in names}


def search(emails: Iterable[StoredEmail], query: str) -> list[StoredEmail]:
    """Return the emails that a query of Mailpit's search finds.

    Args:
        query: words and `field:value`, all of which have to hold; `-` or `!` before one excludes.
            An unknown field holds of none.
    """
    terms = [match.groupdict() for match in _TERM.finditer(query)]
    return [email for email in emails if all(_holds(email, **term) for term in terms)]


def _holds(
    email: StoredEmail, no: str, field: str | None, quoted: str | None, plain: str | None
) -> bool:
    value = (plain if quoted is None else quoted) or ""
    if field == "is":
        holds = value.lower() == ("read" if email.is_read else "unread")
    else:
        text = _FIELDS.get(field or "", _nothing)(email)
        holds = text is not None and value.lower() in text.lower()
    return holds is not bool(no)


def _header(*names: str) -> Callable[[StoredEmail], str]:
    return lambda email: " ".join(
        str(value) for name in names for value in email.message.get_all(name, [])
    )


def _nothing(email: StoredEmail) -> None:
    return None


_FIELDS: Mapping[str, Callable[[StoredEmail], str | None]] = {
    "": lambda email: f"{_header('From', 'To', 'Cc', 'Subject')(email)} {email.text}",
    "to": _header("To"),
    "from": _header("From"),
    "cc": _header("Cc"),
    "addressed": _header("From", "To", "Cc", "Bcc", "Reply-To"),
    "subject": _header("Subject"),
    "id": lambda email: email.id,
}
