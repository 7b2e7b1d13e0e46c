"""Buckets and objects: the wire protocol of Supabase Storage."""
