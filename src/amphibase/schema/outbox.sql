-- Changes of the tables that Realtime publishes, for a server that offers no logical replication:
-- triggers write them to an outbox, which gateways read. It may be run again.
--
-- The triggers are there while a gateway reads: each renews the lease. What a gateway that was
-- killed has left behind writes nothing once that has ended, and the next one removes it.

-- Without a log: after a crash of the server, all who read begin anew.
CREATE UNLOGGED TABLE IF NOT EXISTS realtime.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    relation text NOT NULL,
    operation text NOT NULL,
    old text,
    new text
);
CREATE INDEX IF NOT EXISTS outbox_transaction_idx ON realtime.outbox (transaction);

-- Who reads it, and which transactions each has read.
CREATE UNLOGGED TABLE IF NOT EXISTS realtime.outbox_readers (
    id uuid PRIMARY KEY,
    position pg_snapshot NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Until when there is somebody who reads, in seconds since 1970. A sequence, since its value counts
-- at once for every transaction, also for one whose snapshot was taken before.
CREATE SEQUENCE IF NOT EXISTS realtime.outbox_lease MINVALUE 0;

ALTER TABLE realtime.outbox OWNER TO supabase_realtime_admin;
ALTER TABLE realtime.outbox_readers OWNER TO supabase_realtime_admin;
ALTER SEQUENCE realtime.outbox_lease OWNER TO supabase_realtime_admin;
REVOKE ALL ON realtime.outbox, realtime.outbox_readers
    FROM PUBLIC, anon, authenticated, service_role;
REVOKE ALL ON SEQUENCE realtime.outbox_lease FROM PUBLIC, anon, authenticated, service_role;

CREATE OR REPLACE FUNCTION realtime.outbox_is_read() RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(pg_sequence_last_value('realtime.outbox_lease'), 0)
        > extract(epoch FROM clock_timestamp())
$$;

-- Writes a change of a row down. Its values are texts as logical replication writes them, whatever
-- the settings of the session are.
--
-- Arguments: the relation, as JSON; and where the publication chooses rows, a query that says of
-- the old and of the new row whether it does.
CREATE OR REPLACE FUNCTION realtime.write_to_outbox() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET "TimeZone" = 'UTC'
SET "DateStyle" = 'ISO'
SET "IntervalStyle" = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
SET standard_conforming_strings = on  -- for the condition
AS $$
DECLARE
    operation text := TG_OP;
    has_old boolean := TG_OP <> 'INSERT';
    has_new boolean := TG_OP <> 'DELETE';
    is_published record;
BEGIN
    -- As `outbox_is_read`, which takes longer to call. Where somebody has dropped what it writes to,
    -- it is the reader that fails, and not the writer.
    IF coalesce(pg_sequence_last_value(to_regclass('realtime.outbox_lease')), 0)
        <= extract(epoch FROM clock_timestamp())
        OR to_regclass('realtime.outbox') IS NULL
    THEN
        RETURN NULL;
    END IF;
    IF TG_NARGS > 1 THEN
        BEGIN
            EXECUTE TG_ARGV[1] INTO is_published USING OLD, NEW;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'Realtime does not publish a change of %.%, because the condition of its '
                'publication fails: %', TG_TABLE_SCHEMA, TG_TABLE_NAME, SQLERRM;
            RETURN NULL;
        END;
        has_old := has_old AND coalesce(is_published.old, false);
        has_new := has_new AND coalesce(is_published.new, false);
        -- As logical replication does: a row that comes to be published is a new one.
        operation := CASE WHEN has_old AND has_new THEN 'UPDATE'
            WHEN has_new THEN 'INSERT' WHEN has_old THEN 'DELETE' END;
        IF operation IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    -- By the output function, since the owner of the table may have created a cast from its rows to
    -- text, which would run as the owner of this function.
    INSERT INTO realtime.outbox (relation, operation, old, new) VALUES (
        TG_ARGV[0], operation,
        CASE WHEN has_old THEN record_out(OLD)::text END,
        CASE WHEN has_new THEN record_out(NEW)::text END
    );
    RETURN NULL;
END $$;
ALTER FUNCTION realtime.write_to_outbox() OWNER TO supabase_realtime_admin;

-- Tables with what their triggers have to be, and whether they are. Of a partitioned table it is
-- the partitions that have them, whose columns may have another order. Where nobody reads, and where
-- a table is not published, the events are null: there is to be none.
--
-- Arguments: one of the tables; null for all.
--
-- The conditions are written, whatever the settings of the session are, as the trigger reads them:
-- a date in the order of another country would be another day.
CREATE OR REPLACE FUNCTION realtime.outbox_triggers(of regclass)
RETURNS TABLE (table_id regclass, events text, arguments text[], is_current boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET "TimeZone" = 'UTC'
SET "DateStyle" = 'ISO'
SET "IntervalStyle" = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
SET quote_all_identifiers = off
SET standard_conforming_strings = on
SET jit = off
AS $$
    -- Each part is planned alone: to plan all joins together takes ten times as long.
    WITH listed AS MATERIALIZED (
        SELECT * FROM pg_publication_tables
        WHERE pubname IN ('supabase_realtime', 'supabase_realtime_messages_publication')
            AND (SELECT realtime.outbox_is_read())
            AND (of IS NULL OR (schemaname, tablename) IN (
                SELECT n.nspname, c.relname
                FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE c.oid = of OR c.oid IN (SELECT relid FROM pg_partition_ancestors(of))
            ))
    ), named AS MATERIALIZED (
        SELECT p.*, c.oid
        FROM listed AS p
        JOIN pg_namespace AS n ON n.nspname = p.schemaname
        JOIN pg_class AS c ON c.relname = p.tablename AND c.relnamespace = n.oid
    ), published AS MATERIALIZED (
        SELECT DISTINCT ON (leaf.oid) leaf.oid, json_build_object(
            'oid', c.oid::bigint,
            'schema', c.schemaname,
            'table', c.tablename,
            'columns', (
                SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_attribute AS a
                WHERE a.attrelid = leaf.oid AND a.attnum > 0 AND NOT a.attisdropped
            ),
            -- Before Postgres 18, generated columns are named here, and not replicated.
            'published', (
                SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attname = ANY (c.attnames) AND (
                    a.attgenerated = '' OR current_setting('server_version_num')::int >= 180000
                )
            ),
            'identity', (
                SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]')
                FROM pg_index AS i
                JOIN pg_attribute AS a ON a.attrelid = leaf.oid
                    -- Without those that the index includes.
                    AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
                WHERE i.indrelid = leaf.oid
                    AND CASE leaf.relreplident
                        WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false
                    END
            ),
            'is_full', leaf.relreplident = 'f'
        )::text AS relation,
        (
            SELECT 'SELECT ' || string_agg(
                format('(SELECT (%s) FROM (SELECT ($%s).*) AS r) AS %I', c.rowfilter, place, name),
                ', ' ORDER BY place
            )
            FROM (VALUES (1, 'old'), (2, 'new')) AS v (place, name) WHERE c.rowfilter IS NOT NULL
        ) AS condition,
        concat_ws(' OR ',
            CASE WHEN b.pubinsert THEN 'INSERT' END,
            CASE WHEN b.pubupdate THEN 'UPDATE' END,
            CASE WHEN b.pubdelete THEN 'DELETE' END
        ) AS events
        FROM named AS c
        JOIN pg_publication AS b ON b.pubname = c.pubname
        CROSS JOIN LATERAL (
            SELECT t.relid FROM pg_partition_tree(c.oid) AS t WHERE t.isleaf UNION SELECT c.oid
        ) AS own (oid)
        JOIN pg_class AS leaf ON leaf.oid = own.oid AND leaf.relkind = 'r'
        WHERE of IS NULL OR leaf.oid = of
        ORDER BY leaf.oid, c.oid = leaf.oid
    ), wanted AS (
        SELECT oid, events, array_remove(ARRAY[relation, condition], NULL) AS arguments
        FROM published WHERE events <> ''
    ), present AS (
        SELECT tgrelid AS oid, tgname, tgtype, tgenabled, tgargs
        FROM pg_trigger WHERE tgfoid = 'realtime.write_to_outbox()'::regprocedure
            AND (of IS NULL OR tgrelid = of)
    )
    SELECT oid::regclass, wanted.events, wanted.arguments, coalesce(
        present.tgname = '000_realtime_outbox' AND present.tgenabled = 'A' AND present.tgargs = (
            SELECT string_agg(
                convert_to(argument, getdatabaseencoding()) || '\x00'::bytea, ''::bytea
                ORDER BY place
            )
            FROM unnest(wanted.arguments) WITH ORDINALITY AS a (argument, place)
        )
        -- In pg_trigger.h: 4 INSERT, 8 DELETE, 16 UPDATE.
        AND present.tgtype & 28 = CASE WHEN wanted.events ~ 'INSERT' THEN 4 ELSE 0 END
            + CASE WHEN wanted.events ~ 'DELETE' THEN 8 ELSE 0 END
            + CASE WHEN wanted.events ~ 'UPDATE' THEN 16 ELSE 0 END, false)
    FROM wanted FULL JOIN present USING (oid)
$$;

-- Makes the trigger of a table what it has to be. Its name lets it run before others: what they do
-- to rows comes later. It counts for every `session_replication_role`, as logical replication does.
-- Whoever writes to the table waits for it, and it for them, but not for long.
CREATE OR REPLACE FUNCTION realtime.update_outbox_trigger(of regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
SET session_replication_role = 'replica'  -- so that no event trigger runs
AS $$
DECLARE
    wanted record;
    unwanted name;
BEGIN
    SELECT t.events, t.arguments INTO wanted FROM realtime.outbox_triggers(of) AS t;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR unwanted IN  -- also those that the owner of the table has renamed
        SELECT tgname FROM pg_trigger
        WHERE tgrelid = of AND tgfoid = 'realtime.write_to_outbox()'::regprocedure
            AND (wanted.events IS NULL OR tgname <> '000_realtime_outbox')
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', unwanted, of);
    END LOOP;
    IF wanted.events IS NOT NULL THEN
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER "000_realtime_outbox" AFTER %s ON %s '
            'FOR EACH ROW EXECUTE FUNCTION realtime.write_to_outbox(%s)',
            wanted.events, of,
            (SELECT string_agg(quote_literal(a), ', ') FROM unnest(wanted.arguments) AS a)
        );
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER "000_realtime_outbox"', of);
    END IF;
END $$;

-- Updates the triggers of tables that a statement has altered or published, in its transaction: so
-- no row is written between that and the trigger.
CREATE OR REPLACE FUNCTION realtime.watch_published_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    outdated regclass;
BEGIN
    IF NOT realtime.outbox_is_read() THEN
        RETURN;
    END IF;
    FOR outdated IN SELECT table_id FROM realtime.outbox_triggers(NULL) WHERE NOT is_current LOOP
        BEGIN
            PERFORM realtime.update_outbox_trigger(outdated);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'Realtime misses changes of % for some seconds: %', outdated, SQLERRM;
        END;
    END LOOP;
EXCEPTION WHEN OTHERS THEN  -- the statement is none of its business
    RAISE WARNING 'Realtime may miss changes for some seconds: %', SQLERRM;
END $$;

REVOKE ALL ON FUNCTION
    realtime.outbox_is_read(), realtime.write_to_outbox(), realtime.outbox_triggers(regclass),
    realtime.update_outbox_trigger(regclass), realtime.watch_published_tables()
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    realtime.outbox_is_read(), realtime.outbox_triggers(regclass),
    realtime.update_outbox_trigger(regclass)
    TO supabase_realtime_admin;

-- All statements that may alter or publish a table, also by what they drop with something else.
DROP EVENT TRIGGER IF EXISTS realtime_watch_published_tables;
CREATE EVENT TRIGGER realtime_watch_published_tables ON ddl_command_end
    WHEN TAG IN (
        'CREATE PUBLICATION', 'ALTER PUBLICATION', 'DROP PUBLICATION', 'CREATE TABLE',
        'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE SCHEMA', 'ALTER SCHEMA',
        'ALTER TYPE', 'ALTER TRIGGER', 'DROP TRIGGER', 'DROP INDEX', 'DROP TYPE', 'DROP DOMAIN',
        'DROP FUNCTION', 'DROP ROUTINE', 'DROP SCHEMA', 'DROP EXTENSION', 'DROP OWNED'
    )
    EXECUTE FUNCTION realtime.watch_published_tables();
