"""The emails that an application under test sends."""

import asyncio
import re
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote

WAIT_SECONDS = 5.0
POLL_SECONDS = 0.01


class SentEmails:
    """Reads the outbox folder of an application; each email is returned once.

    Args:
        folder: where emails are written while `MAIL_URL` names no mail server.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._returned: set[Path] = set()

    async def next_to(self, address: str) -> EmailMessage:
        """Return the next email to an address, oldest first; wait for it, since emails are sent
        after the response.

        Raises:
            AssertionError: none has come within five seconds.
        """
        end = time.monotonic() + WAIT_SECONDS
        while True:
            for path in sorted(set(self._folder.glob("*.eml")) - self._returned):
                message = message_from_bytes(path.read_bytes(), policy=policy.default)
                assert isinstance(message, EmailMessage)
                if str(message["To"]).lower() == address.lower():
                    self._returned.add(path)
                    return message
            if time.monotonic() > end:
                raise AssertionError(f"No further email to {address} was sent")
            await asyncio.sleep(POLL_SECONDS)

    async def next_token_to(self, address: str) -> str:
        """Return the token in the link of the next email to an address; see `next_to`."""
        message = await self.next_to(address)
        match = re.search(r"\?token=(\S+)", message.get_content())
        assert match, f"The email to {address} has no link with a token"
        return unquote(match[1])
