-- The tables and functions that `auth` and `storage` have in a Supabase project and that nothing
-- here uses: so that a dump of one (`supabase db dump --data-only --use-copy`), which has a COPY for
-- each table, arrives whole.
-- Names and columns are those of supabase/auth 2.196 and supabase/storage 1.70. It may be run again.

DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('oauth_registration_type', ARRAY['dynamic', 'manual']),
            ('oauth_client_type', ARRAY['public', 'confidential']),
            ('oauth_response_type', ARRAY['code']),
            ('oauth_authorization_status', ARRAY['pending', 'approved', 'denied', 'expired'])
        ) AS enums (name, labels)
        WHERE to_regtype('auth.' || name) IS NULL
    LOOP
        EXECUTE format(
            'CREATE TYPE auth.%I AS ENUM (%s)',
            wanted.name,
            (SELECT string_agg(quote_literal(label), ', ') FROM unnest(wanted.labels) AS label)
        );
    END LOOP;
END $$;

CREATE TABLE IF NOT EXISTS auth.instances (
    id uuid PRIMARY KEY,
    uuid uuid,
    raw_base_config text,
    created_at timestamptz,
    updated_at timestamptz
);

CREATE TABLE IF NOT EXISTS auth.schema_migrations (version varchar(255) PRIMARY KEY);

CREATE TABLE IF NOT EXISTS auth.sso_providers (
    id uuid PRIMARY KEY,
    resource_id text,
    created_at timestamptz,
    updated_at timestamptz,
    disabled boolean
);

CREATE TABLE IF NOT EXISTS auth.sso_domains (
    id uuid PRIMARY KEY,
    sso_provider_id uuid NOT NULL REFERENCES auth.sso_providers ON DELETE CASCADE,
    domain text NOT NULL,
    created_at timestamptz,
    updated_at timestamptz
);

CREATE TABLE IF NOT EXISTS auth.saml_providers (
    id uuid PRIMARY KEY,
    sso_provider_id uuid NOT NULL REFERENCES auth.sso_providers ON DELETE CASCADE,
    entity_id text NOT NULL UNIQUE,
    metadata_xml text NOT NULL,
    metadata_url text,
    attribute_mapping jsonb,
    created_at timestamptz,
    updated_at timestamptz,
    name_id_format text
);

CREATE TABLE IF NOT EXISTS auth.saml_relay_states (
    id uuid PRIMARY KEY,
    sso_provider_id uuid NOT NULL REFERENCES auth.sso_providers ON DELETE CASCADE,
    request_id text NOT NULL,
    for_email text,
    redirect_to text,
    created_at timestamptz,
    updated_at timestamptz,
    flow_state_id uuid REFERENCES auth.flow_state ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS auth.oauth_clients (
    id uuid PRIMARY KEY,
    client_secret_hash text,
    registration_type auth.oauth_registration_type NOT NULL,
    redirect_uris text NOT NULL,
    grant_types text NOT NULL,
    client_name text,
    client_uri text,
    logo_uri text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    client_type auth.oauth_client_type NOT NULL DEFAULT 'confidential',
    token_endpoint_auth_method text NOT NULL
);

CREATE TABLE IF NOT EXISTS auth.oauth_authorizations (
    id uuid PRIMARY KEY,
    authorization_id text NOT NULL UNIQUE,
    client_id uuid NOT NULL REFERENCES auth.oauth_clients ON DELETE CASCADE,
    user_id uuid REFERENCES auth.users ON DELETE CASCADE,
    redirect_uri text NOT NULL,
    scope text NOT NULL,
    state text,
    resource text,
    code_challenge text,
    code_challenge_method auth.code_challenge_method,
    response_type auth.oauth_response_type NOT NULL DEFAULT 'code',
    status auth.oauth_authorization_status NOT NULL DEFAULT 'pending',
    authorization_code text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '3 minutes',
    approved_at timestamptz,
    nonce text
);

CREATE TABLE IF NOT EXISTS auth.oauth_consents (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    client_id uuid NOT NULL REFERENCES auth.oauth_clients ON DELETE CASCADE,
    scopes text NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    UNIQUE (user_id, client_id)
);

CREATE TABLE IF NOT EXISTS auth.oauth_client_states (
    id uuid PRIMARY KEY,
    provider_type text NOT NULL,
    code_verifier text,
    created_at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS auth.custom_oauth_providers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    provider_type text NOT NULL,
    identifier text NOT NULL UNIQUE,
    name text NOT NULL,
    client_id text NOT NULL,
    client_secret text NOT NULL,
    acceptable_client_ids text[] NOT NULL DEFAULT '{}',
    scopes text[] NOT NULL DEFAULT '{}',
    pkce_enabled boolean NOT NULL DEFAULT true,
    attribute_mapping jsonb NOT NULL DEFAULT '{}',
    authorization_params jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    email_optional boolean NOT NULL DEFAULT false,
    issuer text,
    discovery_url text,
    skip_nonce_check boolean NOT NULL DEFAULT false,
    cached_discovery jsonb,
    discovery_cached_at timestamptz,
    authorization_url text,
    token_url text,
    userinfo_url text,
    jwks_uri text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS auth.webauthn_credentials (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
    credential_id bytea NOT NULL UNIQUE,
    public_key bytea NOT NULL,
    attestation_type text NOT NULL DEFAULT '',
    aaguid uuid,
    sign_count bigint NOT NULL DEFAULT 0,
    transports jsonb NOT NULL DEFAULT '[]',
    backup_eligible boolean NOT NULL DEFAULT false,
    backed_up boolean NOT NULL DEFAULT false,
    friendly_name text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz
);

CREATE TABLE IF NOT EXISTS auth.webauthn_challenges (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid REFERENCES auth.users ON DELETE CASCADE,
    challenge_type text NOT NULL,
    session_data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

ALTER TABLE auth.custom_oauth_providers
    ADD COLUMN IF NOT EXISTS custom_claims_allowlist text[] NOT NULL DEFAULT '{}';
ALTER TABLE storage.buckets ADD COLUMN IF NOT EXISTS versioning_status text;
ALTER TABLE storage.objects
    ADD COLUMN IF NOT EXISTS archived_at timestamptz,
    ADD COLUMN IF NOT EXISTS is_delete_marker boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS is_versioned boolean NOT NULL DEFAULT false;

CREATE TABLE IF NOT EXISTS storage.migrations (
    id integer PRIMARY KEY,
    name varchar(100) NOT NULL UNIQUE,
    hash varchar(40) NOT NULL,
    executed_at timestamp DEFAULT current_timestamp
);

CREATE TABLE IF NOT EXISTS storage.s3_multipart_uploads (
    id text PRIMARY KEY,
    in_progress_size bigint NOT NULL DEFAULT 0,
    upload_signature text NOT NULL,
    bucket_id text NOT NULL REFERENCES storage.buckets,
    key text COLLATE "C" NOT NULL,
    version text NOT NULL,
    owner_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    user_metadata jsonb,
    metadata jsonb
);

CREATE TABLE IF NOT EXISTS storage.s3_multipart_uploads_parts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    upload_id text NOT NULL REFERENCES storage.s3_multipart_uploads ON DELETE CASCADE,
    size bigint NOT NULL DEFAULT 0,
    part_number integer NOT NULL,
    bucket_id text NOT NULL REFERENCES storage.buckets,
    key text COLLATE "C" NOT NULL,
    etag text NOT NULL,
    owner_id text,
    version text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS storage.buckets_analytics (
    name text NOT NULL,
    type storage.buckettype NOT NULL DEFAULT 'ANALYTICS',
    format text NOT NULL DEFAULT 'ICEBERG',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    deleted_at timestamptz
);

CREATE TABLE IF NOT EXISTS storage.iceberg_namespaces (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    bucket_name text NOT NULL,
    name text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    metadata jsonb NOT NULL DEFAULT '{}',
    catalog_id uuid NOT NULL REFERENCES storage.buckets_analytics ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS storage.iceberg_tables (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id uuid NOT NULL REFERENCES storage.iceberg_namespaces ON DELETE CASCADE,
    bucket_name text NOT NULL,
    name text COLLATE "C" NOT NULL,
    location text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    remote_table_id text,
    shard_key text,
    shard_id text,
    catalog_id uuid NOT NULL REFERENCES storage.buckets_analytics ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS storage.buckets_vectors (
    id text PRIMARY KEY,
    type storage.buckettype NOT NULL DEFAULT 'VECTOR',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS storage.vector_indexes (
    id text PRIMARY KEY DEFAULT gen_random_uuid(),
    name text COLLATE "C" NOT NULL,
    bucket_id text NOT NULL REFERENCES storage.buckets_vectors,
    data_type text NOT NULL,
    dimension integer NOT NULL,
    distance_metric text NOT NULL,
    metadata_configuration jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Callers see nothing of these, as on the platform.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'migrations', 's3_multipart_uploads', 's3_multipart_uploads_parts', 'buckets_analytics',
        'iceberg_namespaces', 'iceberg_tables', 'buckets_vectors', 'vector_indexes'
    ]
    LOOP
        EXECUTE format('ALTER TABLE storage.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('GRANT ALL ON storage.%I TO service_role', name);
        IF name <> 'migrations' THEN
            EXECUTE format('GRANT SELECT ON storage.%I TO anon, authenticated', name);
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION storage.get_size_by_bucket()
    RETURNS TABLE (size bigint, bucket_id text) LANGUAGE sql STABLE AS $$
    SELECT sum((metadata ->> 'size')::bigint)::bigint, objects.bucket_id
    FROM storage.objects GROUP BY objects.bucket_id
$$;

-- Ends in an error in either case, so that nothing is stored: PT200 says that it could be.
CREATE OR REPLACE FUNCTION storage.can_insert_object(
    bucketid text, name text, owner uuid, metadata jsonb
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO storage.objects (bucket_id, name, owner, metadata)
    VALUES (bucketid, name, owner, metadata);
    RAISE SQLSTATE 'PT200' USING MESSAGE = 'ROLLBACK', DETAIL = 'rollback successful insert';
END $$;

-- The part of a key up to the first delimiter after the prefix; NULL where there is none.
CREATE OR REPLACE FUNCTION storage.get_common_prefix(p_key text, p_prefix text, p_delimiter text)
    RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN strpos(substr(p_key, length(p_prefix) + 1), p_delimiter) > 0 THEN
        p_prefix || split_part(substr(p_key, length(p_prefix) + 1), p_delimiter, 1) || p_delimiter
    END
$$;

-- Objects below a prefix, and those behind a delimiter as one entry without an id.
CREATE OR REPLACE FUNCTION storage.list_objects_with_delimiter(
    _bucket_id text,
    prefix_param text,
    delimiter_param text,
    max_keys integer DEFAULT 100,
    start_after text DEFAULT '',
    next_token text DEFAULT '',
    sort_order text DEFAULT 'asc'
) RETURNS TABLE (
    name text,
    id uuid,
    metadata jsonb,
    updated_at timestamptz,
    created_at timestamptz,
    last_accessed_at timestamptz
) LANGUAGE sql STABLE AS $$
    SELECT entry, id, metadata, updated_at, created_at, last_accessed_at FROM (
        SELECT DISTINCT ON (entry)
            entry,
            CASE WHEN folder IS NULL THEN below.id END AS id,
            CASE WHEN folder IS NULL THEN below.metadata END AS metadata,
            CASE WHEN folder IS NULL THEN below.updated_at END AS updated_at,
            CASE WHEN folder IS NULL THEN below.created_at END AS created_at,
            CASE WHEN folder IS NULL THEN below.last_accessed_at END AS last_accessed_at
        FROM (
            SELECT objects.*, folder,
                coalesce(rtrim(folder, delimiter_param), objects.name) COLLATE "C" AS entry
            FROM storage.objects,
                LATERAL storage.get_common_prefix(
                    objects.name, coalesce(prefix_param, ''), delimiter_param
                ) AS folder
            WHERE bucket_id = _bucket_id AND starts_with(objects.name, coalesce(prefix_param, ''))
        ) AS below
        ORDER BY entry
    ) AS entries
    WHERE CASE
        WHEN coalesce(nullif(next_token, ''), start_after, '') = '' THEN true
        WHEN lower(sort_order) = 'desc' THEN entry < coalesce(nullif(next_token, ''), start_after)
        ELSE entry > coalesce(nullif(next_token, ''), start_after)
    END
    ORDER BY
        CASE WHEN lower(sort_order) = 'desc' THEN entry END DESC,
        CASE WHEN lower(sort_order) <> 'desc' THEN entry END ASC
    LIMIT max_keys
$$;

-- The names at one level of the tree whose path begins with the prefix and the search.
CREATE OR REPLACE FUNCTION storage.search(
    prefix text,
    bucketname text,
    limits integer DEFAULT 100,
    levels integer DEFAULT 1,
    offsets integer DEFAULT 0,
    search text DEFAULT '',
    sortcolumn text DEFAULT 'name',
    sortorder text DEFAULT 'asc'
) RETURNS TABLE (
    name text,
    id uuid,
    updated_at timestamptz,
    created_at timestamptz,
    last_accessed_at timestamptz,
    metadata jsonb
) LANGUAGE sql STABLE AS $$
    SELECT entry, id, updated_at, created_at, last_accessed_at, metadata FROM (
        SELECT DISTINCT path_tokens[levels] AS entry, NULL::uuid AS id,
            NULL::timestamptz AS updated_at, NULL::timestamptz AS created_at,
            NULL::timestamptz AS last_accessed_at, NULL::jsonb AS metadata
        FROM storage.objects
        WHERE bucket_id = bucketname AND cardinality(path_tokens) > levels
            AND starts_with(lower(objects.name), lower(prefix || search))
        UNION ALL
        SELECT path_tokens[levels], objects.id, objects.updated_at, objects.created_at,
            objects.last_accessed_at, objects.metadata
        FROM storage.objects
        WHERE bucket_id = bucketname AND cardinality(path_tokens) = levels
            AND starts_with(lower(objects.name), lower(prefix || search))
    ) AS entries
    ORDER BY
        id IS NOT NULL,
        CASE WHEN lower(sortorder) <> 'desc' THEN CASE sortcolumn
            WHEN 'updated_at' THEN updated_at
            WHEN 'created_at' THEN created_at
            WHEN 'last_accessed_at' THEN last_accessed_at
        END END ASC,
        CASE WHEN lower(sortorder) = 'desc' THEN CASE sortcolumn
            WHEN 'updated_at' THEN updated_at
            WHEN 'created_at' THEN created_at
            WHEN 'last_accessed_at' THEN last_accessed_at
        END END DESC,
        CASE WHEN lower(sortorder) = 'desc' AND sortcolumn = 'name' THEN entry END COLLATE "C" DESC,
        entry COLLATE "C" ASC
    LIMIT limits OFFSET offsets
$$;

-- The same by pages: an entry's key is its path, and a folder's ends with a slash.
CREATE OR REPLACE FUNCTION storage.search_by_timestamp(
    p_prefix text,
    p_bucket_id text,
    p_limit integer,
    p_level integer,
    p_start_after text,
    p_sort_order text,
    p_sort_column text,
    p_sort_column_after text
) RETURNS TABLE (
    key text,
    name text,
    id uuid,
    updated_at timestamptz,
    created_at timestamptz,
    last_accessed_at timestamptz,
    metadata jsonb
) LANGUAGE sql STABLE AS $$
    WITH entries AS (
        SELECT
            array_to_string(path_tokens[:p_level], '/') || '/' AS key,
            array_to_string(path_tokens[:p_level], '/') || '/' AS name, NULL::uuid AS id,
            min(objects.updated_at) AS updated_at, min(objects.created_at) AS created_at,
            NULL::timestamptz AS last_accessed_at, NULL::jsonb AS metadata
        FROM storage.objects
        WHERE bucket_id = p_bucket_id AND starts_with(objects.name, p_prefix)
            AND cardinality(path_tokens) > p_level
        GROUP BY path_tokens[:p_level]
        UNION ALL
        SELECT objects.name, objects.name, objects.id, objects.updated_at, objects.created_at,
            objects.last_accessed_at, objects.metadata
        FROM storage.objects
        WHERE bucket_id = p_bucket_id AND starts_with(objects.name, p_prefix)
            AND cardinality(path_tokens) = p_level
    ),
    placed AS (
        SELECT *, CASE p_sort_column
            WHEN 'updated_at' THEN updated_at WHEN 'created_at' THEN created_at
        END AS place
        FROM entries
    )
    SELECT key, name, id, updated_at, created_at, last_accessed_at, metadata FROM placed
    WHERE CASE
        WHEN coalesce(p_start_after, '') = '' THEN true
        WHEN coalesce(p_sort_column_after, '') = '' OR place IS NULL THEN CASE lower(p_sort_order)
            WHEN 'desc' THEN key COLLATE "C" < p_start_after ELSE key COLLATE "C" > p_start_after
        END
        WHEN lower(p_sort_order) = 'desc' THEN
            (place, key COLLATE "C") < (p_sort_column_after::timestamptz, p_start_after)
        ELSE (place, key COLLATE "C") > (p_sort_column_after::timestamptz, p_start_after)
    END
    ORDER BY
        CASE WHEN lower(p_sort_order) = 'desc' THEN place END DESC,
        CASE WHEN lower(p_sort_order) = 'desc' THEN key END COLLATE "C" DESC,
        place ASC,
        key COLLATE "C" ASC
    LIMIT p_limit
$$;

CREATE OR REPLACE FUNCTION storage.search_v2(
    prefix text,
    bucket_name text,
    limits integer DEFAULT 100,
    levels integer DEFAULT 1,
    start_after text DEFAULT '',
    sort_order text DEFAULT 'asc',
    sort_column text DEFAULT 'name',
    sort_column_after text DEFAULT ''
) RETURNS TABLE (
    key text,
    name text,
    id uuid,
    updated_at timestamptz,
    created_at timestamptz,
    last_accessed_at timestamptz,
    metadata jsonb
) LANGUAGE sql STABLE AS $$
    SELECT * FROM storage.search_by_timestamp(
        prefix, bucket_name, limits, levels, start_after, sort_order, sort_column, sort_column_after
    )
$$;
