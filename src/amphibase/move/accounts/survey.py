"""What the accounts of a source are, and what of them a target cannot take."""

import json
from collections import Counter
from dataclasses import dataclass, field

from amphibase.move.accounts.base import AccountSource, AccountTarget
from amphibase.move.accounts.hashes import HashKind, kind_of
from amphibase.move.accounts.rows import OWN_PROVIDERS, AuthTable
from amphibase.move.plan import NotMoved

USER_COLUMNS = frozenset(
    {
        "id", "email", "phone", "encrypted_password", "deleted_at", "is_sso_user", "is_anonymous",
        "created_at",
    }
)  # fmt: skip

METADATA_COLUMNS = frozenset({"raw_app_meta_data", "raw_user_meta_data"})


@dataclass(slots=True)
class AccountsSurvey:
    """The accounts of a source.

    Args:
        shows_hashes: whether hashes can be read at all.
        same_addresses: ids of users whose addresses differ by case alone, each time oldest first.
        not_moved: what stays behind, and why.
    """

    users: int = 0
    shows_hashes: bool = True
    hashes: Counter[HashKind] = field(default_factory=Counter)
    same_addresses: list[list[str]] = field(default_factory=list)
    not_moved: list[NotMoved] = field(default_factory=list)


async def survey(
    source: AccountSource, target: AccountTarget | None, *, sessions: bool
) -> AccountsSurvey:
    """Look at all accounts of a source.

    Args:
        target: None where all of them move.
        sessions: whether sessions move.
    """
    columns = await source.columns(AuthTable.USERS)
    found = AccountsSurvey(shows_hashes="encrypted_password" in columns)
    refused: Counter[str] = Counter()
    seen: set[int] = set()
    repeated: set[int] = set()
    over_api = target is not None and not target.finds_rows
    wanted = USER_COLUMNS | METADATA_COLUMNS if over_api else USER_COLUMNS
    with_null = 0
    async for page in source.read(AuthTable.USERS, columns & wanted):
        for row in page.rows:
            found.users += 1
            with_null += over_api and any(_has_null(row.get(name)) for name in METADATA_COLUMNS)
            if found.shows_hashes:
                found.hashes[kind_of(row["encrypted_password"])] += 1
            if target is not None and not target.takes(AuthTable.USERS, row):
                refused[_account_kind(row)] += 1
            if address := _address(row):
                (repeated if address in seen else seen).add(address)
    if repeated:
        found.same_addresses = await _same_addresses(source, columns & USER_COLUMNS, repeated)
    for kind, count in sorted(refused.items()):
        reason = "the admin API of Supabase Auth makes none of them; a database connection does"
        found.not_moved.append(NotMoved(what=f"{count} {kind}", reason=reason))
    if with_null:
        found.not_moved.append(
            NotMoved(
                what=f"members of the metadata of {with_null} accounts that are null",
                reason="Supabase Auth removes them; a database connection moves them",
            )
        )
    if not found.shows_hashes and found.users:
        found.not_moved.append(
            NotMoved(
                what=f"passwords of {found.users} accounts",
                reason="the API of a project shows no hashes; name its database (--db-url), or let "
                "the application take each over at the first sign-in (PREVIOUS_SUPABASE_URL)",
            )
        )
    for kind in (HashKind.ENCRYPTED, HashKind.REFUSED):
        if count := found.hashes[kind]:
            what = f"passwords of {count} accounts"
            found.not_moved.append(NotMoved(what=what, reason=f"their hashes are {kind}"))
    found.not_moved += await _beside_users(source, target, sessions=sessions)
    return found


def _has_null(metadata: str | None) -> bool:
    """Return whether a member of an object is null."""
    if not metadata or "null" not in metadata:
        return False
    value = json.loads(metadata)
    return isinstance(value, dict) and None in value.values()


async def _same_addresses(
    source: AccountSource, columns: frozenset[str], repeated: set[int]
) -> list[list[str]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    async for page in source.read(AuthTable.USERS, columns):
        for row in page.rows:
            if _address(row) in repeated:
                user = (row.get("created_at") or "", str(row["id"]))
                groups.setdefault(str(row["email"]).lower(), []).append(user)
    return [[id for _, id in sorted(group)] for group in groups.values() if len(group) > 1]


def _address(row: dict[str, str | None]) -> int | None:
    """Return a number for the address of a user, in whatever case: millions of them fit."""
    email = row.get("email")
    if not email or row.get("deleted_at") or row.get("is_sso_user") == "t":
        return None
    return hash(email.lower())


async def _beside_users(
    source: AccountSource, target: AccountTarget | None, *, sessions: bool
) -> list[NotMoved]:
    """Return what stays behind of identities, factors and sessions."""
    stays: list[NotMoved] = []
    takes_rows = target is None or target.finds_rows
    if not takes_rows and "provider" in await source.columns(AuthTable.IDENTITIES):
        providers: Counter[str] = Counter()
        async for page in source.read(AuthTable.IDENTITIES, ("provider",)):
            providers.update(str(row["provider"]) for row in page.rows)
        for provider, count in sorted(providers.items()):
            if provider not in OWN_PROVIDERS:
                reason = "the admin API adds no identities; a database connection does"
                stays.append(NotMoved(what=f"{count} identities of {provider}", reason=reason))
    factors = await source.count(AuthTable.FACTORS)
    if factors and not takes_rows:
        reason = "the admin API takes no secrets; these users enrol again"
        stays.append(NotMoved(what=f"{factors} second factors", reason=reason))
    if "id" not in await source.columns(AuthTable.FACTORS) and not source.finds_rows:
        reason = "the API of a project shows no secrets of factors; users with one enrol again"
        stays.append(NotMoved(what="second factors", reason=reason))
    if not sessions and (count := await source.count(AuthTable.SESSIONS)):
        reason = "refresh tokens are stored hashed, and Supabase Auth needs them as they are"
        if not takes_rows or not source.finds_rows:
            reason = "they are reached by a database connection alone"
        stays.append(NotMoved(what=f"{count} sessions", reason=f"{reason}; people sign in again"))
    return stays


def _account_kind(row: dict[str, str | None]) -> str:
    if row.get("deleted_at"):
        return "deleted accounts"
    if row.get("is_anonymous") == "t":
        return "anonymous accounts"
    if row.get("is_sso_user") == "t":
        return "accounts of single sign-on"
    return "accounts without address and number"
