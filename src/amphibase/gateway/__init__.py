"""A local Supabase: its wire protocol, served on one's own Postgres."""
