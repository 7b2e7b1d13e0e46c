-- The roles of a Supabase project. They belong to the whole server: another database's project
-- may be made at the same moment, so that everybody waits here.
LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE;

DO $$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT name, options
        FROM (VALUES
            ('anon', 'NOLOGIN NOINHERIT'),
            ('authenticated', 'NOLOGIN NOINHERIT'),
            ('service_role', 'NOLOGIN NOINHERIT BYPASSRLS'),
            ('authenticator', 'LOGIN NOINHERIT'),
            ('supabase_auth_admin', 'LOGIN NOINHERIT'),
            ('supabase_storage_admin', 'LOGIN NOINHERIT'),
            ('supabase_realtime_admin', 'LOGIN NOINHERIT REPLICATION'),
            -- What people's own migrations name, and nobody signs in as.
            ('postgres', 'NOLOGIN'),
            ('supabase_admin', 'NOLOGIN'),
            ('dashboard_user', 'NOLOGIN'),
            ('pgbouncer', 'NOLOGIN'),
            ('supabase_etl_admin', 'NOLOGIN'),
            ('supabase_functions_admin', 'NOLOGIN'),
            ('supabase_read_only_user', 'NOLOGIN'),
            ('supabase_replication_admin', 'NOLOGIN')
        ) AS wanted (name, options)
        WHERE name NOT IN (SELECT rolname FROM pg_roles)
    LOOP
        EXECUTE format('CREATE ROLE %I %s', made.name, made.options);
        -- A new authenticator changes no rows without a condition, as on the platform: by the
        -- module safeupdate or, where the server lacks it, by the Data API, which reads this
        -- setting of the module.
        IF made.name = 'authenticator' THEN
            IF EXISTS (
                SELECT FROM pg_config AS config, pg_ls_dir(config.setting) AS file
                WHERE config.name = 'PKGLIBDIR' AND starts_with(file, 'safeupdate.')
            ) THEN
                ALTER ROLE authenticator SET session_preload_libraries = 'safeupdate';
            ELSE
                ALTER ROLE authenticator SET safeupdate.enabled = 'on';
            END IF;
        END IF;
    END LOOP;

    -- An application of Amphibase may have made the first three, and without these.
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role' AND NOT rolbypassrls) THEN
        ALTER ROLE service_role BYPASSRLS;
    END IF;
    -- Realtime reads what is committed.
    IF EXISTS (
        SELECT FROM pg_roles WHERE rolname = 'supabase_realtime_admin' AND NOT rolreplication
    ) THEN
        ALTER ROLE supabase_realtime_admin REPLICATION;
    END IF;
    FOR made IN
        SELECT role AS name, setting, value
        FROM (VALUES
            ('anon', 'statement_timeout', '3s'),
            ('authenticated', 'statement_timeout', '8s'),
            ('authenticator', 'statement_timeout', '8s'),
            ('authenticator', 'lock_timeout', '8s'),
            ('authenticator', 'search_path', 'public, extensions'),
            -- What a trigger on auth.users or storage.objects finds without naming its schema.
            ('supabase_auth_admin', 'search_path', 'auth'),
            ('supabase_auth_admin', 'idle_in_transaction_session_timeout', '60000'),
            ('supabase_storage_admin', 'search_path', 'storage, public, extensions')
        ) AS wanted (role, setting, value)
        WHERE NOT EXISTS (
            SELECT FROM pg_roles, unnest(rolconfig) AS given
            WHERE rolname = role AND starts_with(given, setting || '=')
        )
    LOOP
        EXECUTE format('ALTER ROLE %I SET %I = %s', made.name, made.setting,
            CASE made.setting WHEN 'search_path' THEN made.value ELSE quote_literal(made.value) END);
    END LOOP;

    -- authenticator becomes one of the three, and has by itself what none of them has; Storage and
    -- Realtime become them by way of authenticator.
    FOR made IN
        SELECT role AS name, member
        FROM (VALUES
            ('anon', 'authenticator'),
            ('authenticated', 'authenticator'),
            ('service_role', 'authenticator'),
            ('authenticator', 'supabase_storage_admin'),
            ('authenticator', 'supabase_realtime_admin')
        ) AS wanted (role, member)
        WHERE NOT EXISTS (
            SELECT FROM pg_auth_members
            WHERE roleid = to_regrole(role) AND pg_auth_members.member = to_regrole(wanted.member)
        )
    LOOP
        EXECUTE format('GRANT %I TO %I', made.name, made.member) || CASE
            WHEN current_setting('server_version_num')::int >= 160000
                THEN ' WITH INHERIT FALSE, SET TRUE'
            ELSE ''
        END;
    END LOOP;

    -- Migrations that run as postgres make policies for storage.objects and realtime.messages, which
    -- their owners alone may.
    GRANT supabase_storage_admin, supabase_realtime_admin TO postgres;
END $$;
