"""Realtime: channels of messages, presence and changes over WebSockets, as Supabase Realtime."""
