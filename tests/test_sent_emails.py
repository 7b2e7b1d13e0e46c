"""The emails that tests of an application read."""

from pathlib import Path

import pytest

from amphibase.accounts.mail.mailer import Outbox
from amphibase.accounts.mail.templates import EmailTemplates
from amphibase.testing import emails
from amphibase.testing.emails import SentEmails


async def test_each_email_to_an_address_is_returned_once_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails, "WAIT_SECONDS", 0)
    outbox, sent = Outbox(tmp_path / "outbox"), SentEmails(tmp_path / "outbox")
    templates = EmailTemplates("http://localhost", "hello@example.com")
    for address, token in (("ann", "1"), ("bob", "2"), ("ann", "3+3")):
        await outbox.send(templates.reset(f"{address}@example.com", token))
    assert await sent.next_token_to("ann@example.com") == "1"
    assert await sent.next_token_to("ANN@example.com") == "3+3"
    with pytest.raises(AssertionError, match="No further email to ann"):
        await sent.next_to("ann@example.com")
    assert "token=2" in (await sent.next_to("bob@example.com")).get_content()


async def test_an_email_is_in_the_folder_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[Path]] = []
    write = Path.write_bytes

    def look_and_write(path: Path, content: bytes) -> int:
        found.append([*tmp_path.glob("*.eml")])
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", look_and_write)
    templates = EmailTemplates("http://localhost", "hello@example.com")
    await Outbox(tmp_path).send(templates.reset("ann@example.com", "1"))
    assert found == [[]]
    assert await SentEmails(tmp_path).next_token_to("ann@example.com") == "1"
