"""Auth hooks: functions of the project that Auth calls at set points, in Postgres or over HTTP.

https://supabase.com/docs/guides/auth/auth-hooks
"""
