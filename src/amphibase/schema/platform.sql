-- What migrations of Supabase projects mention of the platform, as far as it is not there: schemas,
-- tables and functions of extensions and services that the local Supabase has not. They take what
-- is written, and do nothing with it.
--
-- A database of an earlier version gets what it lacks. What is there stays as it is, with its grants:
-- it may be the project's own.

CREATE OR REPLACE FUNCTION pg_temp.create_missing(statements text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statements;
EXCEPTION WHEN duplicate_function OR duplicate_table OR duplicate_object THEN
    NULL;
END $$;

CREATE OR REPLACE FUNCTION pg_temp.is_empty(schema text) RETURNS boolean
    LANGUAGE sql AS $$
    SELECT NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = to_regnamespace($1))
        AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace($1))
$$;

-- Database webhooks.
CREATE SCHEMA IF NOT EXISTS supabase_functions;
GRANT USAGE ON SCHEMA supabase_functions TO anon, authenticated, service_role;
CREATE TABLE IF NOT EXISTS supabase_functions.migrations (
    version text PRIMARY KEY, inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS supabase_functions.hooks (
    id bigserial PRIMARY KEY,
    hook_table_id integer NOT NULL,
    hook_name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    request_id bigint
);
CREATE OR REPLACE FUNCTION supabase_functions.http_request() RETURNS trigger
    LANGUAGE plpgsql
    AS 'BEGIN IF TG_OP = ''DELETE'' THEN RETURN old; END IF; RETURN new; END';
GRANT EXECUTE ON FUNCTION supabase_functions.http_request() TO anon, authenticated, service_role;

DO $$
DECLARE
    available text[] := ARRAY(SELECT name::text FROM pg_available_extensions);
BEGIN
    IF 'pg_cron' <> ALL (available) AND to_regnamespace('cron') IS NULL THEN
        CREATE SCHEMA cron;
    END IF;
    IF 'pg_cron' <> ALL (available) AND (
        to_regclass('cron.job') IS NOT NULL OR pg_temp.is_empty('cron')
    ) THEN
        CREATE TABLE IF NOT EXISTS cron.job (
            jobid bigserial PRIMARY KEY,
            schedule text NOT NULL,
            command text NOT NULL,
            nodename text NOT NULL DEFAULT 'localhost',
            nodeport integer NOT NULL DEFAULT 5432,
            database text NOT NULL DEFAULT current_database(),
            username text NOT NULL DEFAULT current_user,
            active boolean NOT NULL DEFAULT true,
            jobname text UNIQUE
        );
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION cron.schedule(job_name text, schedule text, command text) RETURNS bigint
            LANGUAGE sql AS $body$
                INSERT INTO cron.job (jobname, schedule, command) VALUES ($1, $2, $3)
                ON CONFLICT (jobname) DO UPDATE
                SET schedule = excluded.schedule, command = excluded.command
                RETURNING jobid
            $body$
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION cron.schedule(schedule text, command text) RETURNS bigint
            LANGUAGE sql
            AS 'INSERT INTO cron.job (schedule, command) VALUES ($1, $2) RETURNING jobid'
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION cron.unschedule(job_id bigint) RETURNS boolean
            LANGUAGE plpgsql AS $body$
            BEGIN
                DELETE FROM cron.job WHERE jobid = $1;
                IF NOT FOUND THEN
                    RAISE EXCEPTION 'could not find valid entry for job %', $1;
                END IF;
                RETURN true;
            END $body$
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION cron.unschedule(job_name text) RETURNS boolean
            LANGUAGE plpgsql AS $body$
            BEGIN
                DELETE FROM cron.job WHERE jobname = $1;
                IF NOT FOUND THEN
                    RAISE EXCEPTION 'could not find valid entry for job ''%''', $1;
                END IF;
                RETURN true;
            END $body$
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION cron.schedule_in_database(
            job_name text, schedule text, command text, database text,
            username text DEFAULT NULL, active boolean DEFAULT true
        ) RETURNS bigint LANGUAGE sql AS $body$
            INSERT INTO cron.job (jobname, schedule, command, database, username, active)
            VALUES ($1, $2, $3, $4, coalesce($5, current_user), $6)
            ON CONFLICT (jobname) DO UPDATE
            SET schedule = excluded.schedule, command = excluded.command,
                database = excluded.database, username = excluded.username,
                active = excluded.active
            RETURNING jobid
        $body$
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION cron.alter_job(
            job_id bigint, schedule text DEFAULT NULL, command text DEFAULT NULL,
            database text DEFAULT NULL, username text DEFAULT NULL, active boolean DEFAULT NULL
        ) RETURNS void LANGUAGE sql AS $body$
            UPDATE cron.job
            SET schedule = coalesce($2, job.schedule), command = coalesce($3, job.command),
                database = coalesce($4, job.database), username = coalesce($5, job.username),
                active = coalesce($6, job.active)
            WHERE jobid = $1
        $body$
        $create$);
        CREATE TABLE IF NOT EXISTS cron.job_run_details (
            jobid bigint,
            runid bigserial PRIMARY KEY,
            job_pid integer,
            database text,
            username text,
            command text,
            status text,
            return_message text,
            start_time timestamptz,
            end_time timestamptz
        );
    END IF;

    IF 'pg_net' <> ALL (available) AND to_regnamespace('net') IS NULL THEN
        CREATE SCHEMA net;
        GRANT USAGE ON SCHEMA net TO anon, authenticated, service_role;
    END IF;
    IF 'pg_net' <> ALL (available) AND (
        to_regproc('net.http_get') IS NOT NULL OR pg_temp.is_empty('net')
    ) THEN
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION net.http_get(
            url text, params jsonb DEFAULT '{}', headers jsonb DEFAULT '{}',
            timeout_milliseconds integer DEFAULT 5000
        ) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION net.http_post(
            url text, body jsonb DEFAULT '{}', params jsonb DEFAULT '{}',
            headers jsonb DEFAULT '{"Content-Type": "application/json"}',
            timeout_milliseconds integer DEFAULT 5000
        ) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION net.http_delete(
            url text, params jsonb DEFAULT '{}', headers jsonb DEFAULT '{}',
            timeout_milliseconds integer DEFAULT 5000, body jsonb DEFAULT NULL
        ) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'
        $create$);
        CREATE TABLE IF NOT EXISTS net.http_request_queue (
            id bigserial,
            method text NOT NULL,
            url text NOT NULL,
            headers jsonb,
            body bytea,
            timeout_milliseconds integer NOT NULL
        );
        CREATE TABLE IF NOT EXISTS net._http_response (
            id bigint,
            status_code integer,
            content_type text,
            headers jsonb,
            content text,
            timed_out boolean,
            error_msg text,
            created timestamptz NOT NULL DEFAULT now()
        );
        PERFORM pg_temp.create_missing($create$
        CREATE TYPE net.request_status AS ENUM ('PENDING', 'SUCCESS', 'ERROR');
        CREATE TYPE net.http_response AS (status_code integer, headers jsonb, body text);
        CREATE TYPE net.http_response_result AS (
            status net.request_status, message text, response net.http_response
        );
        CREATE FUNCTION net._http_collect_response(request_id bigint, async boolean DEFAULT true)
            RETURNS net.http_response_result LANGUAGE sql
            AS 'SELECT (''ERROR'', ''No request is sent here'', NULL)::net.http_response_result';
        CREATE FUNCTION net.http_collect_response(request_id bigint, async boolean DEFAULT true)
            RETURNS net.http_response_result LANGUAGE sql
            AS 'SELECT net._http_collect_response($1, $2)'
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION net.check_worker_is_up() RETURNS void LANGUAGE sql AS ''
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION net.worker_restart() RETURNS boolean LANGUAGE sql AS 'SELECT true'
        $create$);
    END IF;

    -- Packages of database.dev; those that a migration makes extensions of are skipped.
    IF 'pg_tle' <> ALL (available) AND to_regnamespace('pgtle') IS NULL THEN
        CREATE SCHEMA pgtle;
        CREATE FUNCTION pgtle.install_extension(
            name text, version text, description text, ext text, requires text[] DEFAULT NULL
        ) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION pgtle.install_update_path(
            name text, fromvers text, tovers text, ext text
        ) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION pgtle.set_default_version(name text, version text) RETURNS boolean
            LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION pgtle.uninstall_extension(extname text) RETURNS boolean
            LANGUAGE sql AS 'SELECT true';
        CREATE FUNCTION pgtle.uninstall_extension_if_exists(extname text) RETURNS boolean
            LANGUAGE sql AS 'SELECT false';
        IF to_regnamespace('dbdev') IS NULL THEN
            CREATE SCHEMA dbdev;
            CREATE FUNCTION dbdev.install(package_name text) RETURNS boolean
                LANGUAGE sql AS 'SELECT true';
        END IF;
    END IF;

    IF 'pg_graphql' <> ALL (available) AND to_regnamespace('graphql') IS NULL THEN
        CREATE SCHEMA graphql;
        GRANT USAGE ON SCHEMA graphql TO anon, authenticated, service_role;
    END IF;
    IF 'pg_graphql' <> ALL (available) AND pg_temp.is_empty('graphql') THEN
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION graphql.resolve(
            query text, variables jsonb DEFAULT '{}', "operationName" text DEFAULT NULL,
            extensions jsonb DEFAULT NULL
        ) RETURNS jsonb LANGUAGE sql STABLE
            AS 'SELECT graphql_public.graphql($3, $1, $2, $4)'
        $create$);
    END IF;

    -- Unlike the platform's, these secrets are not encrypted: they are for development.
    IF 'supabase_vault' <> ALL (available) AND to_regnamespace('vault') IS NULL THEN
        CREATE SCHEMA vault;
        GRANT USAGE ON SCHEMA vault TO service_role;
    END IF;
    IF 'supabase_vault' <> ALL (available) AND (
        to_regclass('vault.secrets') IS NOT NULL OR pg_temp.is_empty('vault')
    ) THEN
        CREATE TABLE IF NOT EXISTS vault.secrets (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            name text,
            description text NOT NULL DEFAULT '',
            secret text NOT NULL,
            key_id uuid,
            nonce bytea,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE UNIQUE INDEX IF NOT EXISTS secrets_name_idx
            ON vault.secrets (name) WHERE name IS NOT NULL;
        PERFORM pg_temp.create_missing($create$
        CREATE VIEW vault.decrypted_secrets AS
            SELECT id, name, description, secret, secret AS decrypted_secret, key_id, nonce,
                created_at, updated_at
            FROM vault.secrets;
            GRANT SELECT, DELETE ON vault.secrets, vault.decrypted_secrets
                TO service_role
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION vault.create_secret(
            new_secret text, new_name text DEFAULT NULL, new_description text DEFAULT '',
            new_key_id uuid DEFAULT NULL
        ) RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $body$
            INSERT INTO vault.secrets (secret, name, description) VALUES ($1, $2, $3) RETURNING id
        $body$;
            REVOKE EXECUTE ON FUNCTION vault.create_secret FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION vault.create_secret TO service_role
        $create$);
        PERFORM pg_temp.create_missing($create$
        CREATE FUNCTION vault.update_secret(
            secret_id uuid, new_secret text DEFAULT NULL, new_name text DEFAULT NULL,
            new_description text DEFAULT NULL, new_key_id uuid DEFAULT NULL
        ) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $body$
            UPDATE vault.secrets
            SET secret = coalesce($2, secret), name = coalesce($3, name),
                description = coalesce($4, description), updated_at = now()
            WHERE id = $1
        $body$;
            REVOKE EXECUTE ON FUNCTION vault.update_secret FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION vault.update_secret TO service_role
        $create$);
    END IF;
END $$;

-- Event triggers of the platform, of which migrations that are drawn from a database have the
-- functions' names.
CREATE OR REPLACE FUNCTION extensions.grant_pg_cron_access() RETURNS event_trigger
    LANGUAGE plpgsql AS 'BEGIN END';
CREATE OR REPLACE FUNCTION extensions.grant_pg_graphql_access() RETURNS event_trigger
    LANGUAGE plpgsql AS 'BEGIN END';
CREATE OR REPLACE FUNCTION extensions.grant_pg_net_access() RETURNS event_trigger
    LANGUAGE plpgsql AS 'BEGIN END';
CREATE OR REPLACE FUNCTION extensions.set_graphql_placeholder() RETURNS event_trigger
    LANGUAGE plpgsql AS 'BEGIN END';
