-- The log of changes. Runs again and again. Callers have no right to its tables: the functions of
-- the triggers write it as its owner.
CREATE SCHEMA IF NOT EXISTS amphibase;
GRANT USAGE ON SCHEMA amphibase TO PUBLIC;

CREATE TABLE IF NOT EXISTS amphibase.changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    table_name text NOT NULL,
    operation text NOT NULL,
    key jsonb,
    old jsonb
);
CREATE INDEX IF NOT EXISTS ix_changes_transaction ON amphibase.changes (transaction, id);

-- The newest transaction of which an entry was deleted, and the one that deleted it last: whoever
-- sees that one saw all that it deleted. A transaction that is still to come here is one of another
-- server, from which this database was restored: no position here is before it.
CREATE TABLE IF NOT EXISTS amphibase.changes_trimmed (
    transaction xid8 NOT NULL,
    trimmed_by xid8 NOT NULL DEFAULT pg_current_xact_id()
);

CREATE OR REPLACE FUNCTION amphibase.log_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    old_row jsonb := CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN to_jsonb(OLD) END;
    new_row jsonb := CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN to_jsonb(NEW) END;
    old_key jsonb;
    new_key jsonb;
BEGIN
    SELECT jsonb_agg(old_row -> name ORDER BY place), jsonb_agg(new_row -> name ORDER BY place)
        INTO old_key, new_key
        FROM unnest(TG_ARGV[1:]) WITH ORDINALITY AS columns (name, place);
    IF TG_OP = 'UPDATE' AND old_key <> new_key THEN
        INSERT INTO amphibase.changes (table_name, operation, key, old)
            VALUES (TG_ARGV[0], 'DELETE', old_key, old_row), (TG_ARGV[0], 'INSERT', new_key, NULL);
    ELSE
        INSERT INTO amphibase.changes (table_name, operation, key, old) VALUES (
            TG_ARGV[0], TG_OP, CASE TG_OP WHEN 'DELETE' THEN old_key ELSE new_key END, old_row
        );
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION amphibase.log_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO amphibase.changes (table_name, operation) VALUES (TG_ARGV[0], 'TRUNCATE');
    RETURN NULL;
END $$;

-- What the functions below were in earlier versions.
DROP FUNCTION IF EXISTS amphibase.read_changes, amphibase.trim_changes;

-- The entries that one snapshot does not see and a later one does, and whether there may have been
-- more that were deleted: the first so many, whose earlier rows together have no more than so many
-- bytes, and at least one. `found` is how many there were before the bytes were counted. Without an
-- entry there is one row all the same, with the snapshot.
CREATE FUNCTION amphibase.read_changes(
    after_snapshot text, until_snapshot text, after_transaction text, after_id bigint, size integer,
    max_bytes bigint
) RETURNS TABLE (
    snapshot text, lost boolean, transaction text, id bigint, table_name text, operation text,
    key text, old text, found bigint
) LANGUAGE plpgsql STABLE SET search_path = '' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT position.current::text, position.lost, entry.transaction::text, entry.id,
        entry.table_name, entry.operation, entry.key::text, entry.old, entry.found
    FROM (
        SELECT given.after, given.current, coalesce(until_snapshot::pg_snapshot, given.current)
                AS until,
            EXISTS (
                    SELECT FROM amphibase.changes_trimmed AS t
                    WHERE t.transaction >= pg_snapshot_xmin(given.after)
                        AND t.trimmed_by < pg_snapshot_xmax(given.current)
                        AND NOT pg_visible_in_snapshot(t.trimmed_by, given.after)
                )
                OR coalesce(pg_snapshot_xmax(given.after) > pg_snapshot_xmax(given.current), false)
                AS lost
        FROM (
            SELECT after_snapshot::pg_snapshot AS after, pg_current_snapshot() AS current
        ) AS given
    ) AS position
    LEFT JOIN LATERAL (
        SELECT * FROM (
            SELECT next.*, row_number() OVER upto AS place, count(*) OVER () AS found,
                coalesce(sum(octet_length(next.old)) OVER upto, 0) AS bytes
            FROM (
                SELECT c.transaction, c.id, c.table_name, c.operation, c.key, c.old::text AS old
                FROM amphibase.changes AS c
                WHERE c.transaction >= pg_snapshot_xmin(position.after)
                    AND NOT pg_visible_in_snapshot(c.transaction, position.after)
                    AND pg_visible_in_snapshot(c.transaction, position.until)
                    AND (after_id IS NULL
                        OR (c.transaction, c.id) > (after_transaction::xid8, after_id))
                ORDER BY c.transaction, c.id LIMIT size
            ) AS next
            WINDOW upto AS (ORDER BY next.transaction, next.id ROWS UNBOUNDED PRECEDING)
        ) AS counted
        WHERE counted.place = 1 OR counted.bytes <= max_bytes
        ORDER BY counted.place
    ) AS entry ON NOT position.lost;
END $$;

-- Deletes what is older, or beyond so many entries, among the oldest ones, and returns how many; one
-- process at a time.
CREATE FUNCTION amphibase.trim_changes(hours double precision, entries bigint, size integer)
RETURNS bigint LANGUAGE sql SET search_path = '' AS $$
    WITH old AS (
        DELETE FROM amphibase.changes
        WHERE pg_try_advisory_xact_lock(hashtext('amphibase.changes')) AND id IN (
            SELECT oldest.id
            FROM (SELECT id, changed_at FROM amphibase.changes ORDER BY id LIMIT size) AS oldest
            WHERE oldest.changed_at < now() - make_interval(secs => hours * 3600)
                OR oldest.id <= (SELECT max(id) FROM amphibase.changes) - entries
        )
        RETURNING transaction
    ), before AS (
        DELETE FROM amphibase.changes_trimmed WHERE EXISTS (SELECT FROM old) RETURNING transaction
    ), newest AS (
        INSERT INTO amphibase.changes_trimmed (transaction)
        SELECT deleted.transaction
        FROM (SELECT * FROM old UNION ALL SELECT * FROM before) AS deleted
        WHERE deleted.transaction < pg_snapshot_xmax(pg_current_snapshot())
        ORDER BY deleted.transaction DESC LIMIT 1
    )
    SELECT count(*) FROM old
$$;

-- What the policies of a table say to the current user about reading a row. Postgres applies them
-- to stored rows alone, and an earlier version is not stored any more.
CREATE OR REPLACE FUNCTION amphibase.read_condition(of regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = '' AS $$
    SELECT CASE
        WHEN NOT has_any_column_privilege(of, 'SELECT') THEN 'false'
        WHEN NOT row_security_active(of) THEN 'true'
        ELSE concat_ws(' AND ', '(' || coalesce(
                string_agg('(' || condition || ')', ' OR ') FILTER (WHERE permissive), 'false'
            ) || ')', string_agg('(' || condition || ')', ' AND ') FILTER (WHERE NOT permissive))
    END
    FROM (
        SELECT polpermissive AS permissive,
            coalesce(pg_get_expr(polqual, polrelid), 'true') AS condition
        FROM pg_policy
        WHERE polrelid = of AND polcmd IN ('r', '*') AND EXISTS (
            SELECT FROM unnest(polroles) AS granted (role)
            WHERE CASE role WHEN 0 THEN true ELSE pg_has_role(role, 'USAGE') END
        )
    ) AS policies
$$;
