-- Queues, where the server lacks pgmq: what migrations and the functions of `pgmq_public` call, with
-- the tables, names and parameters of its API (https://pgmq.github.io/pgmq/api/sql/functions/). No
-- partitions, groups or notifications.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgmq') THEN
        RETURN;
    END IF;
    CREATE SCHEMA IF NOT EXISTS pgmq;
    IF to_regclass('pgmq.meta') IS NULL AND NOT pg_temp.is_empty('pgmq') THEN
        RETURN;  -- the project's own
    END IF;
    CREATE TABLE IF NOT EXISTS pgmq.meta (
        queue_name varchar UNIQUE NOT NULL,
        is_partitioned boolean NOT NULL DEFAULT false,
        is_unlogged boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    PERFORM pg_temp.create_missing($create$
    CREATE TYPE pgmq.message_record AS (
        msg_id bigint, read_ct integer, enqueued_at timestamptz, vt timestamptz, message jsonb
    )
    $create$);
    PERFORM pg_temp.create_missing($create$
    CREATE TYPE pgmq.queue_record AS (
        queue_name varchar, is_partitioned boolean, is_unlogged boolean, created_at timestamptz
    )
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.create(queue_name text) RETURNS void LANGUAGE plpgsql AS $body$
    BEGIN
        IF length($1) > 47 THEN
            RAISE EXCEPTION 'queue name is too long, maximum length is 47 characters';
        END IF;
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS pgmq.%I (
                msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
                read_ct integer NOT NULL DEFAULT 0,
                enqueued_at timestamptz NOT NULL DEFAULT now(),
                vt timestamptz NOT NULL,
                message jsonb
            )', 'q_' || lower($1));
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS pgmq.%I (
                msg_id bigint PRIMARY KEY,
                read_ct integer NOT NULL DEFAULT 0,
                enqueued_at timestamptz NOT NULL DEFAULT now(),
                archived_at timestamptz NOT NULL DEFAULT now(),
                vt timestamptz NOT NULL,
                message jsonb
            )', 'a_' || lower($1));
        EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON pgmq.%I (vt)',
            'q_' || lower($1) || '_vt_idx', 'q_' || lower($1));
        INSERT INTO pgmq.meta (queue_name) VALUES ($1) ON CONFLICT DO NOTHING;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.drop_queue(queue_name text) RETURNS boolean LANGUAGE plpgsql AS $body$
    BEGIN
        EXECUTE format('DROP TABLE IF EXISTS pgmq.%I, pgmq.%I',
            'q_' || lower($1), 'a_' || lower($1));
        DELETE FROM pgmq.meta WHERE meta.queue_name = $1;
        RETURN FOUND;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.list_queues() RETURNS SETOF pgmq.queue_record LANGUAGE sql
        AS 'SELECT queue_name, is_partitioned, is_unlogged, created_at FROM pgmq.meta'
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.send_batch(queue_name text, msgs jsonb[], delay integer DEFAULT 0)
    RETURNS SETOF bigint LANGUAGE plpgsql AS $body$
    BEGIN
        RETURN QUERY EXECUTE format(
            'INSERT INTO pgmq.%I (vt, message)
            SELECT clock_timestamp() + make_interval(secs => $2), m FROM unnest($1) AS m
            RETURNING msg_id', 'q_' || lower($1)) USING $2, $3;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.send(queue_name text, msg jsonb, delay integer DEFAULT 0)
    RETURNS SETOF bigint LANGUAGE sql AS 'SELECT pgmq.send_batch($1, ARRAY[$2], $3)'
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.read(queue_name text, vt integer, qty integer, conditional jsonb)
    RETURNS SETOF pgmq.message_record LANGUAGE plpgsql AS $body$
    BEGIN
        RETURN QUERY EXECUTE format(
            'UPDATE pgmq.%1$I AS q
            SET vt = clock_timestamp() + make_interval(secs => $1), read_ct = q.read_ct + 1
            FROM (
                SELECT msg_id FROM pgmq.%1$I WHERE vt <= clock_timestamp()
                    AND ($3 = ''{}'' OR message @> $3)
                ORDER BY msg_id LIMIT $2 FOR UPDATE SKIP LOCKED
            ) AS due
            WHERE q.msg_id = due.msg_id
            RETURNING q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message', 'q_' || lower($1))
            USING $2, $3, $4;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.read(queue_name text, vt integer, qty integer)
    RETURNS SETOF pgmq.message_record LANGUAGE sql AS 'SELECT * FROM pgmq.read($1, $2, $3, ''{}'')'
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.detach_archive(queue_name text) RETURNS void LANGUAGE sql AS ''
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.pop(queue_name text) RETURNS SETOF pgmq.message_record
    LANGUAGE plpgsql AS $body$
    BEGIN
        RETURN QUERY EXECUTE format(
            'DELETE FROM pgmq.%1$I AS q WHERE q.msg_id = (
                SELECT msg_id FROM pgmq.%1$I WHERE vt <= clock_timestamp()
                ORDER BY msg_id LIMIT 1 FOR UPDATE SKIP LOCKED
            )
            RETURNING q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message', 'q_' || lower($1));
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.delete(queue_name text, msg_id bigint) RETURNS boolean
    LANGUAGE plpgsql AS $body$
    DECLARE
        gone bigint;
    BEGIN
        EXECUTE format('DELETE FROM pgmq.%I AS q WHERE q.msg_id = $1', 'q_' || lower($1)) USING $2;
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone > 0;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.archive(queue_name text, msg_id bigint) RETURNS boolean
    LANGUAGE plpgsql AS $body$
    DECLARE
        gone bigint;
    BEGIN
        EXECUTE format(
            'WITH gone AS (DELETE FROM pgmq.%I AS q WHERE q.msg_id = $1 RETURNING q.*)
            INSERT INTO pgmq.%I (msg_id, read_ct, enqueued_at, vt, message)
            SELECT msg_id, read_ct, enqueued_at, vt, message FROM gone',
            'q_' || lower($1), 'a_' || lower($1)) USING $2;
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone > 0;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.delete(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
    LANGUAGE sql AS 'SELECT id FROM unnest($2) AS id WHERE pgmq.delete($1, id)'
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.archive(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint
    LANGUAGE sql AS 'SELECT id FROM unnest($2) AS id WHERE pgmq.archive($1, id)'
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.set_vt(queue_name text, msg_id bigint, vt integer)
    RETURNS SETOF pgmq.message_record LANGUAGE plpgsql AS $body$
    BEGIN
        RETURN QUERY EXECUTE format(
            'UPDATE pgmq.%I AS q SET vt = clock_timestamp() + make_interval(secs => $2)
            WHERE q.msg_id = $1
            RETURNING q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message', 'q_' || lower($1))
            USING $2, $3;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.read_with_poll(
        queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5,
        poll_interval_ms integer DEFAULT 100
    ) RETURNS SETOF pgmq.message_record LANGUAGE plpgsql AS $body$
    DECLARE
        ends timestamptz := clock_timestamp() + make_interval(secs => $4);
    BEGIN
        LOOP
            RETURN QUERY SELECT * FROM pgmq.read($1, $2, $3);
            EXIT WHEN FOUND OR clock_timestamp() >= ends;
            PERFORM pg_sleep($5 / 1000.0);
        END LOOP;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.purge_queue(queue_name text) RETURNS bigint
    LANGUAGE plpgsql AS $body$
    DECLARE
        gone bigint;
    BEGIN
        EXECUTE format('DELETE FROM pgmq.%I', 'q_' || lower($1));
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE TYPE pgmq.metrics_result AS (
        queue_name text, queue_length bigint, newest_msg_age_sec integer,
        oldest_msg_age_sec integer, total_messages bigint, scrape_time timestamptz,
        queue_visible_length bigint
    )
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.metrics(queue_name text) RETURNS pgmq.metrics_result
    LANGUAGE plpgsql AS $body$
    DECLARE
        result pgmq.metrics_result;
        name text := format('pgmq.%I', 'q_' || lower($1));
    BEGIN
        EXECUTE format(
            'SELECT $1, count(*),
                extract(epoch FROM now() - max(enqueued_at))::integer,
                extract(epoch FROM now() - min(enqueued_at))::integer,
                coalesce(pg_sequence_last_value($2), 0), now(),
                count(*) FILTER (WHERE vt <= clock_timestamp())
            FROM %s', name)
            INTO result USING $1, pg_get_serial_sequence(name, 'msg_id')::regclass;
        RETURN result;
    END $body$
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.metrics_all() RETURNS SETOF pgmq.metrics_result
    LANGUAGE sql AS 'SELECT (pgmq.metrics(queue_name)).* FROM pgmq.meta'
    $create$);

    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.create_non_partitioned(queue_name text) RETURNS void
    LANGUAGE sql AS 'SELECT pgmq.create($1)'
    $create$);

    -- Its queue outlives a crash of the server as well.
    PERFORM pg_temp.create_missing($create$
    CREATE FUNCTION pgmq.create_unlogged(queue_name text) RETURNS void
    LANGUAGE sql AS 'SELECT pgmq.create($1)'
    $create$);
END $$;
