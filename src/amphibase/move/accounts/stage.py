"""The stage of accounts: users with their hashes, identities, factors and sessions."""

from collections.abc import AsyncIterator

from amphibase.errors import AmphibaseError
from amphibase.move.accounts.base import AccountSource, AccountTarget
from amphibase.move.accounts.comparison import FINISHED, HELD
from amphibase.move.accounts.hashes import HashKind, kind_of
from amphibase.move.accounts.probe import probe
from amphibase.move.accounts.rows import SESSION_TABLES, AuthTable
from amphibase.move.accounts.sides import open_accounts, open_source
from amphibase.move.accounts.survey import AccountsSurvey, survey
from amphibase.move.accounts.transfer import AccountTransfer
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import SqlEndpoint
from amphibase.move.plan import AccountsPlan
from amphibase.move.stage import Kept, Outcome, PreflightCheck, SideDifference, Verification


class AccountsStage:
    """Moves the accounts that a plan names, by databases where they are within reach."""

    name = "accounts"

    def __init__(self, context: MoveContext) -> None:
        self._context = context
        self._plan = context.plan.accounts or AccountsPlan()
        self._transfer: AccountTransfer | None = None
        self._opened: tuple[AccountSource, AccountTarget] | None = None
        self._survey: AccountsSurvey | None = None

    async def check(self) -> list[PreflightCheck]:
        """Look at the accounts of both sides: whether they can be read and written, which hashes
        there are, and which addresses differ by case alone."""
        source, target = self._sides()
        try:
            columns = await target.columns(AuthTable.USERS)
            if not columns:
                return [_failed("the target has no tables of accounts: run its migrations first")]
            if not await source.columns(AuthTable.USERS):
                return [_failed("the source has no accounts")]
            found = await self.survey()
            held = await target.count(AuthTable.USERS)
            triggers = await target.firing_triggers()
        except AmphibaseError as error:
            return [_failed(str(error))]
        checks = [_passed(f"{found.users} accounts: {_hashes_in_words(found)}")]
        checks += [
            PreflightCheck(Outcome.WARN, self.name, f"do not move: {each.what} ({each.reason})")
            for each in found.not_moved
        ]
        checks += self._check_addresses(found)
        if triggers:
            message = (
                f"triggers of auth.users fire for each account that arrives, since the role may "
                f"not switch them off: {', '.join(triggers)}"
            )
            checks.append(PreflightCheck(Outcome.WARN, self.name, message))
        if held and not self._plan.merge and not self._has_begun():
            checks.append(
                _failed(
                    f"the target has {held} accounts already: empty it, or set merge = true in "
                    "[accounts], and they stay"
                )
            )
        return checks

    def _check_addresses(self, found: AccountsSurvey) -> list[PreflightCheck]:
        count = len(found.same_addresses)
        if not count:
            return []
        ids = "; ".join(", ".join(group) for group in found.same_addresses[:5])
        subject = f"{count} addresses belong to several accounts that differ by case alone ({ids})"
        match self._plan.same_address:
            case "ask":
                return [
                    _failed(
                        f'{subject}: set same_address = "first" or "last" in [accounts], by which '
                        "the oldest or the newest account of each moves"
                    )
                ]
            case which:
                message = (
                    f"{subject}: the {which} of each moves. Rows of tables that belong to the "
                    "others move all the same, unless a foreign key of the target rejects them"
                )
                return [PreflightCheck(Outcome.WARN, self.name, message)]

    async def survey(self) -> AccountsSurvey:
        """Return what the source's accounts are, and what of them stays behind."""
        if self._survey is None:
            source, target = self._sides()
            self._survey = await survey(source, target, sessions=self._moves_sessions())
        return self._survey

    async def run(self) -> None:
        """Copy the accounts that are not on the target yet."""
        await (await self._moving()).run()

    async def reconcile(self) -> int:
        """Copy what has changed since, and remove what the source has lost."""
        return await (await self._moving()).reconcile()

    async def verify(self) -> Verification:
        """Compare both sides, and sign in with a probe account where the plan allows it."""
        marks = await self.marks()
        verified = await (await self._moving()).verify()
        verified.marks = marks
        found = await self.survey()
        verified.hashes = {str(kind): count for kind, count in found.hashes.items()}
        verified.not_moved = found.not_moved
        if not self._sides()[0].finds_rows or not self._sides()[1].finds_rows:
            reason = "the API of a project shows no hashes, so that none were compared"
            verified.unverified.append(SideDifference("accounts", None, reason))
        if self._context.plan.verify.probe_account:
            failure = await probe(self._context.target)
            if failure is not None:
                message = f"the probe account could not sign in: {failure}"
                verified.differences.append(SideDifference("accounts", None, message))
        return verified

    async def marks(self) -> dict[str, str]:
        """Return the checksums of the target's tables of accounts."""
        return await (await self._moving()).marks()

    async def undo(self) -> AsyncIterator[Kept]:
        """Remove the accounts that the move made and nobody changed or used since."""
        async for kept in (await self._moving()).undo():
            yield kept

    async def must_reset(self) -> AsyncIterator[str]:
        """Yield the addresses, else the numbers or ids, of users who need a new password.

        Of a source that shows no hashes these are the users of the target without one; where
        neither side shows any, all users.
        """
        source, target = self._sides()
        source_columns, target_columns = [
            await side.columns(AuthTable.USERS) for side in (source, target)
        ]
        has_hashes = "encrypted_password" in source_columns
        side, columns = source, source_columns
        if not has_hashes and "encrypted_password" in target_columns:
            side, columns = target, target_columns
        wanted = {"id", "email", "phone", "encrypted_password"}
        async for page in side.read(AuthTable.USERS, columns & wanted):
            for row in page.rows:
                kind = kind_of(row.get("encrypted_password"))
                if not kind.moves or (kind is HashKind.NONE and not has_hashes):
                    yield row.get("email") or row.get("phone") or str(row["id"])

    async def finish(self) -> None:
        """Remember that all has moved; nothing was put beside the accounts on either side."""
        self._context.journal.put(FINISHED, "run", True)

    async def close(self) -> None:
        """Close the connections."""
        for side in self._opened or ():
            await side.close()
        self._opened = self._transfer = None

    def _sides(self) -> tuple[AccountSource, AccountTarget]:
        if self._opened is None:
            target = open_accounts(self._context.target, identities=self._plan.identities)
            self._opened = open_source(self._context), target
        return self._opened

    async def _moving(self) -> AccountTransfer:
        if self._transfer is None:
            source, target = self._sides()
            self._transfer = AccountTransfer(
                source, target, self._tables(), self._context, await self._left_out()
            )
        return self._transfer

    async def _left_out(self) -> frozenset[str]:
        """Return the ids of users whose address another has in another case, and who stay."""
        if self._plan.same_address == "ask":
            return frozenset()
        kept = 0 if self._plan.same_address == "first" else -1
        groups = (await self.survey()).same_addresses
        return frozenset(id for group in groups for id in group if id != group[kept])

    def _tables(self) -> list[AuthTable]:
        tables = [AuthTable.USERS, AuthTable.IDENTITIES]
        if self._plan.factors:
            tables.append(AuthTable.FACTORS)
        if self._moves_sessions():
            tables += SESSION_TABLES
        return tables

    def _moves_sessions(self) -> bool:
        """Return whether sessions go on: where tokens are stored hashed, a plain one is found too,
        and the other way round it is not."""
        return self._plan.sessions and isinstance(self._context.target, SqlEndpoint)

    def _has_begun(self) -> bool:
        return self._context.journal.get(HELD, AuthTable.USERS) is not None


def _passed(message: str) -> PreflightCheck:
    return PreflightCheck(Outcome.PASS, AccountsStage.name, message)


def _failed(message: str) -> PreflightCheck:
    return PreflightCheck(Outcome.FAIL, AccountsStage.name, message)


def _hashes_in_words(found: AccountsSurvey) -> str:
    if not found.shows_hashes:
        return "their hashes cannot be read"
    return ", ".join(f"{count} {kind}" for kind, count in found.hashes.most_common()) or "none"
