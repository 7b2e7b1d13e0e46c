"""Letters to the people behind accounts of an SQL home, written after the answer, so that neither
the answer nor its time tells whether there was one."""

from amphibase.accounts.mail.mailer import Letters, Mailer
from amphibase.accounts.one_time_tokens import Links
from amphibase.accounts.users import AccountRows
from amphibase.background import Background
from amphibase.database.engine import Database
from amphibase.models import utc_now


class Correspondence:
    """Writes the letters, with a link each, and sends them."""

    def __init__(
        self,
        database: Database,
        rows: AccountRows,
        links: Links,
        letters: Letters,
        mailer: Mailer,
        background: Background,
    ) -> None:
        self._database = database
        self._rows = rows
        self._links = links
        self._letters = letters
        self._mailer = mailer
        self._background = background

    def send_confirmation_later(self, email: str) -> None:
        """Ask for confirmation if there is such an account and it awaits that."""
        self._background.run("A confirmation mail", self._send_confirmation(email))

    def send_reset_later(self, email: str) -> None:
        """Send a reset link if there is such an account."""
        self._background.run("A reset mail", self._send_reset(email))

    async def _send_confirmation(self, email: str) -> None:
        async with self._database.write() as connection:
            row = await self._rows.find_by_email(connection, email, lock=True)
            if row is None or row.email_confirmed_at is not None:
                return
            token = await self._links.issue(connection, row.id, "confirmation_token", row.email)
            await self._rows.change(connection, row.id, confirmation_sent_at=utc_now())
        await self._mailer.send(self._letters.confirmation(row.email, token))

    async def _send_reset(self, email: str) -> None:
        async with self._database.write() as connection:
            row = await self._rows.find_by_email(connection, email, lock=True)
            if row is None:
                return
            token = await self._links.issue(connection, row.id, "recovery_token", row.email)
            await self._rows.change(connection, row.id, recovery_sent_at=utc_now())
        await self._mailer.send(self._letters.reset(row.email, token))
