-- The tables of a new project. Written by `make project-tables` from the revisions: do not edit.

SELECT pg_advisory_xact_lock(1634562152);  -- as every change of tables

CREATE SCHEMA IF NOT EXISTS auth;

CREATE TABLE auth.amphibase_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT amphibase_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE auth.users (
    instance_id UUID DEFAULT '00000000-0000-0000-0000-000000000000',
    id UUID NOT NULL,
    aud VARCHAR(255) DEFAULT 'authenticated',
    role VARCHAR(255) DEFAULT 'authenticated',
    email VARCHAR(255),
    encrypted_password VARCHAR(255),
    email_confirmed_at TIMESTAMP WITH TIME ZONE,
    invited_at TIMESTAMP WITH TIME ZONE,
    confirmation_token VARCHAR(255) DEFAULT '',
    confirmation_sent_at TIMESTAMP WITH TIME ZONE,
    recovery_token VARCHAR(255) DEFAULT '',
    recovery_sent_at TIMESTAMP WITH TIME ZONE,
    email_change_token_new VARCHAR(255) DEFAULT '',
    email_change VARCHAR(255) DEFAULT '',
    email_change_sent_at TIMESTAMP WITH TIME ZONE,
    last_sign_in_at TIMESTAMP WITH TIME ZONE,
    raw_app_meta_data JSONB,
    raw_user_meta_data JSONB,
    is_super_admin BOOLEAN,
    created_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE,
    phone TEXT,
    phone_confirmed_at TIMESTAMP WITH TIME ZONE,
    phone_change TEXT DEFAULT '',
    phone_change_token VARCHAR(255) DEFAULT '',
    phone_change_sent_at TIMESTAMP WITH TIME ZONE,
    confirmed_at TIMESTAMP WITH TIME ZONE GENERATED ALWAYS AS (LEAST(email_confirmed_at, phone_confirmed_at)) STORED,
    email_change_token_current VARCHAR(255) DEFAULT '',
    email_change_confirm_status SMALLINT DEFAULT 0,
    banned_until TIMESTAMP WITH TIME ZONE,
    reauthentication_token VARCHAR(255) DEFAULT '',
    reauthentication_sent_at TIMESTAMP WITH TIME ZONE,
    is_sso_user BOOLEAN DEFAULT false NOT NULL,
    deleted_at TIMESTAMP WITH TIME ZONE,
    is_anonymous BOOLEAN DEFAULT false NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (phone),
    CONSTRAINT users_email_change_confirm_status_check CHECK (email_change_confirm_status >= 0 AND email_change_confirm_status <= 2)
);

CREATE UNIQUE INDEX users_email_partial_key ON auth.users (email) WHERE is_sso_user = false;

CREATE INDEX users_lower_email_idx ON auth.users (lower(email));

CREATE UNIQUE INDEX confirmation_token_idx ON auth.users (confirmation_token) WHERE confirmation_token !~ '^[0-9 ]*$';

CREATE UNIQUE INDEX recovery_token_idx ON auth.users (recovery_token) WHERE recovery_token !~ '^[0-9 ]*$';

CREATE UNIQUE INDEX email_change_token_current_idx ON auth.users (email_change_token_current) WHERE email_change_token_current !~ '^[0-9 ]*$';

CREATE UNIQUE INDEX email_change_token_new_idx ON auth.users (email_change_token_new) WHERE email_change_token_new !~ '^[0-9 ]*$';

CREATE UNIQUE INDEX reauthentication_token_idx ON auth.users (reauthentication_token) WHERE reauthentication_token !~ '^[0-9 ]*$';

CREATE TABLE auth.identities (
    provider_id TEXT NOT NULL,
    user_id UUID NOT NULL,
    identity_data JSONB NOT NULL,
    provider TEXT NOT NULL,
    last_sign_in_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE,
    email TEXT GENERATED ALWAYS AS (lower(identity_data ->> 'email'::text)) STORED,
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES auth.users (id) ON DELETE CASCADE,
    CONSTRAINT identities_provider_id_provider_unique UNIQUE (provider_id, provider)
);

CREATE INDEX identities_user_id_idx ON auth.identities (user_id);

CREATE TYPE auth.aal_level AS ENUM ('aal1', 'aal2', 'aal3');

CREATE TABLE auth.sessions (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE,
    factor_id UUID,
    aal auth.aal_level,
    not_after TIMESTAMP WITH TIME ZONE,
    refreshed_at TIMESTAMP WITH TIME ZONE,
    user_agent TEXT,
    ip INET,
    tag TEXT,
    oauth_client_id UUID,
    refresh_token_hmac_key TEXT,
    refresh_token_counter BIGINT,
    scopes TEXT,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES auth.users (id) ON DELETE CASCADE
);

CREATE INDEX user_id_created_at_idx ON auth.sessions (user_id, created_at);

CREATE TABLE auth.refresh_tokens (
    instance_id UUID DEFAULT '00000000-0000-0000-0000-000000000000',
    id BIGSERIAL NOT NULL,
    token VARCHAR(255),
    user_id VARCHAR(255),
    revoked BOOLEAN,
    created_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE,
    parent VARCHAR(255),
    session_id UUID,
    PRIMARY KEY (id),
    FOREIGN KEY(session_id) REFERENCES auth.sessions (id) ON DELETE CASCADE,
    CONSTRAINT refresh_tokens_token_unique UNIQUE (token)
);

CREATE INDEX refresh_tokens_session_id_revoked_idx ON auth.refresh_tokens (session_id, revoked);

CREATE TABLE auth.mfa_amr_claims (
    session_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    authentication_method TEXT NOT NULL,
    id UUID NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(session_id) REFERENCES auth.sessions (id) ON DELETE CASCADE,
    CONSTRAINT mfa_amr_claims_session_id_authentication_method_pkey UNIQUE (session_id, authentication_method)
);

CREATE TYPE auth.factor_type AS ENUM ('totp', 'webauthn', 'phone');

CREATE TYPE auth.factor_status AS ENUM ('unverified', 'verified');

CREATE TABLE auth.mfa_factors (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    friendly_name TEXT,
    factor_type auth.factor_type NOT NULL,
    status auth.factor_status NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    secret TEXT,
    phone TEXT,
    last_challenged_at TIMESTAMP WITH TIME ZONE,
    web_authn_credential JSONB,
    web_authn_aaguid UUID,
    last_webauthn_challenge_data JSONB,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES auth.users (id) ON DELETE CASCADE,
    UNIQUE (last_challenged_at)
);

CREATE INDEX factor_id_created_at_idx ON auth.mfa_factors (user_id, created_at);

CREATE UNIQUE INDEX mfa_factors_user_friendly_name_unique ON auth.mfa_factors (friendly_name, user_id) WHERE trim(both from friendly_name) <> '';

CREATE UNIQUE INDEX unique_phone_factor_per_user ON auth.mfa_factors (user_id, phone);

CREATE TABLE auth.mfa_challenges (
    id UUID NOT NULL,
    factor_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    verified_at TIMESTAMP WITH TIME ZONE,
    ip_address INET NOT NULL,
    otp_code TEXT,
    web_authn_session_data JSONB,
    PRIMARY KEY (id),
    CONSTRAINT mfa_challenges_auth_factor_id_fkey FOREIGN KEY(factor_id) REFERENCES auth.mfa_factors (id) ON DELETE CASCADE
);

CREATE INDEX mfa_challenge_created_at_idx ON auth.mfa_challenges (created_at);

CREATE TYPE auth.one_time_token_type AS ENUM ('confirmation_token', 'reauthentication_token', 'recovery_token', 'email_change_token_new', 'email_change_token_current', 'phone_change_token');

CREATE TABLE auth.one_time_tokens (
    id UUID NOT NULL,
    user_id UUID NOT NULL,
    token_type auth.one_time_token_type NOT NULL,
    token_hash TEXT NOT NULL,
    relates_to TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES auth.users (id) ON DELETE CASCADE,
    CONSTRAINT one_time_tokens_token_hash_check CHECK (length(token_hash) > 0)
);

CREATE UNIQUE INDEX one_time_tokens_user_id_token_type_key ON auth.one_time_tokens (user_id, token_type);

CREATE INDEX one_time_tokens_token_hash_hash_idx ON auth.one_time_tokens USING hash (token_hash);

CREATE INDEX one_time_tokens_relates_to_hash_idx ON auth.one_time_tokens USING hash (relates_to);

CREATE TYPE auth.code_challenge_method AS ENUM ('s256', 'plain');

CREATE TABLE auth.flow_state (
    id UUID NOT NULL,
    user_id UUID,
    auth_code TEXT,
    code_challenge_method auth.code_challenge_method,
    code_challenge TEXT,
    provider_type TEXT NOT NULL,
    provider_access_token TEXT,
    provider_refresh_token TEXT,
    created_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE,
    authentication_method TEXT NOT NULL,
    auth_code_issued_at TIMESTAMP WITH TIME ZONE,
    invite_token TEXT,
    referrer TEXT,
    oauth_client_state_id UUID,
    linking_target_id UUID,
    email_optional BOOLEAN DEFAULT false NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX idx_auth_code ON auth.flow_state (auth_code);

CREATE INDEX idx_user_id_auth_method ON auth.flow_state (user_id, authentication_method);

CREATE INDEX flow_state_created_at_idx ON auth.flow_state (created_at);

CREATE TABLE auth.audit_log_entries (
    instance_id UUID DEFAULT '00000000-0000-0000-0000-000000000000',
    id UUID NOT NULL,
    payload JSON,
    created_at TIMESTAMP WITH TIME ZONE,
    ip_address VARCHAR(64) DEFAULT '' NOT NULL,
    PRIMARY KEY (id)
);

INSERT INTO auth.amphibase_version (version_num) VALUES ('0001') RETURNING auth.amphibase_version.version_num;

-- Running upgrade 0001 -> 0002

CREATE TABLE auth.pending_sign_ups (
    id UUID NOT NULL,
    email TEXT NOT NULL,
    encrypted_password TEXT,
    raw_user_meta_data JSONB NOT NULL,
    token_hash TEXT NOT NULL,
    code_challenge TEXT,
    code_challenge_method TEXT,
    ip INET,
    is_contested BOOLEAN DEFAULT false NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX pending_sign_ups_email_idx ON auth.pending_sign_ups (email);

CREATE INDEX pending_sign_ups_token_hash_idx ON auth.pending_sign_ups (token_hash);

CREATE INDEX pending_sign_ups_created_at_idx ON auth.pending_sign_ups (created_at);

UPDATE auth.amphibase_version SET version_num='0002' WHERE auth.amphibase_version.version_num = '0001';

DO $do$ BEGIN
    IF to_regprocedure('auth.uid()') IS NULL THEN
        CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$SELECT coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', nullif(current_setting('request.jwt.claim.sub', true), ''))::uuid$$;
        COMMENT ON FUNCTION auth.uid() IS 'Made by Amphibase';
    END IF;
EXCEPTION
    WHEN invalid_schema_name OR insufficient_privilege THEN NULL;
END $do$;

DO $do$ BEGIN
    IF to_regprocedure('auth.role()') IS NULL THEN
        CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$SELECT coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role', nullif(current_setting('request.jwt.claim.role', true), ''))::text$$;
        COMMENT ON FUNCTION auth.role() IS 'Made by Amphibase';
    END IF;
EXCEPTION
    WHEN invalid_schema_name OR insufficient_privilege THEN NULL;
END $do$;

DO $do$ BEGIN
    IF to_regprocedure('auth.email()') IS NULL THEN
        CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE AS $$SELECT coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email', nullif(current_setting('request.jwt.claim.email', true), ''))::text$$;
        COMMENT ON FUNCTION auth.email() IS 'Made by Amphibase';
    END IF;
EXCEPTION
    WHEN invalid_schema_name OR insufficient_privilege THEN NULL;
END $do$;

DO $do$ BEGIN
    IF to_regprocedure('auth.jwt()') IS NULL THEN
        CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$SELECT coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb, nullif(current_setting('request.jwt.claim', true), '')::jsonb)$$;
        COMMENT ON FUNCTION auth.jwt() IS 'Made by Amphibase';
    END IF;
EXCEPTION
    WHEN invalid_schema_name OR insufficient_privilege THEN NULL;
END $do$;

CREATE SCHEMA IF NOT EXISTS storage;

CREATE TABLE storage.amphibase_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT amphibase_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TYPE storage.buckettype AS ENUM ('STANDARD', 'ANALYTICS', 'VECTOR');

CREATE TABLE storage.buckets (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    owner UUID,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
    public BOOLEAN DEFAULT false,
    avif_autodetection BOOLEAN DEFAULT false,
    file_size_limit BIGINT,
    allowed_mime_types TEXT[],
    owner_id TEXT,
    type storage.buckettype DEFAULT 'STANDARD' NOT NULL,
    PRIMARY KEY (id)
);

CREATE UNIQUE INDEX bname ON storage.buckets (name);

INSERT INTO storage.buckets (id, name) VALUES ('uploads', 'uploads');

CREATE TABLE storage.objects (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    bucket_id TEXT,
    name TEXT,
    owner UUID,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
    last_accessed_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
    metadata JSONB,
    path_tokens TEXT[] GENERATED ALWAYS AS (string_to_array(name, '/'::text)) STORED,
    version TEXT,
    owner_id TEXT,
    user_metadata JSONB,
    PRIMARY KEY (id),
    CONSTRAINT "objects_bucketId_fkey" FOREIGN KEY(bucket_id) REFERENCES storage.buckets (id)
);

CREATE UNIQUE INDEX bucketid_objname ON storage.objects (bucket_id, name);

CREATE INDEX name_prefix_search ON storage.objects (name text_pattern_ops);

INSERT INTO storage.amphibase_version (version_num) VALUES ('0001') RETURNING storage.amphibase_version.version_num;

-- The bucket of Amphibase's own applications; a project begins without any.
DELETE FROM storage.buckets;
