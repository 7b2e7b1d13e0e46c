"""Emails about accounts, sent after the response, so that its time does not reveal whether there is
an account; nor does the time of the next request, since the work is the same for every address."""

from amphibase.accounts.email_change import EmailChangeTokens
from amphibase.accounts.engine import AccountEngine
from amphibase.accounts.mail.mailer import Mailer
from amphibase.accounts.mail.templates import EmailTemplates
from amphibase.accounts.one_time_tokens import EmailToken
from amphibase.accounts.sign_up import SignUpEmail, SignUpRequest, SignUpResult, SignUps
from amphibase.accounts.user_states import awaits_invitation
from amphibase.background import Background
from amphibase.column_defaults import utc_now


class AccountEmails:
    """Issues the tokens of emails and sends them."""

    def __init__(
        self,
        engine: AccountEngine,
        sign_ups: SignUps,
        templates: EmailTemplates,
        mailer: Mailer,
        background: Background,
    ) -> None:
        self._engine = engine
        self._sign_ups = sign_ups
        self._templates = templates
        self._mailer = mailer
        self._background = background

    def send_sign_up(self, email: str, result: SignUpResult) -> None:
        """Send what a sign-up leads to: a confirmation, a hint at the account, or nothing."""
        self._background.run("Sending the email of a sign-up", self._send_sign_up(email, result))

    def send_confirmation(self, email: str, ip: str | None) -> None:
        """Send the confirmation of a pending sign-up again, if there is one.

        Args:
            ip: the client's address.
        """
        self._background.run("Sending a confirmation", self._send_confirmation(email, ip))

    def send_reset(self, email: str) -> None:
        """Send a reset link if there is an account with that address."""
        self._background.run("Sending a reset link", self._send_reset(email))

    def send_invitation(self, email: str, token: EmailToken) -> None:
        """Send an invitation."""
        message = self._templates.invitation(email, token.token)
        self._background.run("Sending an invitation", self._mailer.send(message))

    def send_email_change(
        self, current: str, new: str, tokens: EmailChangeTokens, *, is_free: bool
    ) -> None:
        """Send the links of a change of address.

        Args:
            is_free: whether the new address may be taken; else nothing is sent there.
        """
        self._background.run(
            "Sending the emails of a change of address",
            self._send_email_change(current, new, tokens, is_free=is_free),
        )

    async def _send_sign_up(self, email: str, result: SignUpResult) -> None:
        confirmation = self._templates.confirmation(email, result.token.token)
        account_exists = self._templates.account_exists(email)
        match result.email:
            case SignUpEmail.CONFIRMATION:
                await self._mailer.send(confirmation)
            case SignUpEmail.ACCOUNT_EXISTS:
                await self._mailer.send(account_exists)

    async def _send_confirmation(self, email: str, ip: str | None) -> None:
        request = SignUpRequest(email=email.lower(), password=None, user_metadata={}, ip=ip)
        async with self._engine.database.write() as connection:
            token = await self._sign_ups.renew(connection, request)
        if token is not None:
            await self._mailer.send(self._templates.confirmation(email.lower(), token.token))

    async def _send_email_change(
        self, current: str, new: str, tokens: EmailChangeTokens, *, is_free: bool
    ) -> None:
        if tokens.current is not None:
            notice = self._templates.email_change_notice(current, new, tokens.current.token)
            await self._mailer.send(notice)
        if is_free:
            await self._mailer.send(self._templates.email_change(new, tokens.new.token))

    async def _send_reset(self, email: str) -> None:
        users, tokens = self._engine.users, self._engine.tokens
        async with self._engine.database.write() as connection:
            user = await users.find_by_email(connection, email, lock=True)
            if user is not None and awaits_invitation(user):
                user = None
            if user is None:
                token = tokens.new(email, "recovery_token")
                await self._sign_ups.write_and_discard(connection, email, token)
            else:
                token = await tokens.issue(connection, user.id, "recovery_token", user.email)
                await users.change(connection, user.id, recovery_sent_at=utc_now())
        message = self._templates.reset(email if user is None else user.email, token.token)
        if user is not None:
            await self._mailer.send(message)
