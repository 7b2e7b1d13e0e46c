-- What a Supabase project has in its database, beside the tables of `auth` and `storage`.
-- It may be run again: what is there stays, and functions become the newest.

CREATE SCHEMA IF NOT EXISTS extensions;
CREATE SCHEMA IF NOT EXISTS graphql_public;

GRANT USAGE ON SCHEMA public, auth, storage, extensions, graphql_public
    TO postgres, anon, authenticated, service_role;
GRANT ALL ON SCHEMA auth TO supabase_auth_admin, dashboard_user;
GRANT ALL ON SCHEMA storage TO supabase_storage_admin, dashboard_user;
GRANT ALL ON storage.buckets, storage.objects TO postgres, anon, authenticated, service_role;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA auth TO anon, authenticated, service_role;
GRANT ALL ON ALL TABLES IN SCHEMA auth, storage TO postgres, dashboard_user;
GRANT ALL ON ALL SEQUENCES IN SCHEMA auth, storage TO postgres, dashboard_user;
-- A signed upload ends when its owner is banned.
GRANT USAGE ON SCHEMA auth TO supabase_storage_admin;
GRANT SELECT (id, banned_until, deleted_at) ON auth.users TO supabase_storage_admin;

-- What is made from now on. The roles of the Data API get what each table's own GRANTs say.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO postgres;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON ROUTINES TO postgres;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO postgres;

ALTER TABLE storage.buckets ENABLE ROW LEVEL SECURITY;
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;

-- What is being done, for policies: `storage.object.upload`, `storage.object.list` …
CREATE OR REPLACE FUNCTION storage.operation() RETURNS text
    LANGUAGE sql STABLE
    RETURN current_setting('storage.operation', true);

-- Whether what is being done is one of these; `storage.` may be left out of either.
CREATE OR REPLACE FUNCTION storage.allow_any_operation(expected_operations text[]) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN EXISTS (
        SELECT FROM unnest(expected_operations) AS expected
        WHERE expected <> ''
            AND regexp_replace(expected, '^storage\.', '')
                = regexp_replace(storage.operation(), '^storage\.', '')
    );

CREATE OR REPLACE FUNCTION storage.allow_only_operation(expected_operation text) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN storage.allow_any_operation(ARRAY[expected_operation]);

CREATE OR REPLACE FUNCTION storage.foldername(name text) RETURNS text[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN trim_array(string_to_array(name, '/'), least(1, cardinality(string_to_array(name, '/'))));

CREATE OR REPLACE FUNCTION storage.filename(name text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN split_part(name, '/', -1);

CREATE OR REPLACE FUNCTION storage.extension(name text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN split_part(split_part(name, '/', -1), '.', -1);

-- Supabase has these installed; a server that lacks one gets its functions from a script.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'uuid-ossp')
        AND to_regprocedure('extensions.uuid_generate_v4()') IS NULL
    THEN
        CREATE EXTENSION IF NOT EXISTS "uuid-ossp" WITH SCHEMA extensions;
    END IF;
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgcrypto')
        AND to_regprocedure('extensions.crypt(text, text)') IS NULL
    THEN
        CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA extensions;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'supabase_realtime') THEN
        CREATE PUBLICATION supabase_realtime;
    END IF;
END $$;

-- A server that has pg_graphql may have the platform's own.
DO $$
BEGIN
    IF to_regprocedure('graphql_public.graphql(text, text, jsonb, jsonb)') IS NULL THEN
        CREATE FUNCTION graphql_public.graphql(
            "operationName" text DEFAULT NULL,
            query text DEFAULT NULL,
            variables jsonb DEFAULT NULL,
            extensions jsonb DEFAULT NULL
        ) RETURNS jsonb LANGUAGE sql STABLE
            RETURN jsonb_build_object('errors', jsonb_build_array(
                jsonb_build_object('message', 'pg_graphql extension is not enabled.')
            ));
    END IF;
END $$;

-- The Data API reads the catalog again when it has changed.
CREATE OR REPLACE FUNCTION extensions.pgrst_ddl_watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_event_trigger_ddl_commands()
        WHERE schema_name IS DISTINCT FROM 'pg_temp'
    ) THEN
        NOTIFY pgrst, 'reload schema';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION extensions.pgrst_drop_watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_event_trigger_dropped_objects()
        WHERE NOT is_temporary AND schema_name IS DISTINCT FROM 'pg_temp'
    ) THEN
        NOTIFY pgrst, 'reload schema';
    END IF;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'pgrst_ddl_watch') THEN
        CREATE EVENT TRIGGER pgrst_ddl_watch ON ddl_command_end
            EXECUTE FUNCTION extensions.pgrst_ddl_watch();
    END IF;
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'pgrst_drop_watch') THEN
        CREATE EVENT TRIGGER pgrst_drop_watch ON sql_drop
            EXECUTE FUNCTION extensions.pgrst_drop_watch();
    END IF;
END $$;

-- Storage deletes rows together with their bytes, which a statement of one's own would leave behind.
CREATE OR REPLACE FUNCTION storage.protect_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('storage.allow_delete_query', true) IS DISTINCT FROM 'true' THEN
        RAISE EXCEPTION
            'Direct deletion from storage tables is not allowed. Use the Storage API instead.'
            USING ERRCODE = '42501', HINT = 'This leaves the bytes of objects behind.';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER protect_objects_delete BEFORE DELETE ON storage.objects
    FOR EACH STATEMENT EXECUTE FUNCTION storage.protect_delete();
CREATE OR REPLACE TRIGGER protect_buckets_delete BEFORE DELETE ON storage.buckets
    FOR EACH STATEMENT EXECUTE FUNCTION storage.protect_delete();

CREATE OR REPLACE FUNCTION storage.update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER update_objects_updated_at BEFORE UPDATE ON storage.objects
    FOR EACH ROW EXECUTE FUNCTION storage.update_updated_at_column();

CREATE OR REPLACE FUNCTION storage.enforce_bucket_name_length() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF length(NEW.name) > 100 THEN
        RAISE EXCEPTION 'bucket name "%" is too long (% characters). Max is 100.',
            NEW.name, length(NEW.name);
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER enforce_bucket_name_length_trigger
    BEFORE INSERT OR UPDATE OF name ON storage.buckets
    FOR EACH ROW EXECUTE FUNCTION storage.enforce_bucket_name_length();

-- Auth and Storage own what they work with, and nothing else: what a trigger of the project does,
-- it does with their rights unless its function is SECURITY DEFINER.
DO $$
DECLARE
    command text;
BEGIN
    FOR command IN
        SELECT format('ALTER %s %s OWNER TO %I', kind, name, role)
        FROM (
            SELECT
                CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind,
                oid::regclass::text AS name, relnamespace AS namespace, relowner AS owner
            FROM pg_class
            WHERE relkind IN ('r', 'p', 'v', 'S') AND NOT EXISTS (
                -- A sequence of a column goes with its table.
                SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                    AND objid = pg_class.oid AND relkind = 'S' AND deptype IN ('a', 'i')
            )
            UNION ALL
            -- One that is SECURITY DEFINER is the project's own, and was given its owner's rights.
            SELECT 'ROUTINE', oid::regprocedure::text, pronamespace, proowner
            FROM pg_proc WHERE NOT prosecdef
            UNION ALL
            SELECT 'TYPE', oid::regtype::text, typnamespace, typowner
            FROM pg_type WHERE typtype IN ('e', 'd')
        ) AS objects
        JOIN (VALUES
            ('auth', 'supabase_auth_admin'),
            ('storage', 'supabase_storage_admin')
        ) AS owners (schema, role) ON namespace = to_regnamespace(schema)
        WHERE owner <> to_regrole(role)
    LOOP
        EXECUTE command;
    END LOOP;
END $$;
