"""The Supabase backend: accounts, records and files of a Supabase project, over its API."""
