"""Postgres's logical replication: the stream of what is committed, and its decoder."""
