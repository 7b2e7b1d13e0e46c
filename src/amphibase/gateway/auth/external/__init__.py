"""Sign-in through third parties over the protocol of Supabase Auth."""
