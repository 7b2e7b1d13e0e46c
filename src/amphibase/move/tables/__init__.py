"""The rows of tables: from Postgres to Postgres as its own bytes, between others as text."""
