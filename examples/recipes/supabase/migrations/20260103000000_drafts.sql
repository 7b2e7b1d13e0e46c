INSERT INTO storage.buckets (id, name) VALUES ('drafts', 'drafts');

CREATE POLICY "drafts of their owner" ON storage.objects FOR ALL TO authenticated
    USING (bucket_id = 'drafts' AND (storage.foldername(name))[1] = auth.uid()::text)
    WITH CHECK (bucket_id = 'drafts' AND (storage.foldername(name))[1] = auth.uid()::text);
