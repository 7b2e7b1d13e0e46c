-- What Realtime has in a project's database. It may be run again.

CREATE SCHEMA IF NOT EXISTS realtime;
GRANT USAGE ON SCHEMA realtime
    TO postgres, anon, authenticated, service_role, dashboard_user, supabase_realtime_admin;
GRANT ALL ON SCHEMA realtime TO supabase_realtime_admin;

CREATE TABLE IF NOT EXISTS realtime.schema_migrations (
    version bigint PRIMARY KEY, inserted_at timestamp(0)
);
CREATE TABLE IF NOT EXISTS realtime.subscription (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id uuid NOT NULL,
    entity regclass NOT NULL,
    filters text[] NOT NULL DEFAULT '{}',
    claims jsonb NOT NULL,
    created_at timestamp NOT NULL DEFAULT timezone('utc', now())
);

-- Its policies decide about private channels. Rows are messages of the database to a topic.
CREATE TABLE IF NOT EXISTS realtime.messages (
    topic text NOT NULL,
    extension text NOT NULL,
    payload jsonb,
    event text,
    private boolean DEFAULT false,
    updated_at timestamp NOT NULL DEFAULT now(),
    inserted_at timestamp NOT NULL DEFAULT now(),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    PRIMARY KEY (id, inserted_at)
) PARTITION BY RANGE (inserted_at);
ALTER TABLE realtime.messages ADD COLUMN IF NOT EXISTS binary_payload bytea;
CREATE TABLE IF NOT EXISTS realtime.messages_default PARTITION OF realtime.messages DEFAULT;
ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE realtime.messages_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE realtime.messages OWNER TO supabase_realtime_admin;
ALTER TABLE realtime.messages_default OWNER TO supabase_realtime_admin;
ALTER TABLE realtime.subscription OWNER TO supabase_realtime_admin;
ALTER TABLE realtime.schema_migrations OWNER TO supabase_realtime_admin;
GRANT SELECT, INSERT, UPDATE ON realtime.messages TO anon, authenticated, service_role;
GRANT ALL ON realtime.messages TO postgres, dashboard_user;

DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_publication WHERE pubname = 'supabase_realtime_messages_publication'
    ) THEN
        CREATE PUBLICATION supabase_realtime_messages_publication FOR TABLE realtime.messages
            WITH (publish = 'insert', publish_via_partition_root = true);
    END IF;
END $$;

-- The topic that is being read or written, for policies.
CREATE OR REPLACE FUNCTION realtime.topic() RETURNS text
    LANGUAGE sql STABLE
    AS $$ SELECT nullif(current_setting('realtime.topic', true), '') $$;

-- Sends a message to a topic, as the caller: a policy decides whether it may. That it may not is a
-- warning, so that the statement that sends it does not fail.
CREATE OR REPLACE FUNCTION realtime.send(
    payload jsonb, event text, topic text, private boolean DEFAULT true
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    message_id uuid := gen_random_uuid();
BEGIN
    PERFORM set_config('realtime.topic', topic, true);
    -- By the clock, so that the messages of one transaction keep their order.
    INSERT INTO realtime.messages (id, payload, event, topic, private, extension, inserted_at)
    VALUES (
        message_id,
        CASE
            WHEN jsonb_typeof(payload) = 'object' AND NOT payload ? 'id'
            THEN payload || jsonb_build_object('id', message_id)
            ELSE payload
        END,
        event, topic, private, 'broadcast', clock_timestamp()
    );
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'WarnSendingBroadcastMessage: %', SQLERRM;
END $$;

CREATE OR REPLACE FUNCTION realtime.send_binary(
    payload bytea, event text, topic text, private boolean DEFAULT true
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('realtime.topic', topic, true);
    INSERT INTO realtime.messages (binary_payload, event, topic, private, extension, inserted_at)
    VALUES (payload, event, topic, private, 'broadcast', clock_timestamp());
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'WarnSendingBroadcastMessage: %', SQLERRM;
END $$;

-- Sends the change of a row, from a trigger.
CREATE OR REPLACE FUNCTION realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text,
    new record, old record, level text DEFAULT 'ROW'
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF level = 'STATEMENT' THEN
        RAISE EXCEPTION 'function can only be triggered for each row, not for each statement';
    END IF;
    IF operation NOT IN ('INSERT', 'UPDATE', 'DELETE') THEN
        RAISE EXCEPTION 'Unexpected operation type: %', operation;
    END IF;
    PERFORM realtime.send(
        jsonb_build_object(
            'old_record', old, 'record', new, 'operation', operation,
            'table', table_name, 'schema', table_schema
        ),
        event_name, topic_name
    );
EXCEPTION WHEN OTHERS THEN
    RAISE EXCEPTION 'Failed to process the row: %', SQLERRM;
END $$;
