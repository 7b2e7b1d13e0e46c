"""Sign-up, sign-in and users: the wire protocol of Supabase Auth."""
