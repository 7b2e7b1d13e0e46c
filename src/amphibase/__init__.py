"""One data backend for FastAPI, on your own SQL database or on Supabase."""
