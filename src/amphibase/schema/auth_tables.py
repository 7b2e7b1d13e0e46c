"""The tables of accounts, column by column as in Supabase's schema `auth`."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Index,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
)

from amphibase.column_types import Json, UtcDateTime
from amphibase.schema.table_builder import (
    ADDRESS,
    BIG_KEY,
    TableBuilder,
    insert_timestamp,
    timestamp,
)

SHORT = String(255)
NO_INSTANCE = {
    "postgresql": "00000000-0000-0000-0000-000000000000",
    "sqlite": "00000000000000000000000000000000",
}
ONE_TIME_TOKENS = (
    "confirmation_token",
    "reauthentication_token",
    "recovery_token",
    "email_change_token_new",
    "email_change_token_current",
    "phone_change_token",
)


def _token(name: str) -> Column[Any]:
    # Supabase's Auth responds with 500 to a sign-in where one of these is NULL.
    return Column(name, SHORT, server_default=text("''"))


def _token_index(auth: TableBuilder, name: str, column: str) -> Index:
    # Unique where there is a token: neither empty nor a code of digits, which repeats.
    return auth.index(
        name,
        column,
        unique=True,
        postgresql_where=text(f"{column} !~ '^[0-9 ]*$'"),
        sqlite_where=text(f"{column} GLOB '*[^0-9 ]*'"),
    )


def users(auth: TableBuilder) -> Table:
    # LEAST skips NULLs; SQLite's two-argument min() does not.
    confirmed_at = (
        "LEAST(email_confirmed_at, phone_confirmed_at)"
        if auth.on_postgres
        else "coalesce(min(email_confirmed_at, phone_confirmed_at),"
        " email_confirmed_at, phone_confirmed_at)"
    )
    return auth.table(
        "users",
        Column("instance_id", Uuid(), server_default=text(f"'{NO_INSTANCE[auth.dialect]}'")),
        auth.id(),
        Column("aud", SHORT, server_default=text("'authenticated'")),
        Column("role", SHORT, server_default=text("'authenticated'")),
        Column("email", SHORT),
        Column("encrypted_password", SHORT),
        timestamp("email_confirmed_at"),
        timestamp("invited_at"),
        _token("confirmation_token"),
        timestamp("confirmation_sent_at"),
        _token("recovery_token"),
        timestamp("recovery_sent_at"),
        _token("email_change_token_new"),
        _token("email_change"),
        timestamp("email_change_sent_at"),
        timestamp("last_sign_in_at"),
        Column("raw_app_meta_data", Json),
        Column("raw_user_meta_data", Json),
        Column("is_super_admin", Boolean()),
        timestamp("created_at"),
        timestamp("updated_at"),
        Column("phone", Text(), unique=True),
        timestamp("phone_confirmed_at"),
        Column("phone_change", Text(), server_default=text("''")),
        _token("phone_change_token"),
        timestamp("phone_change_sent_at"),
        Column("confirmed_at", UtcDateTime(), Computed(confirmed_at, persisted=True)),
        _token("email_change_token_current"),
        Column("email_change_confirm_status", SmallInteger(), server_default=text("0")),
        timestamp("banned_until"),
        _token("reauthentication_token"),
        timestamp("reauthentication_sent_at"),
        Column("is_sso_user", Boolean(), nullable=False, server_default=false()),
        timestamp("deleted_at"),
        Column("is_anonymous", Boolean(), nullable=False, server_default=false()),
        CheckConstraint(
            "email_change_confirm_status >= 0 AND email_change_confirm_status <= 2",
            name="users_email_change_confirm_status_check",
        ),
        auth.index(
            "users_email_partial_key",
            "email",
            unique=True,
            postgresql_where=text("is_sso_user = false"),
            sqlite_where=text("is_sso_user = 0"),
        ),
        auth.index("users_lower_email_idx", text("lower(email)")),
        _token_index(auth, "confirmation_token_idx", "confirmation_token"),
        _token_index(auth, "recovery_token_idx", "recovery_token"),
        _token_index(auth, "email_change_token_current_idx", "email_change_token_current"),
        _token_index(auth, "email_change_token_new_idx", "email_change_token_new"),
        _token_index(auth, "reauthentication_token_idx", "reauthentication_token"),
    )


def identities(auth: TableBuilder) -> Table:
    email = (
        "lower(identity_data ->> 'email'::text)"
        if auth.on_postgres
        else "lower(json_extract(identity_data, '$.email'))"
    )
    return auth.table(
        "identities",
        Column("provider_id", Text(), nullable=False),
        Column("user_id", Uuid(), auth.foreign_key("users"), nullable=False),
        Column("identity_data", Json, nullable=False),
        Column("provider", Text(), nullable=False),
        timestamp("last_sign_in_at"),
        timestamp("created_at"),
        timestamp("updated_at"),
        Column("email", Text(), Computed(email, persisted=True)),
        auth.id(generated=True),
        UniqueConstraint("provider_id", "provider", name="identities_provider_id_provider_unique"),
        auth.index("identities_user_id_idx", "user_id"),
    )


def sessions(auth: TableBuilder) -> Table:
    return auth.table(
        "sessions",
        auth.id(),
        Column("user_id", Uuid(), auth.foreign_key("users"), nullable=False),
        timestamp("created_at"),
        timestamp("updated_at"),
        Column("factor_id", Uuid()),
        Column("aal", auth.enum("aal_level", "aal1", "aal2", "aal3")),
        timestamp("not_after"),
        # Without a time zone at Supabase, where it means UTC; with one it means that everywhere,
        # and both have the same binary form.
        timestamp("refreshed_at"),
        Column("user_agent", Text()),
        Column("ip", ADDRESS),
        Column("tag", Text()),
        Column("oauth_client_id", Uuid()),
        Column("refresh_token_hmac_key", Text()),
        Column("refresh_token_counter", BigInteger()),
        Column("scopes", Text()),
        auth.index("user_id_created_at_idx", "user_id", "created_at"),
    )


def refresh_tokens(auth: TableBuilder) -> Table:
    return auth.table(
        "refresh_tokens",
        Column("instance_id", Uuid(), server_default=text(f"'{NO_INSTANCE[auth.dialect]}'")),
        Column("id", BIG_KEY, primary_key=True),
        Column("token", SHORT),
        Column("user_id", SHORT),
        Column("revoked", Boolean()),
        timestamp("created_at"),
        timestamp("updated_at"),
        Column("parent", SHORT),
        Column("session_id", Uuid(), auth.foreign_key("sessions")),
        UniqueConstraint("token", name="refresh_tokens_token_unique"),
        auth.index("refresh_tokens_session_id_revoked_idx", "session_id", "revoked"),
        sqlite_autoincrement=True,
    )


def mfa_factors(auth: TableBuilder) -> Table:
    return auth.table(
        "mfa_factors",
        auth.id(),
        Column("user_id", Uuid(), auth.foreign_key("users"), nullable=False),
        Column("friendly_name", Text()),
        Column(
            "factor_type", auth.enum("factor_type", "totp", "webauthn", "phone"), nullable=False
        ),
        Column("status", auth.enum("factor_status", "unverified", "verified"), nullable=False),
        timestamp("created_at", nullable=False),
        timestamp("updated_at", nullable=False),
        Column("secret", Text()),
        Column("phone", Text()),
        Column("last_challenged_at", UtcDateTime(), unique=True),
        Column("web_authn_credential", Json),
        Column("web_authn_aaguid", Uuid()),
        Column("last_webauthn_challenge_data", Json),
        auth.index("factor_id_created_at_idx", "user_id", "created_at"),
        auth.index(
            "mfa_factors_user_friendly_name_unique",
            "friendly_name",
            "user_id",
            unique=True,
            postgresql_where=text("trim(both from friendly_name) <> ''"),
            sqlite_where=text("trim(friendly_name) <> ''"),
        ),
        auth.index("unique_phone_factor_per_user", "user_id", "phone", unique=True),
    )


def mfa_challenges(auth: TableBuilder) -> Table:
    return auth.table(
        "mfa_challenges",
        auth.id(),
        Column(
            "factor_id",
            Uuid(),
            auth.foreign_key("mfa_factors", name="mfa_challenges_auth_factor_id_fkey"),
            nullable=False,
        ),
        timestamp("created_at", nullable=False),
        timestamp("verified_at"),
        Column("ip_address", ADDRESS, nullable=False),
        Column("otp_code", Text()),
        Column("web_authn_session_data", Json),
        auth.index("mfa_challenge_created_at_idx", "created_at"),
    )


def mfa_amr_claims(auth: TableBuilder) -> Table:
    return auth.table(
        "mfa_amr_claims",
        Column("session_id", Uuid(), auth.foreign_key("sessions"), nullable=False),
        timestamp("created_at", nullable=False),
        timestamp("updated_at", nullable=False),
        Column("authentication_method", Text(), nullable=False),
        auth.id(),
        UniqueConstraint(
            "session_id",
            "authentication_method",
            name="mfa_amr_claims_session_id_authentication_method_pkey",
        ),
    )


def one_time_tokens(auth: TableBuilder) -> Table:
    return auth.table(
        "one_time_tokens",
        auth.id(),
        Column("user_id", Uuid(), auth.foreign_key("users"), nullable=False),
        Column("token_type", auth.enum("one_time_token_type", *ONE_TIME_TOKENS), nullable=False),
        Column("token_hash", Text(), nullable=False),
        Column("relates_to", Text(), nullable=False),
        # As with sessions.refreshed_at: in UTC, and saying so.
        insert_timestamp("created_at", nullable=False),
        insert_timestamp("updated_at", nullable=False),
        CheckConstraint("length(token_hash) > 0", name="one_time_tokens_token_hash_check"),
        auth.index("one_time_tokens_user_id_token_type_key", "user_id", "token_type", unique=True),
        auth.index("one_time_tokens_token_hash_hash_idx", "token_hash", postgresql_using="hash"),
        auth.index("one_time_tokens_relates_to_hash_idx", "relates_to", postgresql_using="hash"),
    )


def pending_sign_ups(auth: TableBuilder) -> Table:
    """Return the table of sign-ups whose address has not been confirmed; Supabase has none."""
    return auth.table(
        "pending_sign_ups",
        auth.id(),
        Column("email", Text(), nullable=False),
        Column("encrypted_password", Text()),
        Column("raw_user_meta_data", Json, nullable=False),
        Column("token_hash", Text(), nullable=False),
        Column("code_challenge", Text()),
        Column("code_challenge_method", Text()),
        Column("ip", ADDRESS),
        Column("is_contested", Boolean(), nullable=False, server_default=false()),
        insert_timestamp("created_at", nullable=False),
        auth.index("pending_sign_ups_email_idx", "email"),
        auth.index("pending_sign_ups_token_hash_idx", "token_hash"),
        auth.index("pending_sign_ups_created_at_idx", "created_at"),
    )


def flow_state(auth: TableBuilder) -> Table:
    return auth.table(
        "flow_state",
        auth.id(),
        Column("user_id", Uuid()),
        Column("auth_code", Text()),
        Column("code_challenge_method", auth.enum("code_challenge_method", "s256", "plain")),
        Column("code_challenge", Text()),
        Column("provider_type", Text(), nullable=False),
        Column("provider_access_token", Text()),
        Column("provider_refresh_token", Text()),
        timestamp("created_at"),
        timestamp("updated_at"),
        Column("authentication_method", Text(), nullable=False),
        timestamp("auth_code_issued_at"),
        Column("invite_token", Text()),
        Column("referrer", Text()),
        Column("oauth_client_state_id", Uuid()),
        Column("linking_target_id", Uuid()),
        Column("email_optional", Boolean(), nullable=False, server_default=false()),
        auth.index("idx_auth_code", "auth_code"),
        auth.index("idx_user_id_auth_method", "user_id", "authentication_method"),
        auth.index("flow_state_created_at_idx", "created_at"),
    )


def audit_log_entries(auth: TableBuilder) -> Table:
    return auth.table(
        "audit_log_entries",
        Column("instance_id", Uuid(), server_default=text(f"'{NO_INSTANCE[auth.dialect]}'")),
        auth.id(),
        Column("payload", JSON()),
        timestamp("created_at"),
        Column("ip_address", String(64), nullable=False, server_default=text("''")),
    )
