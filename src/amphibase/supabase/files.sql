-- Files: the buckets that are there from the start, who may do what, and what of a file Storage's API
-- does not say (https://supabase.com/docs/guides/storage/schema/design).

INSERT INTO storage.buckets (id, name) VALUES {buckets} ON CONFLICT DO NOTHING;

DROP POLICY IF EXISTS amphibase_buckets_select ON storage.buckets;
CREATE POLICY amphibase_buckets_select ON storage.buckets
FOR SELECT TO anon, authenticated USING (public{and_bucket});

DROP POLICY IF EXISTS amphibase_objects_select ON storage.objects;
CREATE POLICY amphibase_objects_select ON storage.objects
FOR SELECT TO anon, authenticated USING ((
    owner_id = (SELECT auth.uid())::text
    OR bucket_id IN (SELECT id FROM storage.buckets WHERE public)
){and_object});

DROP POLICY IF EXISTS amphibase_objects_insert ON storage.objects;
CREATE POLICY amphibase_objects_insert ON storage.objects
FOR INSERT TO authenticated WITH CHECK (owner_id = (SELECT auth.uid())::text{and_object});

DROP POLICY IF EXISTS amphibase_objects_update ON storage.objects;
CREATE POLICY amphibase_objects_update ON storage.objects
FOR UPDATE TO authenticated USING (owner_id = (SELECT auth.uid())::text{and_object})
WITH CHECK (owner_id = (SELECT auth.uid())::text{and_object});

DROP POLICY IF EXISTS amphibase_objects_delete ON storage.objects;
CREATE POLICY amphibase_objects_delete ON storage.objects
FOR DELETE TO authenticated USING (owner_id = (SELECT auth.uid())::text{and_object});

-- The files that the caller may read, in the order of their names, as one JSON array: rows would be
-- cut at the Data API's limit. It runs as the caller, so that the policies above hold.
CREATE OR REPLACE FUNCTION public.amphibase_files(
    bucket text, prefix text DEFAULT '', after text DEFAULT '', count integer DEFAULT 1
) RETURNS jsonb LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT coalesce(jsonb_agg(file), '[]')
    FROM (
        SELECT
            objects.id,
            objects.name AS key,
            objects.owner_id,
            coalesce((objects.metadata ->> 'size')::bigint, 0) AS size,
            coalesce(objects.metadata ->> 'mimetype', 'application/octet-stream') AS content_type,
            coalesce(objects.metadata ->> 'eTag', objects.version, objects.id::text) AS etag,
            objects.user_metadata ->> 'amphibase_upload' AS upload,
            coalesce(buckets.public, false) AS public,
            objects.created_at,
            objects.updated_at
        FROM storage.objects
        LEFT JOIN storage.buckets ON buckets.id = objects.bucket_id
        WHERE objects.bucket_id = amphibase_files.bucket
            AND objects.name COLLATE "C" > amphibase_files.after
            AND objects.name COLLATE "C" >= amphibase_files.prefix
            -- The tilde comes after every character that a name can have.
            AND objects.name COLLATE "C" < amphibase_files.prefix || '~'
        ORDER BY objects.name COLLATE "C"
        LIMIT least(amphibase_files.count, 1001)
    ) AS file
$$;

REVOKE ALL ON FUNCTION public.amphibase_files FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.amphibase_files TO anon, authenticated, service_role;
