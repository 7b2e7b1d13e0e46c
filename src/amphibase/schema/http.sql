-- What migrations mention of the extension http, for servers that lack it: its types and functions
-- (https://github.com/pramsey/pgsql-http). No request is sent: each response has the status 503, and
-- no content.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'http')
        OR to_regtype('extensions.http_response') IS NOT NULL
    THEN
        RETURN;
    END IF;

    CREATE DOMAIN extensions.http_method AS text;
    CREATE DOMAIN extensions.content_type AS text CHECK (VALUE ~ '^\S+\/\S+');
    CREATE TYPE extensions.http_header AS (field varchar, value varchar);
    CREATE TYPE extensions.http_request AS (
        method extensions.http_method,
        uri varchar,
        headers extensions.http_header[],
        content_type varchar,
        content varchar
    );
    CREATE TYPE extensions.http_response AS (
        status integer, content_type varchar, headers extensions.http_header[], content varchar
    );

    CREATE FUNCTION extensions.http(request extensions.http_request)
        RETURNS extensions.http_response LANGUAGE sql
        AS 'SELECT (503, NULL, NULL, NULL)::extensions.http_response';
    CREATE FUNCTION extensions.http_get(uri varchar) RETURNS extensions.http_response LANGUAGE sql
        AS 'SELECT extensions.http((''GET'', $1, NULL, NULL, NULL)::extensions.http_request)';
    CREATE FUNCTION extensions.http_get(uri varchar, data jsonb)
        RETURNS extensions.http_response LANGUAGE sql AS 'SELECT extensions.http_get($1)';
    CREATE FUNCTION extensions.http_head(uri varchar) RETURNS extensions.http_response LANGUAGE sql
        AS 'SELECT extensions.http_get($1)';
    CREATE FUNCTION extensions.http_delete(uri varchar)
        RETURNS extensions.http_response LANGUAGE sql AS 'SELECT extensions.http_get($1)';
    CREATE FUNCTION extensions.http_delete(uri varchar, content varchar, content_type varchar)
        RETURNS extensions.http_response LANGUAGE sql AS 'SELECT extensions.http_get($1)';
    CREATE FUNCTION extensions.http_post(uri varchar, data jsonb)
        RETURNS extensions.http_response LANGUAGE sql AS 'SELECT extensions.http_get($1)';
    CREATE FUNCTION extensions.http_post(uri varchar, content varchar, content_type varchar)
        RETURNS extensions.http_response LANGUAGE sql AS 'SELECT extensions.http_get($1)';
    CREATE FUNCTION extensions.http_put(uri varchar, content varchar, content_type varchar)
        RETURNS extensions.http_response LANGUAGE sql AS 'SELECT extensions.http_get($1)';
    CREATE FUNCTION extensions.http_patch(uri varchar, content varchar, content_type varchar)
        RETURNS extensions.http_response LANGUAGE sql AS 'SELECT extensions.http_get($1)';

    CREATE FUNCTION extensions.http_header(field varchar, value varchar)
        RETURNS extensions.http_header LANGUAGE sql
        AS 'SELECT ($1, $2)::extensions.http_header';
    CREATE FUNCTION extensions.http_headers(VARIADIC args text[])
        RETURNS extensions.http_header[] LANGUAGE sql AS $body$
            SELECT array_agg((args[i], args[i + 1])::extensions.http_header ORDER BY i)
            FROM generate_series(1, array_length(args, 1), 2) AS i
        $body$;
    CREATE FUNCTION extensions.http_set_curlopt(curlopt varchar, value varchar) RETURNS boolean
        LANGUAGE sql AS 'SELECT true';
    CREATE FUNCTION extensions.http_reset_curlopt() RETURNS boolean
        LANGUAGE sql AS 'SELECT true';

    CREATE FUNCTION extensions.urlencode(string bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT
        AS $body$
            SELECT coalesce(string_agg(
                CASE
                    WHEN chr(byte) ~ '[A-Za-z0-9_.~-]' AND byte < 128 THEN chr(byte)
                    WHEN byte = 32 THEN '+'
                    ELSE '%' || upper(lpad(to_hex(byte), 2, '0'))
                END, '' ORDER BY i
            ), '')
            FROM (
                SELECT i, get_byte($1, i) AS byte FROM generate_series(0, length($1) - 1) AS i
            ) AS bytes
        $body$;
    CREATE FUNCTION extensions.urlencode(string varchar) RETURNS text LANGUAGE sql IMMUTABLE STRICT
        AS 'SELECT extensions.urlencode(convert_to($1, ''utf8''))';
    CREATE FUNCTION extensions.urlencode(data jsonb) RETURNS text LANGUAGE sql IMMUTABLE STRICT
        AS $body$
            SELECT string_agg(
                extensions.urlencode(key::varchar) || '=' || extensions.urlencode(value::varchar), '&'
            )
            FROM jsonb_each_text($1)
        $body$;
EXCEPTION WHEN duplicate_function OR duplicate_object THEN
    NULL;  -- the project has made its own
END $$;
