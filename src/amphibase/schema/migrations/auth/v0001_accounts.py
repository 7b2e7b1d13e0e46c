"""the tables of accounts"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from amphibase.schema.migrations.schema_operations import SchemaOperations

revision = "0001"
down_revision = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
ADDRESS = sa.Text().with_variant(postgresql.INET(), "postgresql")
BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIMESTAMP = sa.DateTime(timezone=True)
SHORT = sa.String(length=255)
TOKENS = (
    "confirmation_token",
    "recovery_token",
    "email_change_token_current",
    "email_change_token_new",
    "reauthentication_token",
)


def upgrade() -> None:
    auth = SchemaOperations("auth")
    zero = "00000000-0000-0000-0000-000000000000" if auth.on_postgres else "0" * 32
    _users(auth, zero)
    _identities(auth)
    _sessions(auth, zero)
    _factors(auth)
    _one_time(auth)
    auth.create_table(
        "audit_log_entries",
        sa.Column("instance_id", sa.Uuid(), server_default=zero),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payload", sa.JSON()),
        sa.Column("created_at", TIMESTAMP),
        sa.Column("ip_address", sa.String(length=64), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id"),
    )


def _users(auth: SchemaOperations, zero: str) -> None:
    if auth.on_postgres:
        confirmed_at = "LEAST(email_confirmed_at, phone_confirmed_at)"
    else:
        confirmed_at = (
            "coalesce(min(email_confirmed_at, phone_confirmed_at),"
            " email_confirmed_at, phone_confirmed_at)"
        )
    auth.create_table(
        "users",
        sa.Column("instance_id", sa.Uuid(), server_default=zero),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("aud", SHORT, server_default="authenticated"),
        sa.Column("role", SHORT, server_default="authenticated"),
        sa.Column("email", SHORT),
        sa.Column("encrypted_password", SHORT),
        sa.Column("email_confirmed_at", TIMESTAMP),
        sa.Column("invited_at", TIMESTAMP),
        sa.Column("confirmation_token", SHORT, server_default=""),
        sa.Column("confirmation_sent_at", TIMESTAMP),
        sa.Column("recovery_token", SHORT, server_default=""),
        sa.Column("recovery_sent_at", TIMESTAMP),
        sa.Column("email_change_token_new", SHORT, server_default=""),
        sa.Column("email_change", SHORT, server_default=""),
        sa.Column("email_change_sent_at", TIMESTAMP),
        sa.Column("last_sign_in_at", TIMESTAMP),
        sa.Column("raw_app_meta_data", JSON),
        sa.Column("raw_user_meta_data", JSON),
        sa.Column("is_super_admin", sa.Boolean()),
        sa.Column("created_at", TIMESTAMP),
        sa.Column("updated_at", TIMESTAMP),
        sa.Column("phone", sa.Text()),
        sa.Column("phone_confirmed_at", TIMESTAMP),
        sa.Column("phone_change", sa.Text(), server_default=""),
        sa.Column("phone_change_token", SHORT, server_default=""),
        sa.Column("phone_change_sent_at", TIMESTAMP),
        sa.Column("confirmed_at", TIMESTAMP, sa.Computed(confirmed_at, persisted=True)),
        sa.Column("email_change_token_current", SHORT, server_default=""),
        sa.Column("email_change_confirm_status", sa.SmallInteger(), server_default=sa.text("0")),
        sa.Column("banned_until", TIMESTAMP),
        sa.Column("reauthentication_token", SHORT, server_default=""),
        sa.Column("reauthentication_sent_at", TIMESTAMP),
        sa.Column("is_sso_user", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("deleted_at", TIMESTAMP),
        sa.Column("is_anonymous", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("phone"),
        sa.CheckConstraint(
            "email_change_confirm_status >= 0 AND email_change_confirm_status <= 2",
            name="users_email_change_confirm_status_check",
        ),
    )
    auth.create_index(
        "users_email_partial_key",
        "users",
        ["email"],
        unique=True,
        postgresql_where=sa.text("is_sso_user = false"),
        sqlite_where=sa.text("is_sso_user = 0"),
    )
    auth.create_index("users_lower_email_idx", "users", [sa.text("lower(email)")])
    for column in TOKENS:
        auth.create_index(
            f"{column}_idx",
            "users",
            [column],
            unique=True,
            postgresql_where=sa.text(f"{column} !~ '^[0-9 ]*$'"),
            sqlite_where=sa.text(f"{column} GLOB '*[^0-9 ]*'"),
        )


def _identities(auth: SchemaOperations) -> None:
    if auth.on_postgres:
        email = "lower(identity_data ->> 'email'::text)"
    else:
        email = "lower(json_extract(identity_data, '$.email'))"
    auth.create_table(
        "identities",
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("identity_data", JSON, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("last_sign_in_at", TIMESTAMP),
        sa.Column("created_at", TIMESTAMP),
        sa.Column("updated_at", TIMESTAMP),
        sa.Column("email", sa.Text(), sa.Computed(email, persisted=True)),
        sa.Column(
            "id",
            sa.Uuid(),
            nullable=False,
            server_default=sa.text("gen_random_uuid()") if auth.on_postgres else None,
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["user_id"], [auth.id_column("users")], ondelete="CASCADE"),
        sa.UniqueConstraint(
            "provider_id", "provider", name="identities_provider_id_provider_unique"
        ),
    )
    auth.create_index("identities_user_id_idx", "identities", ["user_id"])


def _sessions(auth: SchemaOperations, zero: str) -> None:
    auth.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", TIMESTAMP),
        sa.Column("updated_at", TIMESTAMP),
        sa.Column("factor_id", sa.Uuid()),
        sa.Column("aal", auth.enum("aal_level", "aal1", "aal2", "aal3")),
        sa.Column("not_after", TIMESTAMP),
        sa.Column("refreshed_at", TIMESTAMP),
        sa.Column("user_agent", sa.Text()),
        sa.Column("ip", ADDRESS),
        sa.Column("tag", sa.Text()),
        sa.Column("oauth_client_id", sa.Uuid()),
        sa.Column("refresh_token_hmac_key", sa.Text()),
        sa.Column("refresh_token_counter", sa.BigInteger()),
        sa.Column("scopes", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["user_id"], [auth.id_column("users")], ondelete="CASCADE"),
    )
    auth.create_index("user_id_created_at_idx", "sessions", ["user_id", "created_at"])
    auth.create_table(
        "refresh_tokens",
        sa.Column("instance_id", sa.Uuid(), server_default=zero),
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("token", SHORT),
        sa.Column("user_id", SHORT),
        sa.Column("revoked", sa.Boolean()),
        sa.Column("created_at", TIMESTAMP),
        sa.Column("updated_at", TIMESTAMP),
        sa.Column("parent", SHORT),
        sa.Column("session_id", sa.Uuid()),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["session_id"], [auth.id_column("sessions")], ondelete="CASCADE"),
        sa.UniqueConstraint("token", name="refresh_tokens_token_unique"),
        sqlite_autoincrement=True,
    )
    auth.create_index(
        "refresh_tokens_session_id_revoked_idx", "refresh_tokens", ["session_id", "revoked"]
    )
    auth.create_table(
        "mfa_amr_claims",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("authentication_method", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["session_id"], [auth.id_column("sessions")], ondelete="CASCADE"),
        sa.UniqueConstraint(
            "session_id",
            "authentication_method",
            name="mfa_amr_claims_session_id_authentication_method_pkey",
        ),
    )


def _factors(auth: SchemaOperations) -> None:
    auth.create_table(
        "mfa_factors",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("friendly_name", sa.Text()),
        sa.Column(
            "factor_type", auth.enum("factor_type", "totp", "webauthn", "phone"), nullable=False
        ),
        sa.Column("status", auth.enum("factor_status", "unverified", "verified"), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("secret", sa.Text()),
        sa.Column("phone", sa.Text()),
        sa.Column("last_challenged_at", TIMESTAMP),
        sa.Column("web_authn_credential", JSON),
        sa.Column("web_authn_aaguid", sa.Uuid()),
        sa.Column("last_webauthn_challenge_data", JSON),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["user_id"], [auth.id_column("users")], ondelete="CASCADE"),
        sa.UniqueConstraint("last_challenged_at"),
    )
    auth.create_index("factor_id_created_at_idx", "mfa_factors", ["user_id", "created_at"])
    auth.create_index(
        "mfa_factors_user_friendly_name_unique",
        "mfa_factors",
        ["friendly_name", "user_id"],
        unique=True,
        postgresql_where=sa.text("trim(both from friendly_name) <> ''"),
        sqlite_where=sa.text("trim(friendly_name) <> ''"),
    )
    auth.create_index(
        "unique_phone_factor_per_user", "mfa_factors", ["user_id", "phone"], unique=True
    )
    auth.create_table(
        "mfa_challenges",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("factor_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("verified_at", TIMESTAMP),
        sa.Column("ip_address", ADDRESS, nullable=False),
        sa.Column("otp_code", sa.Text()),
        sa.Column("web_authn_session_data", JSON),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(
            ["factor_id"],
            [auth.id_column("mfa_factors")],
            name="mfa_challenges_auth_factor_id_fkey",
            ondelete="CASCADE",
        ),
    )
    auth.create_index("mfa_challenge_created_at_idx", "mfa_challenges", ["created_at"])


def _one_time(auth: SchemaOperations) -> None:
    kind = auth.enum(
        "one_time_token_type",
        "confirmation_token",
        "reauthentication_token",
        "recovery_token",
        "email_change_token_new",
        "email_change_token_current",
        "phone_change_token",
    )
    auth.create_table(
        "one_time_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_type", kind, nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("relates_to", sa.Text(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", TIMESTAMP, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["user_id"], [auth.id_column("users")], ondelete="CASCADE"),
        sa.CheckConstraint("length(token_hash) > 0", name="one_time_tokens_token_hash_check"),
    )
    auth.create_index(
        "one_time_tokens_user_id_token_type_key",
        "one_time_tokens",
        ["user_id", "token_type"],
        unique=True,
    )
    for column in ("token_hash", "relates_to"):
        auth.create_index(
            f"one_time_tokens_{column}_hash_idx",
            "one_time_tokens",
            [column],
            postgresql_using="hash",
        )
    auth.create_table(
        "flow_state",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid()),
        sa.Column("auth_code", sa.Text()),
        sa.Column("code_challenge_method", auth.enum("code_challenge_method", "s256", "plain")),
        sa.Column("code_challenge", sa.Text()),
        sa.Column("provider_type", sa.Text(), nullable=False),
        sa.Column("provider_access_token", sa.Text()),
        sa.Column("provider_refresh_token", sa.Text()),
        sa.Column("created_at", TIMESTAMP),
        sa.Column("updated_at", TIMESTAMP),
        sa.Column("authentication_method", sa.Text(), nullable=False),
        sa.Column("auth_code_issued_at", TIMESTAMP),
        sa.Column("invite_token", sa.Text()),
        sa.Column("referrer", sa.Text()),
        sa.Column("oauth_client_state_id", sa.Uuid()),
        sa.Column("linking_target_id", sa.Uuid()),
        sa.Column("email_optional", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("id"),
    )
    auth.create_index("idx_auth_code", "flow_state", ["auth_code"])
    auth.create_index("idx_user_id_auth_method", "flow_state", ["user_id", "authentication_method"])
    auth.create_index("flow_state_created_at_idx", "flow_state", ["created_at"])


def downgrade() -> None:
    auth = SchemaOperations("auth")
    auth.drop_tables(
        "audit_log_entries",
        "flow_state",
        "one_time_tokens",
        "mfa_challenges",
        "mfa_factors",
        "mfa_amr_claims",
        "refresh_tokens",
        "sessions",
        "identities",
        "users",
    )
    auth.drop_enums(
        "aal_level",
        "factor_type",
        "factor_status",
        "one_time_token_type",
        "code_challenge_method",
    )
