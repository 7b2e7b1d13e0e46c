"""Accounts of a Supabase project whose database is out of reach, over the admin API."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from amphibase.move.accounts.admin_api import (
    IN_FLIGHT,
    REJECTIONS,
    USER_TIMES,
    AdminApi,
    JsonObject,
    differences,
    digest,
    rows_of,
)
from amphibase.move.accounts.base import RejectedAccount, RowPage
from amphibase.move.accounts.rows import OWN_PROVIDERS, AuthTable, Values
from amphibase.move.parallel import in_parallel

SHOWN = {
    AuthTable.USERS: frozenset(
        {
            "id", "aud", "role", "email", "phone", "raw_app_meta_data", "raw_user_meta_data",
            "is_anonymous", "is_sso_user", *USER_TIMES,
        }
    ),
    AuthTable.IDENTITIES: frozenset(
        {
            "id", "provider_id", "provider", "user_id", "identity_data", "last_sign_in_at",
            "created_at", "updated_at",
        }
    ),
}  # fmt: skip
"""The columns that Auth shows: no hash, no secret, no session."""


class ApiAccounts:
    """The accounts of one project.

    Args:
        identities: whether identities of other providers belong to the accounts.
    """

    finds_rows = False

    def __init__(self, api: AdminApi, *, identities: bool = True) -> None:
        self._api = api
        self._identities = identities

    async def columns(self, table: AuthTable) -> frozenset[str]:
        return SHOWN.get(table, frozenset())

    async def count(self, table: AuthTable) -> int:
        if table not in SHOWN:
            return 0
        if table is AuthTable.USERS and (total := await self._api.count()) is not None:
            return total
        return sum([len(page.rows) async for page in self.read(table, ("id",))])

    async def read(
        self, table: AuthTable, columns: Collection[str], after: str | None = None
    ) -> AsyncIterator[RowPage]:
        number = int(after or 0)
        async for users in self._api.pages(number + 1):
            number += 1
            if table is AuthTable.IDENTITIES:
                users = await self._with_identities(users)
            yield RowPage(
                [row for user in users for row in self._rows(table, columns, user)], str(number)
            )

    async def _with_identities(self, users: list[JsonObject]) -> list[JsonObject]:
        """Return users with their identities, which some versions of Auth show one by one only."""
        found: list[JsonObject] = []

        async def find(user: JsonObject) -> None:
            shown = user if user.get("identities") else await self._api.get(str(user["id"]))
            found.extend([shown] if shown is not None else [])

        await in_parallel(users, find, IN_FLIGHT)
        return found

    async def rows(
        self, table: AuthTable, columns: Collection[str], keys: Sequence[str]
    ) -> Mapping[str, Values]:
        found: dict[str, Values] = {}

        async def find(key: str) -> None:
            user = await self._api.get(key)
            if user is not None:
                found.update((str(row["id"]), row) for row in self._rows(table, columns, user))

        if table is AuthTable.USERS:
            await in_parallel(keys, find, IN_FLIGHT)
        return found

    async def written_columns(self, table: AuthTable) -> frozenset[str]:
        shown = await self.columns(table)
        return shown | {"encrypted_password"} if table is AuthTable.USERS else shown

    def takes(self, table: AuthTable, row: Values) -> bool:
        return (
            table is AuthTable.USERS
            and bool(row.get("email") or row.get("phone"))
            and not row.get("deleted_at")
            and row.get("is_sso_user") != "t"
            and row.get("is_anonymous") != "t"
        )

    async def insert(self, table: AuthTable, rows: Sequence[Values]) -> list[RejectedAccount]:
        rejected: list[RejectedAccount] = []

        async def create(row: Values) -> None:
            if reason := await self._api.create(row):
                rejected.append(RejectedAccount(row, reason))

        await in_parallel(rows, create, IN_FLIGHT)
        return rejected

    async def change(self, table: AuthTable, rows: Sequence[Values]) -> list[RejectedAccount]:
        rejected: list[RejectedAccount] = []

        async def change(row: Values) -> None:
            try:
                await self._api.change(row)
            except REJECTIONS as error:
                rejected.append(RejectedAccount(row, str(error)))

        await in_parallel(rows, change, IN_FLIGHT)
        return rejected

    async def delete(self, table: AuthTable, keys: Sequence[str]) -> None:
        async def delete(key: str) -> None:
            await self._api.delete(key)

        await in_parallel(keys, delete, IN_FLIGHT)

    async def firing_triggers(self) -> Sequence[str]:
        return ()

    async def in_use(self, ids: Sequence[str]) -> Mapping[str, str]:
        return {}

    def differences(self, table: AuthTable, sent: Values, there: Values) -> list[str]:
        return differences(sent, there)

    def digest(self, table: AuthTable, row: Values, columns: Collection[str]) -> str:
        return digest(row)

    async def close(self) -> None:
        await self._api.close()

    def _rows(
        self, table: AuthTable, columns: Collection[str], user: Mapping[str, object]
    ) -> Sequence[Values]:
        row, identities = rows_of(user)
        chosen = [row]
        if table is AuthTable.IDENTITIES:
            chosen = [
                each for each in identities if self._identities or each["provider"] in OWN_PROVIDERS
            ]
        names = SHOWN[table] & {"id", *columns}
        return [{name: each.get(name) for name in names} for each in chosen]
