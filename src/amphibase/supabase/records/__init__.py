"""The rows of a Supabase project, over its Data API."""
