"""The rows of accounts as they travel: by table and column, each value as Postgres writes it."""

import hashlib
import json
from collections.abc import Collection
from decimal import Decimal
from enum import StrEnum
from typing import Any

from amphibase.move.accounts.hashes import kind_of

Values = dict[str, str | None]
"""A row by column."""

NOT_UTF8 = "a text of it is not UTF-8"

NO_INSTANCE = "00000000-0000-0000-0000-000000000000"


FOREVER = "9999-12-31 23:59:59.999999+00"
"""For a ban until `infinity`, which no time in Python is."""


class AuthTable(StrEnum):
    """The tables that make an account, in the order in which they refer to one another."""

    USERS = "users"
    IDENTITIES = "identities"
    FACTORS = "mfa_factors"
    SESSIONS = "sessions"
    CLAIMS = "mfa_amr_claims"
    REFRESH_TOKENS = "refresh_tokens"

    @property
    def key(self) -> str:
        """The column by which a row is the same on both sides: a token's number is the database's
        own."""
        return "token" if self is AuthTable.REFRESH_TOKENS else "id"


SESSION_TABLES = (AuthTable.SESSIONS, AuthTable.CLAIMS, AuthTable.REFRESH_TOKENS)

MOVING = {
    AuthTable.FACTORS: "coalesce(secret, '') NOT LIKE '{%'",
    AuthTable.SESSIONS: "refresh_token_hmac_key IS NULL",
    AuthTable.CLAIMS: "session_id IN ({moving_sessions})",
    AuthTable.REFRESH_TOKENS: "session_id IN ({moving_sessions})",
}
"""Which rows of a table move: no secret that is encrypted at rest, and no session whose refresh
tokens are in no row, but signed by the Auth server."""

OWN_PROVIDERS = ("email", "phone")
"""Of identities that Auth makes by itself, for an address and for a number."""

ONLY_OWN_PROVIDERS = "provider IN ('email', 'phone')"

GENERATED = {
    AuthTable.USERS: {"confirmed_at"},
    AuthTable.IDENTITIES: {"email"},
    AuthTable.REFRESH_TOKENS: {"id"},
}

NO_TOKENS: Values = {
    "confirmation_token": "",
    "recovery_token": "",
    "email_change_token_new": "",
    "email_change_token_current": "",
    "phone_change_token": "",
    "reauthentication_token": "",
    "email_change": "",
    "email_change_confirm_status": "0",
    "phone_change": "",
}
"""Links and codes do not move, so nor does what they would confirm; Supabase Auth responds with 500
to a sign-in where one of the tokens is NULL (supabase/auth #1940)."""

DEFAULTS: Values = {
    "instance_id": NO_INSTANCE,
    "aud": "authenticated",
    "role": "authenticated",
    "is_sso_user": "f",
    "is_anonymous": "f",
}

JSON_COLUMNS = frozenset(
    {
        "raw_app_meta_data",
        "raw_user_meta_data",
        "identity_data",
        "web_authn_credential",
        "last_webauthn_challenge_data",
    }
)


def prepared(table: AuthTable, row: Values, columns: Collection[str]) -> Values:
    """Return a source's row as the target gets it.

    Args:
        columns: that the target has, of which some must not be NULL.
    """
    if table is not AuthTable.USERS:
        return row
    fixed = {name: value for name, value in NO_TOKENS.items() if name in columns}
    defaults = {name: row.get(name) or value for name, value in DEFAULTS.items() if name in columns}
    sent = {**row, **fixed, **defaults}
    if sent.get("banned_until") == "infinity":
        sent["banned_until"] = FOREVER
    if not kind_of(row.get("encrypted_password")).moves:
        sent["encrypted_password"] = ""
    return sent


def key_of(table: AuthTable, row: Values) -> str:
    """Return by what a row is the same on both sides."""
    return str(row[table.key])


def journal_name(table: AuthTable, row: Values) -> str:
    """Return the name of a row in the journal, which holds no token."""
    key = key_of(table, row)
    if table is AuthTable.REFRESH_TOKENS:
        return hashlib.sha256(key.encode()).hexdigest()
    return key


def canonical(column: str, value: str | None) -> Any:
    """Return a value so that equal ones are equal: JSON without regard to order and spaces."""
    if value is None or column not in JSON_COLUMNS:
        return value
    try:
        return json.loads(value, parse_float=Decimal)
    except ValueError:
        return value


def differing_columns(sent: Values, there: Values) -> list[str]:
    """Return the columns of both rows whose values differ."""
    return [
        name
        for name in sent.keys() & there.keys()
        if sent[name] != there[name] and canonical(name, sent[name]) != canonical(name, there[name])
    ]


def digest(row: Values, columns: Collection[str]) -> int:
    """Return a number of 64 bits that equal rows share, for sums over a table."""
    values = [
        json.dumps(canonical(name, row.get(name)), sort_keys=True, default=str)
        for name in sorted(columns)
    ]
    hashed = hashlib.blake2b("\0".join(values).encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(hashed.digest())
