"""The SQL backend: accounts, records and files in your own SQLite or Postgres."""
