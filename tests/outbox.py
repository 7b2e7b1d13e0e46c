"""Reads the outbox folder that mail goes to in tests."""

import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote


def messages(data_dir: Path) -> list[EmailMessage]:
    """The emails that were sent, oldest first."""
    items = []
    for path in sorted((data_dir / "outbox").glob("*.eml")):
        message = message_from_bytes(path.read_bytes(), policy=policy.default)
        assert isinstance(message, EmailMessage)
        items.append(message)
    return items


def token_in(message: EmailMessage) -> str:
    """The token of the email's link."""
    match = re.search(r"\?token=(\S+)", message.get_content())
    assert match, "the email has no link"
    return unquote(match[1])
