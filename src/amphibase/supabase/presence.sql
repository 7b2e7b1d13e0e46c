-- Presence, as the service alone calls it: callers see what the application shows them.

DROP FUNCTION IF EXISTS amphibase_put_presence, amphibase_remove_presences,
    amphibase_read_presences, amphibase_beat;

-- Whether there was room on the topic. A process is registered once, and lives on by its beats.
CREATE FUNCTION amphibase_put_presence(
    id text, topic text, process text, user_id text, payload text, most integer
) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    INSERT INTO amphibase.presence_processes (id, seen_at)
    VALUES (amphibase_put_presence.process, {now})
    ON CONFLICT DO NOTHING;

    -- Nobody else counts the topic's presences until this transaction has ended.
    SELECT pg_advisory_xact_lock(
        hashtext('amphibase.presences'), hashtext(amphibase_put_presence.topic)
    );

    WITH stored AS (
        INSERT INTO amphibase.presences AS present (
            id, topic, process, user_id, payload, joined_at
        )
        SELECT
            amphibase_put_presence.id, amphibase_put_presence.topic,
            amphibase_put_presence.process, amphibase_put_presence.user_id,
            amphibase_put_presence.payload, {now}
        WHERE (
            SELECT count(*) FROM amphibase.presences AS others
            WHERE others.topic = amphibase_put_presence.topic
                AND others.id <> amphibase_put_presence.id
        ) < amphibase_put_presence.most
        ON CONFLICT ON CONSTRAINT presences_pkey DO UPDATE SET payload = excluded.payload
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM stored)
$$;

CREATE FUNCTION amphibase_remove_presences(ids text[])
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    DELETE FROM amphibase.presences WHERE id = ANY(ids)
$$;

-- Those of living processes, the oldest first, as one JSON value: rows would be cut at the Data
-- API's limit.
CREATE FUNCTION amphibase_read_presences(topic text, lifetime double precision, ids text[])
RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT coalesce(jsonb_agg(present ORDER BY present.joined_at, present.id), '[]')
    FROM amphibase.presences AS present
    JOIN amphibase.presence_processes AS processes ON processes.id = present.process
    WHERE present.topic = amphibase_read_presences.topic
        AND (ids IS NULL OR present.id = ANY(ids))
        AND processes.seen_at > {now} - lifetime
$$;

CREATE FUNCTION amphibase_beat(process text, lifetime double precision)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    was_alive boolean;
BEGIN
    UPDATE amphibase.presence_processes SET seen_at = {now}
    WHERE id = process AND seen_at > {now} - lifetime;
    was_alive := FOUND;
    INSERT INTO amphibase.presence_processes (id, seen_at) VALUES (process, {now})
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at;
    DELETE FROM amphibase.presence_processes WHERE seen_at <= {now} - lifetime;
    DELETE FROM amphibase.presences AS present
    WHERE NOT EXISTS (SELECT FROM amphibase.presence_processes WHERE id = present.process);
    RETURN jsonb_build_object('was_alive', was_alive, 'alive', (
        SELECT jsonb_agg(id) FROM amphibase.presence_processes
    ));
END $$;

REVOKE ALL ON FUNCTION amphibase_put_presence, amphibase_remove_presences,
    amphibase_read_presences, amphibase_beat FROM PUBLIC, anon, authenticated;
GRANT EXECUTE ON FUNCTION amphibase_put_presence, amphibase_remove_presences,
    amphibase_read_presences, amphibase_beat TO service_role;
