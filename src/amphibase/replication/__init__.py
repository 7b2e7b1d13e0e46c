"""What is committed to a Postgres: by logical replication, or else by triggers and an outbox."""
